// The sentence as words to choose from, and as arcs from the chosen word.

import { digits, rowOf } from './describe.js';
import { make, svg } from './elements.js';

export const MOST_WORDS = 64;
const family = 'system-ui, sans-serif';

export class Strip {
  constructor(root, { onLight, onLock }) {
    Object.assign(this, { root, onLight, onLock, focused: 0 });
    const index = (event) => Number(event.target.closest('button')?.dataset.row ?? -1);
    root.addEventListener('pointerover', (event) => event.pointerType === 'mouse' && onLight(index(event)));
    root.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && onLight(-1));
    root.addEventListener('click', (event) => index(event) >= 0 && onLock(index(event)));
    root.addEventListener('focusin', (event) => this.focus(index(event)));
    root.addEventListener('keydown', (event) => this.press(event));
  }

  show(scene) {
    const count = scene.tokens && scene.view.rows <= MOST_WORDS ? scene.view.rows : 0;
    this.root.replaceChildren(
      ...Array.from({ length: count }, (_, row) =>
        make(
          'button',
          { type: 'button', 'data-row': row, tabindex: row ? -1 : 0, 'aria-pressed': 'false' },
          scene.rowLabel(row),
        ),
      ),
    );
    this.root.hidden = count === 0;
    this.focused = 0;
  }

  focus(row) {
    const buttons = this.root.children;
    if (row < 0 || !buttons[row]) return;
    buttons[this.focused].tabIndex = -1;
    buttons[row].tabIndex = 0;
    this.focused = row;
    if (buttons[row].matches(':focus-visible')) this.onLight(row, -1, true);
  }

  press(event) {
    const last = this.root.children.length - 1;
    const next = {
      ArrowLeft: this.focused - 1,
      ArrowUp: this.focused - 1,
      ArrowRight: this.focused + 1,
      ArrowDown: this.focused + 1,
      Home: 0,
      End: last,
    }[event.key];
    if (event.key === 'Escape') this.onLock(-1);
    if (next === undefined) return;
    event.preventDefault();
    this.root.children[Math.max(0, Math.min(last, next))].focus();
  }

  // Each word as strongly as the lit row attends to it.
  light(values, lit) {
    for (const [i, button] of [...this.root.children].entries()) {
      const weight = values && values[i] > 0 ? Math.min(values[i], 1) : 0;
      button.style.setProperty('--weight', `${Math.round(weight * 62)}%`);
      button.classList.toggle('lit', i === lit.row);
      button.setAttribute('aria-pressed', String(lit.locked && i === lit.row));
    }
  }
}

export class Arcs {
  constructor(root, { onLight, onLock }) {
    Object.assign(this, { root });
    const index = (event) => Number(event.target.closest?.('[data-row]')?.dataset.row ?? -1);
    root.addEventListener('pointerover', (event) => index(event) >= 0 && onLight(index(event)));
    root.addEventListener('click', (event) => index(event) >= 0 && onLock(index(event)));
    root.addEventListener('keydown', (event) => this.arcs && this.press(event, onLight, onLock));
    this.pen = document.createElement('canvas').getContext('2d');
  }

  press(event, onLight, onLock) {
    const last = this.map.rows - 1;
    const row = {
      ArrowLeft: this.row - 1,
      ArrowUp: this.row - 1,
      ArrowRight: this.row + 1,
      ArrowDown: this.row + 1,
      Home: 0,
      End: last,
    }[event.key];
    if (event.key === 'Escape') onLock(-1);
    else if (event.key === 'Enter' || event.key === ' ') onLock(this.row);
    else if (row === undefined) return;
    else onLight(Math.max(0, Math.min(last, row)), -1, true);
    event.preventDefault();
  }

  // Where the words stand; arcs are drawn by light().
  show(scene, map) {
    Object.assign(this, { scene, map });
    this.root.replaceChildren();
    const fits = map.rows <= MOST_WORDS && map.rows === map.columns;
    // What has no arcs has no use for keys, and is to be read.
    this.root.tabIndex = fits ? 0 : -1;
    this.root.setAttribute('role', fits ? 'application' : 'region');
    if (!fits) {
      this.root.append(make('p', { class: 'hint' }, `Arcs are drawn for up to ${MOST_WORDS} words that read each other.`));
      this.arcs = undefined;
      return;
    }
    const room = this.root.clientWidth;
    let x = this.place(17, 18);
    if (x > room) x = this.place(14, 10);
    const scale = Math.max(0.75, Math.min(1, room / x));
    this.height = Math.min(280, 70 + x / 3.2);
    this.arcs = svg('g', {});
    this.texts = this.places.map((place, row) => this.word(place, row));
    this.picture = svg('svg', {
      width: x * scale,
      height: (this.height + 66) * scale,
      viewBox: `0 0 ${x} ${this.height + 66}`,
      role: 'img',
      'aria-label': 'Arcs from the chosen word to the words it attends to',
    });
    this.picture.append(this.arcs, ...this.texts);
    this.root.append(this.picture);
  }

  // Returns how wide they are together.
  place(size, gap) {
    this.size = size;
    this.pen.font = `${size}px ${family}`;
    let x = gap / 2;
    this.places = Array.from({ length: this.map.rows }, (_, row) => {
      const { width } = this.pen.measureText(this.scene.rowLabel(row));
      x += width + gap;
      return { x: x - gap - width / 2, width };
    });
    return x;
  }

  word({ x, width }, row) {
    const group = svg('g', { 'data-row': row, class: 'word' });
    const text = svg('text', { x, y: this.height + 24, 'text-anchor': 'middle', 'font-size': this.size });
    text.textContent = this.scene.rowLabel(row);
    group.append(svg('rect', { x: x - width / 2 - 4, y: this.height + 2, width: width + 8, height: 32, rx: 6 }), text);
    return group;
  }

  light(lit) {
    if (!this.arcs) return;
    this.row = lit.row;
    this.arcs.replaceChildren();
    this.texts.forEach((text, row) => text.classList.toggle('lit', row === lit.row));
    if (lit.row < 0 || lit.row >= this.map.rows) return;
    const values = rowOf(this.map, lit.row);
    const finite = Array.from(values).filter(Number.isFinite);
    const [low, high] = this.scene.stage === 'weights' ? [0, 1] : [Math.min(...finite), Math.max(...finite)];
    values.forEach((value, key) => {
      const share = (value - low) / (high - low || 1);
      if (Number.isFinite(value) && share > 0.004) this.arcs.append(this.arc(lit.row, key, share, value));
    });
  }

  arc(row, key, share, value) {
    const from = this.places[row].x;
    const to = this.places[key].x;
    const y = this.height;
    const reach = row === key ? 30 : Math.min(y - 8, 26 + Math.abs(to - from) * 0.62);
    const spread = row === key ? 16 : 0;
    const path = svg('path', {
      d: `M ${from - spread / 2} ${y} C ${from - spread} ${y - reach * 1.25}, ${to + spread} ${y - reach * 1.25}, ${to + spread / 2} ${y}`,
    });
    path.setAttribute('stroke-width', (0.8 + 11 * share).toFixed(2));
    path.setAttribute('opacity', (0.25 + 0.75 * Math.sqrt(share)).toFixed(2));
    const group = svg('g', { class: 'arc' });
    group.append(path);
    if (share < 0.04) return group;
    const text = svg('text', { x: to, y: this.height + 54, 'text-anchor': 'middle' });
    text.textContent = digits(value);
    group.append(text);
    return group;
  }
}
