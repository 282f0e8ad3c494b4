// Where a head looks and what it carries are two circuits. Here one head aims and another's cargo is carried.

import { call } from './api.js';
import { difference, topKeys } from './describe.js';
import { bar, make } from './elements.js';
import { askServer } from './inputs.js';
import { paintThumbnail } from './matrix.js';
import { options } from './requests.js';
import { fresh } from './state.js';
import { floatsOf, shapeOf } from './tensors.js';

const LEAST = 1e-4;

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

// A way to heads that carry different things: any layer but the demo's, on a sentence of one's own.
async function elsewhere(signal, update) {
  const layer = (await askServer(signal)).layers.find(({ name }) => name !== 'demo');
  if (!layer) return [];
  const go = make('button', { type: 'button' }, `Your sentence with ${layer.name}`);
  go.addEventListener('click', () => update({ ...fresh(), source: 'text', layer: layer.name }));
  return [go];
}

// As a share of the larger; heads that add next to nothing, as a trained layer has, are apart by nothing.
function apart(from, to, least) {
  const size = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return size(from.map((value, i) => value - to[i])) / Math.max(size(from), size(to), least);
}

// How far what the head adds moves, word by word.
function barsOf(own, swapped, rowLabel) {
  const [rows, width] = shapeOf(own);
  const [from, to] = [floatsOf(own), floatsOf(swapped)];
  const row = (values, i) => values.subarray(i * width, (i + 1) * width);
  const moves = Array.from({ length: rows }, (_, i) => apart(row(from, i), row(to, i), LEAST));
  const largest = Math.max(...moves, 1e-3);
  return topKeys(moves, 12)
    .sort((a, b) => a - b)
    .map((i) => bar(rowLabel(i), moves[i] / largest, difference(moves[i])));
}

const strong = (value) => make('b', {}, difference(value));

export async function showSwap(body, page, signal, update) {
  const { state, scene } = page;
  const { input } = scene;
  if (!input?.weights?.layer || !input.embeddings) {
    const why = 'A swap takes one head’s weights apart from another’s, so it needs a layer that has a name: choose one under “Layer”.';
    return body.replaceChildren(make('p', {}, why), ...(await elsewhere(signal, update)));
  }
  const aim = Math.min(state.aim, input.heads - 1);
  const cargo = Math.min(state.cargo, input.heads - 1);
  const ask = (cargoHead) => {
    const swap = { embeddings: input.embeddings, options: options(state, input), aimHead: aim, cargoHead };
    return call('AnalyzeCircuits', { layer: input.weights.layer, heads: [aim], swap }, signal);
  };
  // A head with its own cargo is the head as it is: asked the same way, so that nothing else differs.
  const [own, swapped] = await Promise.all([ask(aim), ask(cargo)]);
  const written = apart(floatsOf(own.swappedContribution), floatsOf(swapped.swappedContribution), LEAST);
  const output = apart(floatsOf(own.swappedOutput), floatsOf(swapped.swappedOutput), LEAST);
  const same = written < 1e-3;
  const names = scene.heads.map(({ name }) => name);
  const found = make(
    'p',
    { class: 'finding' },
    `“${names[aim]}” looks, and carries what “${names[cargo]}” would. What the head adds moves by `,
    strong(written),
    ', the layer’s output by ',
    strong(output),
    ` (L2, as a share of the larger)${same ? `: ${aim === cargo ? 'it is one head' : 'these two carry the same, or nothing'}` : ''}.`,
  );
  const choosers = [
    chooser('aim', 'Aim: where to look', scene.heads, aim, update),
    chooser('cargo', 'Cargo: what to carry', scene.heads, cargo, update),
  ];
  const why = 'The map is the aim’s, bit for bit, whatever the cargo: where a head looks is settled before anything is carried.';
  body.replaceChildren(
    make('div', { class: 'fields' }, ...choosers),
    found,
    make('p', { class: 'hint' }, why),
    make('div', { class: 'pictures' }, picture(swapped.swappedMap, 'where it looks')),
  );
  if (!same) {
    const bars = barsOf(own.swappedContribution, swapped.swappedContribution, scene.rowLabel);
    return body.append(make('h3', {}, 'How far what it adds moves, by word'), make('ol', { class: 'bars' }, ...bars));
  }
  if (state.source !== 'demo') return undefined;
  const demo = 'The demo’s heads differ in where they look alone: all three carry the same. Heads that do not:';
  return body.append(make('p', {}, demo), ...(await elsewhere(signal, update)));
}
