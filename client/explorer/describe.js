// Rows of maps in words and sums.

export function rowOf(map, row) {
  return map.values.subarray(row * map.columns, (row + 1) * map.columns);
}

// Largest first, ties to the earlier key; what may not be looked at is left out.
export function topKeys(values, count) {
  return Array.from(values.keys())
    .filter((key) => Number.isFinite(values[key]))
    .sort((a, b) => values[b] - values[a] || a - b)
    .slice(0, count);
}

export function largestKey(values) {
  let best = -1;
  for (let key = 0; key < values.length; ++key) {
    if (Number.isFinite(values[key]) && (best < 0 || values[key] > values[best])) best = key;
  }
  return best;
}

export function sumOf(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

export function digits(value) {
  if (value === -Infinity) return 'may not';
  const size = Math.abs(value);
  const text = value.toFixed(size < 0.005 && size >= 0.00005 ? 4 : 2);
  return text === '-0.00' ? '0.00' : text;
}

// Among thousands of keys every weight is small.
export const fineDigits = (value) => (value > 0 && value < 0.095 ? String(Number(value.toPrecision(2))) : digits(value));

// Of what is small by its nature.
export const difference = (value) => (value === 0 ? 'exactly 0' : value < 0.005 ? value.toExponential(1) : value.toFixed(2));

export function largestDifference(a, b) {
  let largest = 0;
  for (let i = 0; i < a.length; ++i) if (a[i] !== b[i]) largest = Math.max(largest, Math.abs(a[i] - b[i]));
  return largest;
}

export function relativeL2(from, to) {
  let change = 0;
  let size = 0;
  for (let i = 0; i < from.length; ++i) {
    change += (to[i] - from[i]) ** 2;
    size += from[i] ** 2;
  }
  return Math.sqrt(change / size);
}

export const averaged = ({ head }) => (head === 'mean' ? ', on average over the heads' : '');

// "it attends most to because (0.80)". A row whose weights are all 0 sees no key.
export function sentence(scene, map, row) {
  const values = rowOf(map, row);
  const best = largestKey(values);
  const name = scene.rowLabel(row);
  if (best < 0 || (scene.stage === 'weights' && values[best] === 0))
    return { name, verb: 'may look at nothing', best: -1, text: `${name} may look at nothing` };
  const among = (scene.view.keys < scene.keys ? ' of the keys shown' : '') + averaged(map);
  const verb = scene.stage === 'weights' ? 'attends most to' : 'scores highest with';
  const key = scene.keyLabel(best);
  const value = scene.digits(values[best]);
  return { name, verb, best, key, value, among, text: `${name} ${verb} ${key} (${value})${among}` };
}

export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = Number(count);
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    ++unit;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

// A google.protobuf.Duration of the JSON mapping, "0.001234s".
export function time(duration) {
  const seconds = parseFloat(duration ?? '0');
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(2)} s`;
}
