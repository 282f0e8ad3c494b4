// The heads to choose from, each with a small picture of where it looks; and all of them side by side.

import { keepFocus, make } from './elements.js';
import { paintThumbnail } from './matrix.js';

function thumbnail(head, stage) {
  const canvas = make('canvas', { 'aria-hidden': 'true' });
  paintThumbnail(canvas, head, stage);
  return canvas;
}

function choice(value, name, detail, chosen, picture) {
  const input = make('input', { type: 'radio', name: 'head', value });
  input.checked = chosen;
  const text = make(
    'span',
    { class: 'text' },
    make('span', { class: 'title' }, name),
    make('span', { class: 'detail' }, detail),
  );
  return make('label', { class: 'head' }, input, ...(picture ? [picture] : []), text);
}

// In a long input only the head that is looked at has been fetched.
export function showHeads(root, scene, heads, chosen) {
  const byNumber = new Map(heads.map((head) => [head.head, head]));
  const count = Math.max(scene.headCount, heads.length);
  const isNumber = /^\d+$/.test(chosen) && Number(chosen) < count;
  const entries = Array.from({ length: count }, (_, number) => {
    const head = byNumber.get(number);
    return choice(
      number,
      head?.name ?? `head ${number}`,
      head?.detail ?? '',
      isNumber && Number(chosen) === number,
      head && thumbnail(head, scene.stage),
    );
  });
  if (count > 1) {
    entries.push(
      choice('all', 'all heads', 'side by side', chosen === 'all'),
      choice('mean', 'mean', 'of all heads', chosen === 'mean'),
    );
  }
  keepFocus(root, () => root.replaceChildren(...entries));
}

// The layers of a stack.
export function showDepths(root, { layers }, chosen) {
  root.hidden = !layers;
  const choices = (layers ?? []).map((_, depth) => {
    const input = make('input', { type: 'radio', name: 'depth', value: depth });
    input.checked = depth === chosen;
    return make('label', {}, input, make('span', {}, `layer ${depth}`));
  });
  keepFocus(root, () => root.replaceChildren(make('legend', {}, 'Layer'), ...choices));
}

// The lit row in each of the small pictures; -1: none.
export function markRow(root, row, rows) {
  for (const mark of root.querySelectorAll('.mark')) {
    mark.hidden = row < 0;
    mark.style.top = `${(row / rows) * 100}%`;
    mark.style.height = `${100 / rows}%`;
  }
}

// -1: the pointer is on the name below the picture.
function rowAt({ currentTarget, clientY }, rows) {
  const { top, height } = currentTarget.querySelector('canvas').getBoundingClientRect();
  const row = Math.floor(((clientY - top) / height) * rows);
  return row < rows ? row : -1;
}

export function showMultiples(root, scene, heads, { onChoose, onLight }) {
  root.replaceChildren(
    ...heads.map((head) => {
      const button = make(
        'button',
        { type: 'button', class: 'multiple' },
        make('span', { class: 'looks' }, thumbnail(head, scene.stage), make('span', { class: 'mark' })),
        make('span', {}, head.name),
      );
      button.addEventListener('click', () => onChoose(String(head.head)));
      button.addEventListener('pointermove', (event) => onLight(rowAt(event, head.rows)));
      button.addEventListener('pointerleave', () => onLight(-1));
      return button;
    }),
  );
}
