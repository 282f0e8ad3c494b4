// The part of a long map that is looked at: wheel, drag, two fingers, buttons. What is there is stretched at once; the
// server is asked when the hand rests.

import { byId } from './elements.js';

const LEAST = 16;
const PAUSE = 180; // milliseconds

// Where cells do not divide a side evenly, some hold one more than others.
const most = (size, cells) => Math.ceil(size / cells);

const bounded = (value, low, high) => Math.max(low, Math.min(high, value));

export class Zoom {
  constructor(frame, matrix, page, update) {
    Object.assign(this, { frame, matrix, page, update, fingers: new Map() });
    frame.addEventListener('wheel', (event) => this.turn(event), { passive: false });
    frame.addEventListener('pointerdown', (event) => this.down(event));
    frame.addEventListener('pointermove', (event) => this.move(event));
    for (const end of ['pointerup', 'pointercancel'])
      frame.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
    // A drag is no choice of a row.
    frame.addEventListener('click', (event) => this.dragged && event.stopImmediatePropagation(), true);
    for (const button of document.querySelectorAll('[data-zoom]'))
      button.addEventListener('click', () => this.press(button.dataset.zoom));
  }

  get active() {
    return this.page.scene?.long;
  }

  get isWhole() {
    return this.view.rows === this.page.scene.input.rows && this.view.keys === this.page.scene.input.keys;
  }

  show(scene) {
    byId('zoom').hidden = !scene.long;
    this.frame.classList.remove('zoomed');
    if (!scene.long) return;
    const { view, exact, byMean, stage } = scene;
    this.view = { ...view };
    this.frame.classList.toggle('zoomed', !this.isWhole);
    const { rows, columns } = scene.heads[0];
    const { head } = this.page.state;
    const whose = /^\d+$/.test(head) ? '' : ' of each head';
    const then = head === 'mean' && !byMean ? ', and of these the mean' : '';
    const what = stage === 'weights' ? 'weights' : 'scores';
    const even = view.rows % rows === 0 && view.keys % columns === 0;
    const count = `${even ? '' : 'up to '}${most(view.rows, rows) * most(view.keys, columns)}`;
    const cells = exact
      ? `exact ${what}`
      : `pooled to ${rows} × ${columns}, each cell the ${byMean ? 'mean' : 'largest'} of ${count} ${what}${whose}${then}`;
    byId('zoom-words').textContent =
      `rows ${view.row}–${view.row + view.rows - 1}, keys ${view.key}–${view.key + view.keys - 1}: ${cells}`;
  }

  press(what) {
    if (!this.active) return;
    if (what === 'whole') this.update({ zoom: '', row: -1 });
    else this.scale(what === 'in' ? 0.5 : 2, 0.5, 0.5);
  }

  // Shares of the box at which the event is.
  at(event) {
    const { left, top } = this.frame.getBoundingClientRect();
    const { box } = this.matrix;
    return {
      x: bounded((event.clientX - left - box.left) / box.width, 0, 1),
      y: bounded((event.clientY - top - box.top) / box.height, 0, 1),
    };
  }

  turn(event) {
    // Where there is nothing to zoom out of, the wheel is the page's.
    if (!this.active || (this.isWhole && event.deltaY > 0)) return;
    event.preventDefault();
    const { x, y } = this.at(event);
    this.scale(Math.exp(event.deltaY * 0.002), x, y);
  }

  down(event) {
    this.dragged = false;
    if (!this.active) return;
    this.fingers.set(event.pointerId, this.at(event));
  }

  move(event) {
    if (event.pointerType === 'mouse' && !event.buttons) this.fingers.delete(event.pointerId);
    const before = this.fingers.get(event.pointerId);
    if (!this.active || !before) return;
    const now = this.at(event);
    if (Math.hypot(now.x - before.x, now.y - before.y) < 0.004) return;
    this.dragged = true;
    const other = [...this.fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.fingers.set(event.pointerId, now);
    if (!other) return this.shift(before.x - now.x, before.y - now.y);
    const apart = (a) => Math.max(0.02, Math.hypot(a.x - other.x, a.y - other.y));
    return this.scale(apart(before) / apart(now), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  shift(x, y) {
    this.set({ ...this.view, key: this.view.key + x * this.view.keys, row: this.view.row + y * this.view.rows });
  }

  scale(factor, x, y) {
    const { view } = this;
    const rows = bounded(view.rows * factor, LEAST, this.page.scene.input.rows);
    const keys = bounded(view.keys * factor, LEAST, this.page.scene.input.keys);
    this.set({ row: view.row + (view.rows - rows) * y, rows, key: view.key + (view.keys - keys) * x, keys });
  }

  set(view) {
    const { rows, keys } = this.page.scene.input;
    view.row = bounded(view.row, 0, rows - view.rows);
    view.key = bounded(view.key, 0, keys - view.keys);
    this.view = view;
    if (!this.frame.hidden)
      this.asked ??= requestAnimationFrame(() => {
        this.asked = undefined;
        this.matrix.stretch(this.view);
      });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settle(), PAUSE);
  }

  settle() {
    const side = (first, count, all) => {
      const size = bounded(Math.round(count), LEAST, all);
      return [bounded(Math.round(first), 0, all - size), size];
    };
    const { rows, keys } = this.page.scene.input;
    const zoom = [...side(this.view.row, this.view.rows, rows), ...side(this.view.key, this.view.keys, keys)].join(',');
    const { view } = this.page.scene;
    if (zoom !== [view.row, view.rows, view.key, view.keys].join(',')) this.update({ zoom, row: -1 });
    else if (!this.frame.hidden) this.matrix.draw();
  }
}
