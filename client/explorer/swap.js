// Where a head looks and what it carries are two circuits. Here one head aims and another's cargo is carried.

import { call } from './api.js';
import { difference, largestDifference, relativeL2 } from './describe.js';
import { make } from './elements.js';
import { paintThumbnail } from './matrix.js';
import { attendRequest, options } from './requests.js';
import { floatsOf, shapeOf } from './tensors.js';

function chooser(name, label, heads, chosen, update) {
  const select = make('select', {}, ...heads.map((head) => make('option', { value: head.head }, head.name)));
  select.value = chosen;
  select.addEventListener('change', () => update({ [name]: Number(select.value) }));
  return make('label', {}, label, select);
}

function picture(tensor, text) {
  const [rows, columns] = shapeOf(tensor);
  const canvas = make('canvas', { 'aria-hidden': 'true' });
  paintThumbnail(canvas, { values: floatsOf(tensor), rows, columns }, 'weights');
  return make('figure', { class: 'multiple' }, canvas, make('figcaption', {}, text));
}

export async function showSwap(body, page, signal, update) {
  const { state, scene } = page;
  const { input } = scene;
  if (!input?.weights?.layer || !input.embeddings) {
    const words = 'Circuits are of a layer that has a name: choose one under “Layer”, or the demo sentence.';
    body.replaceChildren(make('p', { class: 'hint' }, words));
    return;
  }
  const aim = Math.min(state.aim, input.heads - 1);
  const cargo = Math.min(state.cargo, input.heads - 1);
  const swap = { embeddings: input.embeddings, options: options(state, input), aimHead: aim, cargoHead: cargo };
  const plain = attendRequest({ ...state, off: '' }, input, { maps: [{ heads: [aim], full: {} }] });
  const [swapped, before] = await Promise.all([
    call('AnalyzeCircuits', { layer: input.weights.layer, heads: [aim], swap }, signal),
    call('Attend', plain, signal),
  ]);
  const apart = largestDifference(floatsOf(swapped.swappedMap), floatsOf(before.maps[0].weights));
  const moved = relativeL2(floatsOf(before.output), floatsOf(swapped.swappedOutput));
  const names = scene.heads.map(({ name }) => name);
  const found = make(
    'p',
    { class: 'finding' },
    `“${names[aim]}” looks, and carries what “${names[cargo]}” would. Its map differs from its own by `,
    make('b', {}, apart === 0 ? 'nothing, bit for bit' : difference(apart)),
    '; the layer’s output moves by ',
    make('b', {}, difference(moved)),
    ` (relative L2)${moved < 1e-3 ? ': these two carry the same, and differ in where they look' : ''}.`,
  );
  body.replaceChildren(
    make(
      'div',
      { class: 'fields' },
      chooser('aim', 'Aim: where to look', scene.heads, aim, update),
      chooser('cargo', 'Cargo: what to carry', scene.heads, cargo, update),
    ),
    found,
    make(
      'div',
      { class: 'pictures' },
      picture(before.maps[0].weights, 'where it looks'),
      picture(swapped.swappedMap, 'where it looks with the other’s cargo: the same'),
    ),
  );
}
