// The lit row in words and bars.

import { call } from './api.js';
import { averaged, rowOf, sentence, sumOf, topKeys } from './describe.js';
import { bar, byId, make } from './elements.js';
import { STAGES, attendRequest } from './requests.js';

function showWhole({ whole, wholeKeyLabel, digits, keys, stage }) {
  const least = stage === 'weights' ? 0 : Math.min(...whole.weights);
  const share = (weight) => (weight - least) / (whole.weights[0] - least || 1);
  byId('row-keys').replaceChildren(
    ...whole.keys.map((key, i) => bar(wholeKeyLabel(key), share(whole.weights[i]), digits(whole.weights[i]))),
  );
  byId('row-sum').textContent = `The largest of all ${keys.toLocaleString('en')} keys.`;
}

function showBars({ scene, map, lit }, values) {
  const weights = scene.stage === 'weights';
  if (scene.whole?.row === lit.row) return showWhole(scene);
  const top = topKeys(values, 5);
  const least = weights ? 0 : Math.min(...Array.from(values).filter(Number.isFinite));
  const span = scene.long ? values[top[0]] - least || 1 : weights ? 1 : Math.max(1, values[top[0]] - least);
  byId('row-keys').replaceChildren(
    ...top.map((key) => bar(scene.keyLabel(key), (values[key] - least) / span, scene.digits(values[key]))),
  );
  const whole = weights && scene.exact && map.columns === scene.keys;
  byId('row-sum').textContent = whole
    ? `All ${values.length} weights of this row add up to ${sumOf(values).toFixed(2)}.`
    : '';
}

// Of a long row only a part is here: the server is asked for the largest of all of it.
export async function askWholeRow({ state, scene, map }, signal) {
  const row = scene.view.row + state.row;
  const rows = [{ begin: String(row), end: String(row + 1) }];
  const request = attendRequest(state, scene.input, {
    omitOutput: true,
    maps: [{ heads: [map.head], rows, topKeys: { k: 5 }, stage: STAGES[state.stage] }],
  });
  const { topKeys: top } = (await call('Attend', request, signal)).maps[0];
  scene.whole = { row: state.row, keys: top.keys ?? [], weights: top.weights ?? [] };
}

// `aloud`: a screen reader is to say it, too.
export function showReading(page, { row, key }, aloud) {
  const line = byId('line');
  byId('row-panel').hidden = row < 0;
  if (row < 0) {
    line.textContent = 'Point at a row, or tap it.';
    return;
  }
  const { scene, map } = page;
  const values = rowOf(map, row);
  byId('row-panel').querySelector('h2').textContent = `This row${averaged(map)}`;
  const said = sentence(scene, map, row);
  line.replaceChildren(make('b', {}, said.name), ` ${said.verb} `);
  if (said.best >= 0)
    line.append(make('b', {}, said.key), ' ', make('span', { class: 'value' }, `(${said.value})`), said.among);
  if (aloud)
    byId('live').textContent = said.text + (key >= 0 ? `; ${scene.keyLabel(key)}: ${scene.digits(values[key])}` : '');
  showBars(page, values);
}
