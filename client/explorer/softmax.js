// One row on its way from scores to weights.

import { call } from './api.js';
import { digits, sumOf, topKeys } from './describe.js';
import { bar, make } from './elements.js';
import { STAGES, attendRequest } from './requests.js';
import { floatsOf } from './tensors.js';

const SHOWN = 16;
const STEPS = [
  ['Scores', 'How well each key answers the row’s question: query times key, scaled.'],
  ['Masked', 'What may not be looked at falls out; ALiBi takes off for distance.'],
  ['Exponentials', 'e to the power of score minus the largest score: differences become ratios.'],
  ['Weights', 'Each divided by their sum: now they add up to one.'],
];

let step = 0;

async function askRow({ state, scene, map }, row, signal) {
  const begin = scene.tokenOf(row);
  const rows = [{ begin: String(begin), end: String(begin + 1) }];
  const head = typeof map.head === 'number' ? map.head : 0;
  const maps = ['scaled', 'biased', 'weights'].map((stage) => ({ heads: [head], rows, full: {}, stage: STAGES[stage] }));
  const request = attendRequest(state, scene.input, { omitOutput: true, maps });
  const answer = await call('Attend', request, signal);
  const [scaled, biased, weights] = answer.maps.map(({ weights: tensor }) => floatsOf(tensor));
  const largest = Math.max(...biased.filter(Number.isFinite));
  return { head, steps: [scaled, biased, biased.map((score) => Math.exp(score - largest)), weights] };
}

function barsOf(steps, keys, scene) {
  const values = steps[step];
  const finite = Array.from(values).filter(Number.isFinite);
  const low = step < 2 ? Math.min(0, ...finite) : 0;
  const span = step < 2 ? Math.max(1, Math.max(...finite) - low) : 1;
  return keys.map((key) =>
    bar(
      scene.wholeKeyLabel(key),
      Number.isFinite(values[key]) ? (values[key] - low) / span : 0,
      (step === 3 ? scene.digits : digits)(values[key]),
    ),
  );
}

function finding(steps, keys, scene) {
  const [best] = keys;
  const name = scene.wholeKeyLabel(best);
  const [, biased, powers, weights] = steps;
  if (step === 2)
    return `For ${name}: e^(${digits(biased[best])} − ${digits(biased[best])}) = ${digits(powers[best])}. All together: ${digits(sumOf(powers))}.`;
  if (step === 3)
    return `For ${name}: ${digits(powers[best])} / ${digits(sumOf(powers))} = ${digits(weights[best])}. All together: ${digits(sumOf(weights))}.`;
  return `The highest score is ${digits(steps[step][topKeys(steps[step], 1)[0]])}.`;
}

export async function showSoftmax(body, page, signal) {
  const { scene, state, map, lit } = page;
  if (scene.trace) {
    const words = 'The trace of a stack has weights alone. Choose another source to see scores.';
    body.replaceChildren(make('p', { class: 'hint' }, words));
    return;
  }
  const row = Math.min(Math.max(state.row >= 0 ? state.row : lit.row, 0), map.rows - 1);
  const { head, steps } = await askRow(page, row, signal);
  const keys = topKeys(steps[3], SHOWN);
  if (steps[3].length <= SHOWN) keys.splice(0, keys.length, ...topKeys(steps[3], SHOWN).sort((a, b) => a - b));
  const best = topKeys(steps[3], 1);
  const slider = make('input', { type: 'range', min: 0, max: 3, step: 1, value: step, 'aria-label': 'Step of the softmax' });
  const title = make('h3');
  const words = make('p', { class: 'hint' });
  const list = make('ol', { class: 'bars' });
  const found = make('p', { class: 'finding' });
  const draw = () => {
    step = Number(slider.value);
    const [name, text] = STEPS[step];
    title.textContent = `${step + 1}. ${name}`;
    slider.setAttribute('aria-valuetext', name);
    words.textContent = text;
    list.replaceChildren(...barsOf(steps, keys, scene));
    found.textContent = finding(steps, best, scene);
  };
  slider.addEventListener('input', draw);
  const name = scene.tokenLabel(scene.tokenOf(row));
  const who = [
    `Row “${name}”${name === scene.rowLabel(row) ? '' : `, the first of ${scene.rowLabel(row)},`} of ${scene.heads[head]?.name ?? `head ${head}`}`,
    ...(typeof map.head === 'number' ? [] : ['Choose one head to walk through its row']),
    ...(state.row < 0 ? ['Lock another row by clicking it'] : []),
  ].join('. ');
  body.replaceChildren(make('p', {}, who), slider, title, words, list, found);
  if (steps[3].length > SHOWN) body.append(make('p', { class: 'hint' }, `The ${SHOWN} largest of ${steps[3].length} keys.`));
  draw();
}
