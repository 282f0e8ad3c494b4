// What heads read: turns the state into the part of a request that names tensors, tokens and weights.

import { call, checkSize } from './api.js';
import { hashedEmbeddings, shuffledOrder } from './seeds.js';
import { words } from './state.js';
import { makeTensor, permuteRows, shapeOf } from './tensors.js';

// What the server said of itself, asked once.
let known;
export async function askServer(signal) {
  if (known) return known;
  const [info, held] = await Promise.all([call('GetServerInfo', {}, signal), call('ListLayers', {}, signal)]);
  known = { info, layers: held.layers ?? [], stacks: held.stacks ?? [] };
  return known;
}

let demo;
export async function askDemo(signal) {
  demo ??= await call('GetDemo', {}, signal);
  return demo;
}

// Tensors from files: embeddings or query, key and value, and a table of learned positions.
export const files = {};
// Of files that could not be read: why.
export const faults = {};

const PROJECTED = { query: 'Q', key: 'K', value: 'V' };
const READ = ['embeddings', ...Object.keys(PROJECTED)];

// Embeddings and Q, K, V exclude each other: those that a choice of `name` leaves without use.
export function excludedBy(name) {
  const others = name === 'embeddings' ? Object.keys(PROJECTED) : name in PROJECTED ? ['embeddings'] : [];
  return others.filter((other) => files[other] || faults[other]);
}

const seeded = (state) => ({
  weights: { seededWeights: { seed: state.seed } },
  heads: state.heads,
  width: state.width,
});

function weightsOf(state, server) {
  const layer = server.layers.find(({ name }) => name === state.layer);
  if (!state.layer) return seeded(state);
  return {
    weights: { layer: state.layer },
    heads: layer?.queryHeads || state.heads,
    width: Number(layer?.width ?? state.width),
    asksHeads: layer && !layer.queryHeads,
  };
}

function fromEmbeddings(embeddings, tokens, weights, state) {
  const order = shuffledOrder(shapeOf(embeddings)[0], state.shuffle);
  return {
    ...weights,
    order,
    embeddings: state.shuffle ? permuteRows(embeddings, order) : embeddings,
    tokens: tokens && order.map((row) => tokens[row]),
    rows: order.length,
    keys: order.length,
  };
}

async function demoInput(state, signal) {
  const { layer, tokens, embeddings, headDescriptions } = await askDemo(signal);
  const weights = {
    weights: { layer },
    heads: headDescriptions.length,
    headNames: headDescriptions,
    width: shapeOf(embeddings)[1],
  };
  return fromEmbeddings(embeddings, tokens, weights, state);
}

function textInput(state, server) {
  const tokens = words(state.text);
  if (tokens.length === 0) throw new Error('Write a word or two first.');
  const weights = weightsOf(state, server);
  checkSize((tokens.length * weights.width * 16) / 3); // float32 in base64
  return fromEmbeddings(
    makeTensor([tokens.length, weights.width], hashedEmbeddings(tokens, weights.width)),
    tokens,
    weights,
    state,
  );
}

function longInput(state, server) {
  const weights = weightsOf(state, server);
  const seededEmbeddings = { seed: state.seed, tokens: String(state.tokens), width: String(weights.width) };
  return { ...weights, seededEmbeddings, rows: state.tokens, keys: state.tokens };
}

// [.., T, H x D] or [B, H, T, D]
const tokensOf = (tensor) => shapeOf(tensor).at(-2);

function fileInput(state, server) {
  const { embeddings, query, key, value } = files;
  const fault = READ.map((name) => faults[name]).find(Boolean);
  if (fault) throw new Error(fault);
  if (embeddings && shapeOf(embeddings).length === 2) {
    const weights = { ...weightsOf(state, server), width: shapeOf(embeddings)[1] };
    return fromEmbeddings(embeddings, undefined, weights, state);
  }
  if (embeddings)
    throw new Error(`The embeddings have the shape [${embeddings.shape.join(', ')}], expected [tokens, width].`);
  const missing = Object.keys(PROJECTED).filter((name) => !files[name]);
  if (missing.length === 3) throw new Error('Choose a file of embeddings, or one each for Q, K and V.');
  if (missing.length)
    throw new Error(`Q, K and V are read together: choose ${missing.map((name) => PROJECTED[name]).join(' and ')}, too.`);
  for (const [name, letter] of Object.entries(PROJECTED)) {
    const tensor = files[name];
    if (tensor.shape.length < 2)
      throw new Error(
        `${letter} has the shape [${tensor.shape.join(', ')}], expected [tokens, heads × size] or [batch, heads, tokens, size].`,
      );
  }
  const shape = shapeOf(query);
  return {
    queryKeyValue: { query, key, value },
    heads: shape.length === 4 ? shape[1] : state.heads,
    asksHeads: shape.length < 4,
    rows: tokensOf(query),
    keys: tokensOf(key),
  };
}

export async function inputOf(state, signal) {
  const server = await askServer(signal);
  if (state.source === 'text') return textInput(state, server);
  if (state.source === 'long') return longInput(state, server);
  if (state.source === 'file') return fileInput(state, server);
  return demoInput(state, signal);
}
