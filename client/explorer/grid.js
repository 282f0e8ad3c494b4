// Pointer, touch and keys on the map, and what a screen reader is told of it (the ARIA grid pattern).

const MOVES = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  PageUp: [-10, 0],
  PageDown: [10, 0],
};

const bounded = (value, count) => Math.max(0, Math.min(count - 1, value));

export class Grid {
  // `onLight(row, key, byKeyboard)` and `onLock(row)`; a row of -1 is none.
  constructor(frame, matrix, { onLight, onLock }) {
    Object.assign(this, { frame, matrix, onLight, onLock });
    this.cell = { row: 0, key: 0 };
    [this.head, this.row] = frame.querySelectorAll('[role=row]');
    frame.addEventListener('pointerenter', () => {
      this.origin = frame.getBoundingClientRect();
    });
    window.addEventListener(
      'scroll',
      () => {
        this.origin = undefined;
      },
      { passive: true },
    );
    window.addEventListener('resize', () => {
      this.origin = undefined;
    });
    frame.addEventListener('pointermove', (event) => this.point(event));
    frame.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && this.leave());
    frame.addEventListener('click', (event) => this.click(event));
    frame.addEventListener('keydown', (event) => this.press(event));
    frame.addEventListener('focus', () => frame.matches(':focus-visible') && this.goTo(this.cell));
  }

  // The numbers changed: the focus stays where it was, as far as that is still there.
  show(scene, map) {
    Object.assign(this, { scene, map });
    this.cell = { row: bounded(this.cell.row, map.rows), key: bounded(this.cell.key, map.columns) };
    this.tell();
  }

  under(event) {
    this.origin ??= this.frame.getBoundingClientRect();
    return this.matrix.cellAt(event.clientX - this.origin.left, event.clientY - this.origin.top);
  }

  // At most once a frame, however often the pointer moves.
  point(event) {
    this.pointed = this.under(event);
    this.frameAsked ??= requestAnimationFrame(() => {
      this.frameAsked = undefined;
      this.onLight(this.pointed.row, this.pointed.key);
    });
  }

  // What a frame was asked for is past.
  leave() {
    this.pointed = { row: -1, key: -1 };
    this.onLight(-1, -1);
  }

  click(event) {
    const { row, key } = this.under(event);
    if (row < 0) return;
    this.cell = { row, key: Math.max(key, 0) };
    this.onLock(row);
  }

  press(event) {
    const { rows, columns } = this.map;
    const move = MOVES[event.key];
    let { row, key } = this.cell;
    if (move) [row, key] = [row + move[0], key + move[1]];
    else if (event.key === 'Home') [row, key] = [event.ctrlKey ? 0 : row, 0];
    else if (event.key === 'End') [row, key] = [event.ctrlKey ? rows - 1 : row, columns - 1];
    else if (event.key === 'Enter' || event.key === ' ') this.onLock(row);
    else if (event.key === 'Escape') this.onLock(-1);
    else return;
    event.preventDefault();
    this.goTo({ row: bounded(row, rows), key: bounded(key, columns) });
  }

  goTo(cell) {
    this.cell = cell;
    this.tell();
    this.onLight(this.cell.row, this.cell.key, true);
  }

  // Only the headers and the cell of what has the focus are elements; the counts say how many there are.
  tell() {
    const { scene, map } = this;
    const { row, key } = this.cell;
    this.frame.setAttribute('aria-rowcount', map.rows + 1);
    this.frame.setAttribute('aria-colcount', map.columns + 1);
    const [above] = this.head.children;
    above.setAttribute('aria-colindex', key + 2);
    above.textContent = scene.keyLabel(key);
    this.row.setAttribute('aria-rowindex', row + 2);
    // Else its name would be that of its cell and its header run together.
    this.row.setAttribute('aria-label', scene.rowLabel(row));
    const [header, cell] = this.row.children;
    header.textContent = scene.rowLabel(row);
    cell.setAttribute('aria-colindex', key + 2);
    cell.textContent = scene.digits(map.values[row * map.columns + key]);
    cell.setAttribute('aria-label', `${scene.rowLabel(row)} to ${scene.keyLabel(key)}: ${cell.textContent}`);
  }
}
