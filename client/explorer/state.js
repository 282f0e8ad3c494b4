// What the page shows. All of it stands in the address's fragment, so that a link restores it.

export const DEFAULTS = Object.freeze({
  source: 'demo', // demo, stack, text, long, file
  text: 'the dog saw the bird and the bird saw the dog',
  stackText: 'Mr and Mrs Potter thanked the driver ; then Mrs',
  stack: 'induction',
  depth: -1, // layer of the stack; -1: where the bet is made
  layer: '', // none: seeded weights
  heads: 4,
  width: 64,
  seed: '1', // a uint64 in decimal: a number would lose digits beyond 2^53
  tokens: 16384,
  head: '0', // a number, mean or all
  row: -1, // locked; -1: none
  stage: 'weights', // scaled, biased, weights
  view: 'matrix', // matrix, words
  numbers: false,
  position: 'none',
  shift: 0,
  shuffle: 0,
  causal: false,
  window: '', // words on each side; none: unbounded
  off: '', // heads: 0,2 or in a stack 0:1,1:3
  target: '', // of a stack: the word whose logit is attributed
  aim: 1, // with cargo 2 a pair that differs in the trained layers
  cargo: 2,
  lengths: 256, // up to which naive and flash are compared
  zoom: '', // first row, rows, first key, keys
  open: '', // experiments that are unfolded
});

// What begins anew with another source.
const FRESH = ['row', 'zoom', 'head', 'depth', 'off', 'shuffle', 'shift', 'stage', 'target'];
export const fresh = () => Object.fromEntries(FRESH.map((name) => [name, DEFAULTS[name]]));

const CHOICES = {
  source: ['demo', 'stack', 'text', 'long', 'file'],
  stage: ['scaled', 'biased', 'weights'],
  view: ['matrix', 'words'],
  position: ['none', 'sinusoidal', 'learned', 'rotary', 'alibi'],
};
export const isSeed = (text) => /^(0|[1-9]\d{0,19})$/.test(text) && BigInt(text) < 2n ** 64n;
const FORMS = { head: /^(\d+|mean|all)$/, window: /^(0|[1-9]\d{0,8})?$/, seed: { test: isSeed } };

// Of more heads a page can hold no list.
const MOST = { heads: 65536 };

// Numbers are whole, and none is below 0 but where that means none.
function parseNumber(text, like, most = Number.MAX_SAFE_INTEGER) {
  const number = Number(text);
  return text.trim() !== '' && Number.isSafeInteger(number) && number >= Math.min(like, 0) && number <= most ? number : like;
}

function parse(name, text) {
  const like = DEFAULTS[name];
  if (Object.hasOwn(CHOICES, name)) return CHOICES[name].includes(text) ? text : like;
  if (Object.hasOwn(FORMS, name)) return FORMS[name].test(text) ? text : like;
  if (typeof like === 'boolean') return text === '1';
  return typeof like === 'number' ? parseNumber(text, like, MOST[name]) : text;
}

export function fromFragment(fragment) {
  const state = { ...DEFAULTS };
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ''))) {
    if (Object.hasOwn(DEFAULTS, name)) state[name] = parse(name, text);
  }
  return state;
}

// A fragment of another making says nothing of the page's state; an empty one is the first picture's.
export const isLink = (fragment) =>
  fragment === '' || [...new URLSearchParams(fragment.slice(1)).keys()].some((name) => Object.hasOwn(DEFAULTS, name));

export function toFragment(state) {
  const parts = new URLSearchParams();
  for (const name of Object.keys(DEFAULTS)) {
    if (state[name] === DEFAULTS[name]) continue;
    parts.set(name, typeof state[name] === 'boolean' ? (state[name] ? '1' : '0') : String(state[name]));
  }
  const text = parts.toString();
  return text ? `#${text}` : '';
}

// Fields that change how things are drawn, but not what is asked of the server.
const DRAWING = ['row', 'view', 'numbers', 'open', 'aim', 'cargo', 'lengths'];
// Of a long input only what is looked at is here.
export function asksAnew(before, after, long) {
  const drawing = long ? DRAWING : [...DRAWING, 'head', 'zoom', ...(after.source === 'stack' ? ['depth'] : [])];
  return Object.keys(DEFAULTS).some((name) => before[name] !== after[name] && !drawing.includes(name));
}

export const offHeads = (state) => state.off.split(',').filter(Boolean);
export const words = (text) => text.trim().split(/\s+/).filter(Boolean);
