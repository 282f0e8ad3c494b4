// One picture's numbers, as the server answered them.

import { call } from './api.js';
import { digits, fineDigits } from './describe.js';
import { inputOf } from './inputs.js';
import { attendRequest, isLong, mapsOf, traceRequest, viewOf } from './requests.js';
import { floatsOf, shapeOf } from './tensors.js';

const FEW = 64;

// Of a seeded or loaded tensor words are numbers.
const label = (tokens) => (i) => tokens?.[i] ?? `t${i}`;

function mapOf(answered) {
  const [rows, columns] = shapeOf(answered.weights);
  return { head: answered.head ?? 0, rows, columns, values: floatsOf(answered.weights) };
}

function habit(statistics) {
  if (!statistics) return '';
  const { shareOnPrevious = 0, shareOnSame = 0, shareOnFirst = 0, meanLargestWeight = 0 } = statistics;
  const shares = [
    ['the word before', shareOnPrevious],
    ['the word itself', shareOnSame],
    ['the first word', shareOnFirst],
  ];
  const [where, share] = shares.reduce((best, next) => (next[1] > best[1] ? next : best));
  return share >= 0.5 ? `${share.toFixed(2)} on ${where}` : `largest weight ${meanLargestWeight.toFixed(2)} on average`;
}

function headsOf(maps, statistics, names) {
  return maps.map((answered, i) => {
    const map = mapOf(answered);
    return { ...map, name: names?.[map.head] ?? `head ${map.head}`, detail: habit(statistics?.[i]) };
  });
}

async function attendScene(state, signal) {
  const input = await inputOf(state, signal);
  const long = isLong(state, input);
  const outputs = { omitOutput: true, maps: [mapsOf(state, input)], ...(long ? {} : { headStatistics: true }) };
  const request = attendRequest(state, input, outputs);
  const answer = await call('Attend', request, signal);
  const view = viewOf(state, input.rows, input.keys);
  const heads = headsOf(answer.maps, answer.headStatistics, input.headNames);
  return {
    method: 'Attend',
    request,
    input,
    view,
    long,
    heads,
    stage: state.stage,
    execution: answer.execution,
    headCount: input.heads,
    tokens: input.tokens,
    keys: input.keys,
    byMean: outputs.maps[0].pooled?.reducer === 'POOL_REDUCER_MEAN',
    exact: heads[0].rows === view.rows && heads[0].columns === view.keys,
  };
}

// All layers come at once: which of them is shown is the page's choice.
async function traceScene(state, signal) {
  const request = traceRequest(state);
  const trace = await call('TraceStack', request, signal);
  const size = trace.tokens?.length ?? trace.tokenIds.length;
  const layers = trace.layers.map((layer) => headsOf(layer.maps, layer.headStatistics));
  return {
    method: 'TraceStack',
    request,
    trace,
    layers,
    heads: layers[0],
    stage: 'weights',
    tokens: trace.tokens ?? trace.tokenIds,
    view: { row: 0, rows: size, key: 0, keys: size },
    keys: size,
    exact: true,
    headCount: layers[0].length,
  };
}

export async function askScene(state, signal) {
  const scene = state.source === 'stack' ? await traceScene(state, signal) : await attendScene(state, signal);
  const { view, heads } = scene;
  const place = (first, of, cells, name) => (cell) => {
    const begin = first + Math.floor((cell * of) / cells);
    const end = first + Math.floor(((cell + 1) * of) / cells);
    return end - begin > 1 ? `${name(begin)}–${name(end - 1)}` : name(begin);
  };
  const name = label(scene.tokens);
  // The first token of a row of cells, and the token's name.
  scene.tokenOf = (cell) => view.row + Math.floor((cell * view.rows) / heads[0].rows);
  scene.tokenLabel = name;
  scene.rowLabel = place(view.row, view.rows, heads[0].rows, name);
  scene.keyLabel = place(view.key, view.keys, heads[0].columns, scene.input?.queryKeyValue ? label() : name);
  scene.digits = scene.stage === 'weights' && scene.keys > FEW ? fineDigits : digits;
  scene.wholeKeyLabel = scene.input?.queryKeyValue ? label() : name;
  return scene;
}

function meanOf(heads) {
  const values = new Float32Array(heads[0].values.length);
  for (const head of heads) for (let i = 0; i < values.length; ++i) values[i] += head.values[i] / heads.length;
  return { ...heads[0], head: 'mean', name: 'mean of all heads', detail: '', values };
}

// The heads that are to choose from, and the one that is shown.
export function shownHeads(scene, state) {
  return scene.layers ? scene.layers[Math.max(0, Math.min(state.depth, scene.layers.length - 1))] : scene.heads;
}

const means = new WeakMap();
export function shownMap(scene, state) {
  const heads = shownHeads(scene, state);
  if (!/^\d+$/.test(state.head)) {
    if (!means.has(heads)) means.set(heads, meanOf(heads));
    return means.get(heads);
  }
  return heads.find(({ head }) => head === Number(state.head)) ?? heads[0];
}
