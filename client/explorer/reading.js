// The lit row in words and bars.

import { digits, rowOf, sentence, sumOf, topKeys } from './describe.js';
import { bar, byId, make } from './elements.js';

function showBars({ scene, map }, values) {
  const weights = scene.stage === 'weights';
  const top = topKeys(values, 5);
  const least = weights ? 0 : Math.min(...Array.from(values).filter(Number.isFinite));
  const span = weights ? 1 : values[top[0]] - least || 1;
  byId('row-keys').replaceChildren(...top.map((key) => bar(scene.keyLabel(key), (values[key] - least) / span, digits(values[key]))));
  const whole = weights && scene.exact && map.columns === scene.keys;
  byId('row-sum').textContent = whole ? `All ${values.length} weights of this row add up to ${sumOf(values).toFixed(2)}.` : '';
}

// `aloud`: a screen reader is to say it, too.
export function showReading(page, { row, key }, aloud) {
  const line = byId('line');
  byId('row-panel').hidden = row < 0;
  if (row < 0) {
    line.textContent = 'Point at a word, or tap it.';
    return;
  }
  const { scene, map } = page;
  const values = rowOf(map, row);
  const said = sentence(scene, map, row);
  line.replaceChildren(make('b', {}, said.name), ` ${said.verb} `);
  if (said.best >= 0) line.append(make('b', {}, said.key), ' ', make('span', { class: 'value' }, `(${said.value})`));
  if (aloud) byId('live').textContent = said.text + (key >= 0 ? `; ${scene.keyLabel(key)}: ${digits(values[key])}` : '');
  showBars(page, values);
}
