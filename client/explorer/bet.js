// What a stack bets on, and which heads made it.

import { digits } from './describe.js';
import { bar, make, table } from './elements.js';
import { offHeads } from './state.js';

const nameOf = ({ token, id }) => token ?? `token ${id ?? 0}`;

function bets({ scene, state }, update) {
  const rows = scene.trace.bets.map((bet) => {
    const choose = make(
      'button',
      { type: 'button', 'aria-pressed': String(nameOf(bet) === nameOf(scene.trace.target)) },
      nameOf(bet),
    );
    choose.addEventListener('click', () => update({ target: state.target === nameOf(bet) ? '' : nameOf(bet) }));
    return [choose, digits(bet.logit ?? 0), digits(bet.probability ?? 0)];
  });
  return table('Bets on the next word', [['next word', 'logit', 'probability'], ...rows]);
}

function attributions({ scene, state }) {
  const off = offHeads(state);
  const { attributions: heads, embeddingLogit = 0, biasLogit = 0, target } = scene.trace;
  const list = heads.map(({ layer = 0, head = 0, logit = 0 }) => ({
    name: `layer ${layer}, head ${head}${off.includes(`${layer}:${head}`) ? ' (off)' : ''}`,
    logit,
  }));
  list.push({ name: 'the last word itself', logit: embeddingLogit }, { name: 'biases', logit: biasLogit });
  const largest = Math.max(...list.map(({ logit }) => Math.abs(logit)));
  const sum = list.reduce((total, { logit }) => total + logit, 0);
  return [
    make('h3', {}, `What adds to “${nameOf(target)}”`),
    make('ol', { class: 'bars' }, ...list.map(({ name, logit }) => bar(name, Math.max(0, logit) / largest, digits(logit)))),
    make(
      'p',
      { class: 'hint' },
      `Together ${digits(sum)}: the logit ${digits(target.logit ?? 0)}. Choose another word in the table to see what adds to it.`,
    ),
  ];
}

export function showBet(body, page, update) {
  const [best] = page.scene.trace.bets;
  const found = make(
    'p',
    { class: 'finding' },
    `After “${page.scene.tokens.join(' ')}” it bets on `,
    make('b', {}, nameOf(best)),
    `, with a probability of ${digits(best.probability ?? 0)}.`,
  );
  body.replaceChildren(
    found,
    make('div', { class: 'pair' }, make('div', {}, bets(page, update)), make('div', {}, ...attributions(page))),
  );
}
