// The map on two canvases: cells and labels are drawn once, what is lit lies over them. Above both is an ARIA grid with
// one tab stop, of which only the cell that has the focus exists.

import { digits, rowOf, sumOf } from './describe.js';
import { indexOf, inkOn, paintBitmap, rangeOf } from './colours.js';

const LABELLED = 48; // more rows get numbers at the edge instead of words
const MOST_CELL = 50;
const LEAST_TEXT = 7; // pixels: numbers that would be smaller are not offered
const FONT = '13px system-ui, sans-serif';

function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

export function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text;
  while (kept.length > 1 && context.measureText(`${kept}…`).width > width) kept = kept.slice(0, -1);
  return `${kept}…`;
}

export class Matrix {
  constructor(frame) {
    this.frame = frame;
    [this.base, this.over] = frame.querySelectorAll('canvas');
    this.bitmap = document.createElement('canvas');
    this.veil = document.createElement('canvas');
    this.lit = { row: -1, key: -1, locked: false };
  }

  get words() {
    return this.map.rows <= LABELLED && this.map.columns <= LABELLED;
  }

  show(scene, map, { numbers, colours }) {
    Object.assign(this, { scene, map, numbers, colours, range: rangeOf(map.values, scene.stage) });
    paintBitmap(this.bitmap, map.values, map.rows, map.columns, this.range);
    this.paintVeil();
    this.keepWhole(scene);
    this.measure();
    this.draw();
    this.light(this.lit);
  }

  // What dims rows, a pixel per cell. What may not be looked at is left out: dimmed, its grey is like a low score's blue.
  paintVeil() {
    const { map, veil } = this;
    veil.width = map.columns;
    veil.height = map.rows;
    const context = veil.getContext('2d');
    context.fillStyle = this.colours.veil;
    context.fillRect(0, 0, map.columns, map.rows);
    if (this.scene.stage !== 'biased') return;
    map.values.forEach((value, i) => {
      if (!Number.isFinite(value)) context.clearRect(i % map.columns, Math.floor(i / map.columns), 1, 1);
    });
  }

  // Where things stand, from the width that the page gives.
  measure() {
    const width = Math.min(this.frame.clientWidth, 720);
    const context = this.base.getContext('2d');
    context.font = FONT;
    const { rows, columns } = this.map;
    const longest = (count, name) =>
      Math.max(...Array.from({ length: count }, (_, i) => context.measureText(name(i)).width));
    const left = this.words ? Math.min(longest(rows, this.scene.rowLabel), 96) + 12 : 52;
    const above = this.words ? Math.min(longest(columns, this.scene.keyLabel), 96) : 0;
    const top = this.words ? above * 0.77 + 22 : 28;
    const right = this.words ? Math.max(this.sums ? 46 : 0, above * 0.64) : 8;
    const side = Math.max(80, width - left - right);
    const height = this.words ? Math.min(side, rows * MOST_CELL) : side;
    this.box = { left, top, width: this.words ? Math.min(side, columns * MOST_CELL) : side, height, above };
    this.cell = { width: this.box.width / columns, height: this.box.height / rows };
    this.size = { width: left + this.box.width + right, height: top + height + 6 };
    this.measureNumbers();
  }

  get sums() {
    const { stage, exact, view, keys } = this.scene;
    return stage === 'weights' && this.words && exact && view.keys === keys;
  }

