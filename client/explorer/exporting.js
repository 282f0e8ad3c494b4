// The map as a picture, a drawing and numbers.

import { cssColour, indexOf, paintBitmap, rangeOf } from './colours.js';

const CELL = 24;
const GUTTER = 110;
const MOST_CELLS = 128 * 128; // of a drawing; larger maps are a picture within it

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const labelled = (map) => map.values.length <= MOST_CELLS;

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
    return `<image width="${map.columns * CELL}" height="${map.rows * CELL}" style="image-rendering:pixelated" href="${picture(map, stage).toDataURL()}"/>`;
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

export function toSvg(scene, map) {
  const width = map.columns * CELL + 2 * GUTTER;
  const height = map.rows * CELL + GUTTER + CELL;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<title>${escape(`Headlight: ${map.name}, ${scene.stage}; rows attend to columns, brighter is more`)}</title>
<rect width="100%" height="100%" fill="#fff"/>
<g transform="translate(${GUTTER} ${GUTTER})" font-family="system-ui, sans-serif" font-size="13" fill="#1b2130">${cells(map, scene.stage)}${labels(scene, map)}</g>
</svg>
`;
}

// The same, drawn.
export async function toPng(scene, map) {
  const small = labelled(map);
  const canvas = small ? document.createElement('canvas') : picture(map, scene.stage);
  if (small) {
    const drawing = new Image();
    drawing.src = URL.createObjectURL(new Blob([toSvg(scene, map)], { type: 'image/svg+xml' }));
    await drawing.decode();
    URL.revokeObjectURL(drawing.src);
    const scale = Math.min(2, 4096 / Math.max(drawing.width, drawing.height));
    canvas.width = drawing.width * scale;
    canvas.height = drawing.height * scale;
    canvas.getContext('2d').drawImage(drawing, 0, 0, canvas.width, canvas.height);
  }
  return new Promise((done) => {
    canvas.toBlob(done, 'image/png');
  });
}
