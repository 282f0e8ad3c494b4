// Requests of the contract, from the state and what heads read.

import { faults, files } from './inputs.js';
import { offHeads, words } from './state.js';

export const STAGES = { scaled: 'MAP_STAGE_SCALED', biased: 'MAP_STAGE_BIASED', weights: 'MAP_STAGE_WEIGHTS' };
// The widest side that is fetched cell by cell; what is longer is pooled.
export const MAX_SIDE = 512;
const POOLED_ALL = 256;

const layout = 'CHANNEL_LAYOUT_INTERLEAVED';
const SCHEMES = {
  none: () => ({ none: {} }),
  sinusoidal: () => ({ sinusoidal: { layout } }),
  learned: () => ({ learned: { table: files.table } }),
  rotary: () => ({ rotary: { layout } }),
  alibi: () => ({ alibi: {} }),
};

function position(state) {
  if (state.position === 'learned' && !files.table)
    throw new Error(
      faults.table ?? 'Learned positions need a table: choose a .npy file of shape [positions, width].',
    );
  const scheme = SCHEMES[state.position]();
  return state.shift ? { ...scheme, queryOffset: String(state.shift), keyOffset: String(state.shift) } : scheme;
}

function mask(state) {
  const rules = {};
  if (state.causal) rules.causal = { alignment: 'CAUSAL_ALIGNMENT_TOP_LEFT' };
  if (state.window !== '') rules.window = { left: String(state.window), right: String(state.window) };
  return Object.keys(rules).length ? rules : undefined;
}

export function options(state, input) {
  const rules = mask(state);
  return {
    ...(input.asksHeads || input.weights?.seededWeights ? { queryHeads: input.heads } : {}),
    position: position(state),
    ...(rules ? { mask: rules } : {}),
  };
}

export function problem(input) {
  if (input.queryKeyValue) return { queryKeyValue: input.queryKeyValue };
  const source = input.embeddings ? { embeddings: input.embeddings } : { seededEmbeddings: input.seededEmbeddings };
  return { selfAttention: { ...source, ...input.weights } };
}

export function gains(state, input) {
  const off = offHeads(state)
    .map(Number)
    .filter((head) => head < input.heads);
  return off.length ? { headGains: Array.from({ length: input.heads }, (_, head) => (off.includes(head) ? 0 : 1)) } : {};
}

// Then heads come one by one, and one can zoom.
export const isLong = (state, { rows, keys }) => state.source === 'long' || Math.max(rows, keys) > MAX_SIDE;

// The part of the map that is looked at: first row, rows, first key, keys.
export function viewOf(state, rows, keys) {
  const given = state.zoom.split(',').map(Number);
  const whole = { row: 0, rows, key: 0, keys };
  if (!isLong(state, { rows, keys })) return whole;
  if (given.length !== 4 || given.some((n) => !Number.isInteger(n) || n < 0)) return whole;
  const [row, height, key, width] = given;
  if (height < 1 || width < 1 || row + height > rows || key + width > keys) return whole;
  return { row, rows: height, key, keys: width };
}

export function mapsOf(state, input) {
  const view = viewOf(state, input.rows, input.keys);
  const exact = view.rows <= MAX_SIDE && view.keys <= MAX_SIDE;
  const one = isLong(state, input) && /^\d+$/.test(state.head) && Number(state.head) < input.heads;
  const side = one ? MAX_SIDE : POOLED_ALL;
  // Of all heads the page tells the mean, and a mean of largest values would be nobody's largest. But where one score is
  // masked the mean of a cell is -∞.
  const reducer = one || state.stage === 'biased' ? 'POOL_REDUCER_MAX' : 'POOL_REDUCER_MEAN';
  const pooled = { rows: Math.min(side, view.rows), columns: Math.min(side, view.keys), reducer };
  return {
    heads: one ? [Number(state.head)] : [],
    rows: [{ begin: String(view.row), end: String(view.row + view.rows) }],
    keys: { begin: String(view.key), end: String(view.key + view.keys) },
    ...(exact ? { full: {} } : { pooled }),
    stage: STAGES[state.stage],
  };
}

export function attendRequest(state, input, outputs) {
  return {
    ...problem(input),
    options: { ...options(state, input), ...gains(state, input) },
    outputs,
    ...(input.tokens ? { tokens: input.tokens } : {}),
  };
}

export function traceRequest(state) {
  const off = offHeads(state).map((pair) => {
    const [layer, head] = pair.split(':').map(Number);
    return { layer, head };
  });
  return {
    stack: state.stack,
    tokens: words(state.stackText),
    ...(off.length ? { off } : {}),
    ...(state.target ? { target: state.target } : {}),
    maps: true,
  };
}