  draw() {
    this.stretched = false;
    const context = prepare(this.base, this.size.width, this.size.height);
    this.glow = prepare(this.over, this.size.width, this.size.height);
    this.frame.style.height = `${this.size.height}px`;
    const { left, top, width, height } = this.box;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.bitmap, left, top, width, height);
    context.font = FONT;
    context.fillStyle = this.colours.ink;
    context.textBaseline = 'middle';
    if (!this.words) return this.drawTicks(context);
    this.drawGaps(context);
    this.drawLabels(context);
    if (this.numbers && this.hasRoom) this.drawNumbers(context);
  }

  drawGaps(context) {
    const { left, top, width, height } = this.box;
    if (Math.min(this.cell.width, this.cell.height) < 12) return;
    context.fillStyle = this.colours.paper;
    for (let row = 1; row < this.map.rows; ++row) context.fillRect(left, top + row * this.cell.height - 0.75, width, 1.5);
    for (let key = 1; key < this.map.columns; ++key) context.fillRect(left + key * this.cell.width - 0.75, top, 1.5, height);
  }

  drawLabels(context) {
    const { left, top, width, above } = this.box;
    context.fillStyle = this.colours.ink;
    for (let row = 0; row < this.map.rows; ++row) {
      const y = top + (row + 0.5) * this.cell.height;
      context.textAlign = 'right';
      context.fillText(shorten(context, this.scene.rowLabel(row), left - 12), left - 8, y);
      if (!this.sums) continue;
      context.textAlign = 'left';
      context.fillStyle = this.colours.soft;
      context.fillText(digits(sumOf(rowOf(this.map, row))), left + width + 10, y);
      context.fillStyle = this.colours.ink;
    }
    context.textAlign = 'left';
    for (let key = 0; key < this.map.columns; ++key) {
      context.save();
      context.translate(left + (key + 0.5) * this.cell.width, top - 8);
      context.rotate(-0.88);
      context.fillText(shorten(context, this.scene.keyLabel(key), above + 1), 0, 0);
      context.restore();
    }
  }

  drawTicks(context) {
    const { left, top, width, height } = this.box;
    const { view } = this.scene;
    context.fillStyle = this.colours.soft;
    for (let i = 0; i <= 4; ++i) {
      context.textAlign = 'right';
      context.fillText(
        String(Math.round(view.row + (view.rows * i) / 4)),
        left - 8,
        top + (height * i) / 4 + (i === 0 ? 6 : i === 4 ? -6 : 0),
      );
      context.textAlign = i === 0 ? 'left' : i === 4 ? 'right' : 'center';
      context.fillText(String(Math.round(view.key + (view.keys * i) / 4)), left + (width * i) / 4, top - 12);
    }
  }

  // Where four digits have no room two may do, but not among thousands of keys: there all would be 0.00.
  measureNumbers() {
    const ways = this.scene.digits === digits ? [digits, (value) => value.toFixed(2)] : [this.scene.digits];
    this.textSize = 0;
    for (const way of this.words ? ways : []) {
      if (this.hasRoom) return;
      this.texts = Array.from(this.map.values, (value) => (Number.isFinite(value) ? way(value) : '–∞'));
      this.textSize = Math.min(12, (1.45 * this.cell.width) / Math.max(...this.texts.map(({ length }) => length)));
    }
  }

  get hasRoom() {
    return this.textSize >= LEAST_TEXT;
  }

  drawNumbers(context) {
    context.textAlign = 'center';
    context.font = `${this.textSize}px system-ui, sans-serif`;
    this.map.values.forEach((value, i) => {
      const finite = Number.isFinite(value);
      context.fillStyle = finite ? inkOn(indexOf(value, this.range.low, this.range.high)) : this.colours.soft;
      const x = this.box.left + ((i % this.map.columns) + 0.5) * this.cell.width;
      const y = this.box.top + (Math.floor(i / this.map.columns) + 0.5) * this.cell.height;
      context.fillText(this.texts[i], x, y);
    });
  }

  // Dims all rows but one. Nothing here asks the page for sizes.
  light(lit) {
    this.lit = lit;
    const context = this.glow;
    context.clearRect(0, 0, this.size.width, this.size.height);
    if (lit.row < 0 || lit.row >= this.map.rows) return;
    const { left, top, width, height } = this.box;
    const y = top + lit.row * this.cell.height;
    const tall = Math.max(this.cell.height, 2);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.veil, left, top, width, height);
    context.clearRect(left, y, width, tall);
    context.lineWidth = lit.locked ? 3 : 2;
    context.strokeStyle = this.colours.accent;
    context.strokeRect(left - 1, y - 1, width + 2, tall + 2);
    if (lit.key < 0) return;
    const x = left + lit.key * this.cell.width;
    context.strokeStyle = this.colours.ink;
    context.lineWidth = 1.5;
    context.strokeRect(x, y, Math.max(this.cell.width, 2), tall);
  }

  // The whole of a long map stays, to be seen around a part while that is moved.
  keepWhole({ view, keys }) {
    if (view.keys < keys || view.row > 0) return;
    const bitmap = document.createElement('canvas');
    bitmap.width = this.bitmap.width;
    bitmap.height = this.bitmap.height;
    bitmap.getContext('2d').drawImage(this.bitmap, 0, 0);
    this.whole = { bitmap, view };
  }

  // What is there of another part, at once and blurred, until the server has answered.
  stretch(view) {
    const { view: shown } = this.scene;
    this.stretched = true;
    const context = this.base.getContext('2d');
    const { left, top, width, height } = this.box;
    this.light({ row: -1, key: -1 });
    context.fillStyle = this.colours.line;
    context.fillRect(left, top, width, height);
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    const x = width / view.keys;
    const y = height / view.rows;
    const put = (bitmap, part) =>
      context.drawImage(
        bitmap,
        left + (part.key - view.key) * x,
        top + (part.row - view.row) * y,
        part.keys * x,
        part.rows * y,
      );
    if (this.whole) put(this.whole.bitmap, this.whole.view);
    put(this.bitmap, shown);
    context.restore();
  }

  cellAt(x, y) {
    const row = Math.floor((y - this.box.top) / this.cell.height);
    const key = Math.floor((x - this.box.left) / this.cell.width);
    if (row < 0 || row >= this.map.rows || x < 0 || x > this.size.width) return { row: -1, key: -1 };
    return { row, key: key >= 0 && key < this.map.columns ? key : -1 };
  }
}

export function paintThumbnail(canvas, map, stage) {
  paintBitmap(canvas, map.values, map.rows, map.columns, rangeOf(map.values, stage));
}
