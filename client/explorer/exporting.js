// The map as a picture, a drawing and numbers.

import { cssColour, indexOf, paintBitmap, rangeOf } from './colours.js';

const CELL = 24;
const GUTTER = 110;
const MOST_LABELLED = 128; // rows or keys of a drawing with cells and words; larger maps are a picture within it
const PICTURE = 1024; // the longer side of such a picture
const MOST_SIDE = 1600; // pixels of a drawing
const SCALE = { width: 200, height: 12 };
const STAGES = { scaled: 'scores', biased: 'masked scores', weights: 'weights' };

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const labelled = (map) => Math.max(map.rows, map.columns) <= MOST_LABELLED;
const cellOf = (map) => (labelled(map) ? CELL : PICTURE / Math.max(map.rows, map.columns));

export function toCsv(scene, map) {
  // A word that a spreadsheet would take for a formula is guarded, as such programs themselves do.
  const quote = (text) => `"${String(text).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const lines = [['', ...Array.from({ length: map.columns }, (_, key) => quote(scene.keyLabel(key)))].join(',')];
  for (let row = 0; row < map.rows; ++row) {
    lines.push([quote(scene.rowLabel(row)), ...map.values.subarray(row * map.columns, (row + 1) * map.columns)].join(','));
  }
  return `${lines.join('\n')}\n`;
}

function picture(map, stage) {
  const canvas = document.createElement('canvas');
  paintBitmap(canvas, map.values, map.rows, map.columns, rangeOf(map.values, stage));
  return canvas;
}

function cells(map, stage) {
  if (!labelled(map)) {
    const cell = cellOf(map);
    return `<image width="${map.columns * cell}" height="${map.rows * cell}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${picture(map, stage).toDataURL()}"/>`;
  }
  const { low, high } = rangeOf(map.values, stage);
  return Array.from(map.values, (value, i) => {
    const colour = Number.isFinite(value) ? cssColour(indexOf(value, low, high)) : '#ccc';
    return `<rect x="${(i % map.columns) * CELL}" y="${Math.floor(i / map.columns) * CELL}" width="${CELL - 1}" height="${CELL - 1}" fill="${colour}"/>`;
  }).join('');
}

function labels(scene, map) {
  if (!labelled(map)) return '';
  const rows = Array.from(
    { length: map.rows },
    (_, row) =>
      `<text x="-8" y="${(row + 0.5) * CELL}" text-anchor="end" dominant-baseline="central">${escape(scene.rowLabel(row))}</text>`,
  );
  const keys = Array.from(
    { length: map.columns },
    (_, key) => `<text transform="translate(${(key + 0.5) * CELL} -8) rotate(-50)">${escape(scene.keyLabel(key))}</text>`,
  );
  return [...rows, ...keys].join('');
}

// What the map is of, over the drawing: `name` says whose it is.
function heading({ stage, long, view }, name) {
  const last = (first, count) => `${first}–${first + count - 1}`;
  const part = long ? `; rows ${last(view.row, view.rows)}, keys ${last(view.key, view.keys)}` : '';
  return [`${name}: ${STAGES[stage]}`, `rows attend to columns, brighter is more${part}`];
}

// The colours from the least to the most, with the numbers at their ends.
function scale({ digits, stage }, map) {
  const { low, high, beyond } = rangeOf(map.values, stage);
  const stops = Array.from({ length: 18 }, (_, i) => `<stop offset="${i / 17}" stop-color="${cssColour(i * 15)}"/>`);
  const most = `${digits(high)}${beyond ? ' and more' : ''}`;
  return `<defs><linearGradient id="scale">${stops.join('')}</linearGradient></defs>
<text x="0" y="10">${escape(digits(low))}</text>
<rect x="60" width="${SCALE.width}" height="${SCALE.height}" fill="url(#scale)"/>
<text x="${SCALE.width + 70}" y="10">${escape(most)}</text>`;
}

const pen = document.createElement('canvas').getContext('2d');
function widthOf(text, font) {
  pen.font = `${font} system-ui, sans-serif`;
  return pen.measureText(text).width;
}

export function toSvg(scene, map, name) {
  const [title, words] = heading(scene, name);
  const cell = cellOf(map);
  // Title and scale stay readable where a large drawing is made smaller.
  const unit = Math.max(1, (Math.max(map.rows, map.columns) * cell) / PICTURE);
  const gutter = labelled(map) ? GUTTER : CELL;
  const room = 2 * CELL + Math.max(widthOf(title, '600 18px'), widthOf(words, '13px'));
  const width = Math.max(map.columns * cell + 2 * gutter, room * unit);
  const top = gutter + 56 * unit;
  const height = top + map.rows * cell + 44 * unit;
  const shrunk = Math.min(1, MOST_SIDE / Math.max(width, height));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${Math.round(width * shrunk)}" height="${Math.round(height * shrunk)}" viewBox="0 0 ${width} ${height}">
<title>${escape(`Headlight: ${title}; ${words}`)}</title>
<rect width="100%" height="100%" fill="#fff"/>
<g font-family="system-ui, sans-serif" font-size="13" fill="#1b2130">
<g transform="translate(${CELL} ${28 * unit}) scale(${unit})"><text font-size="18" font-weight="600">${escape(title)}</text><text y="20">${escape(words)}</text></g>
<g transform="translate(${gutter} ${top})">${cells(map, scene.stage)}${labels(scene, map)}</g>
<g transform="translate(${CELL} ${height - 28 * unit}) scale(${unit})">${scale(scene, map)}</g>
</g>
</svg>
`;
}

// The same, drawn.
export async function toPng(scene, map, name) {
  const drawing = new Image();
  drawing.src = URL.createObjectURL(new Blob([toSvg(scene, map, name)], { type: 'image/svg+xml' }));
  await drawing.decode();
  URL.revokeObjectURL(drawing.src);
  const canvas = document.createElement('canvas');
  canvas.width = drawing.width * 2;
  canvas.height = drawing.height * 2;
  canvas.getContext('2d').drawImage(drawing, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => {
    canvas.toBlob(done, 'image/png');
  });
}
