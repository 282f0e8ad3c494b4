// One sequential scale: brightness rises evenly from navy to yellow, and blue to yellow is what all kinds of colour
// blindness tell apart.

const ANCHORS = [
  [9, 22, 54],
  [17, 44, 92],
  [45, 67, 108],
  [76, 90, 112],
  [106, 113, 117],
  [139, 138, 114],
  [175, 164, 104],
  [213, 193, 88],
  [255, 228, 92],
];

function between(place) {
  const step = Math.min(Math.floor(place), ANCHORS.length - 2);
  return ANCHORS[step].map((from, i) => Math.round(from + (ANCHORS[step + 1][i] - from) * (place - step)));
}

export const TABLE = Array.from({ length: 256 }, (_, i) => between((i / 255) * (ANCHORS.length - 1)));

export const FORBIDDEN = [128, 128, 128, 60];

export function indexOf(value, low, high) {
  if (high <= low) return value >= high ? 255 : 0;
  return Math.max(0, Math.min(255, Math.round(((value - low) / (high - low)) * 255)));
}

export const cssColour = (index) => `rgb(${TABLE[index].join(' ')})`;
export const inkOn = (index) => (index > 140 ? '#10131a' : '#f4f5f7');

const CROWDED = 64 * 64;

// Weights are shown from 0 to 1 where one of them is large, else from 0 to the largest; scores from least to most.
export function rangeOf(values, stage) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (stage !== 'weights') return high < low ? { low: 0, high: 0 } : { low, high };
  if (high > 0.5 && values.length <= CROWDED) return { low: 0, high: 1 };
  const enough = values.length > CROWDED ? quantile(values, high) : high;
  return { low: 0, high: Math.max(enough, 0), beyond: enough < high };
}

// What all but one in 500 stay below: beside a few large weights the rest of a long map would be black.
function quantile(values, high) {
  const counts = new Uint32Array(1024);
  for (const value of values) ++counts[Math.min(1023, Math.floor((value / high) * 1024))];
  let bin = 1023;
  for (let left = values.length / 500; bin > 0 && left > counts[bin]; --bin) left -= counts[bin];
  return ((bin + 1) / 1024) * high;
}

// One pixel per cell.
export function paintBitmap(canvas, values, rows, columns, { low, high }) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext('2d');
  const image = context.createImageData(columns, rows);
  for (let i = 0; i < values.length; ++i) {
    const colour = Number.isFinite(values[i]) ? TABLE[indexOf(values[i], low, high)] : FORBIDDEN;
    image.data[4 * i] = colour[0];
    image.data[4 * i + 1] = colour[1];
    image.data[4 * i + 2] = colour[2];
    image.data[4 * i + 3] = colour[3] ?? 255;
  }
  context.putImageData(image, 0, 0);
}

export function paintLegend(canvas) {
  paintBitmap(canvas, Float32Array.from(TABLE.keys()), 1, TABLE.length, { low: 0, high: TABLE.length - 1 });
}
