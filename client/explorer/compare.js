// Naive and flash on the same input, and what happens to each when the input doubles.

import { call } from './api.js';
import { bytes, difference, time } from './describe.js';
import { make, table } from './elements.js';

const FIRST = 256;
const LONGEST = 16384;
const RUN_UP_TO = 4096; // beyond that naive's grid is planned, not filled; flash still runs
const problem = (tokens) => ({
  selfAttention: { seededEmbeddings: { seed: '1', tokens: String(tokens), width: '128' }, seededWeights: { seed: '2' } },
  options: { queryHeads: 8 },
});

const HEAD = [
  'tokens',
  'grid of scores',
  'naive takes in all',
  'flash takes in all',
  'of it tiles',
  'naive',
  'flash',
  'apart by',
];
const runs = [];

async function run(tokens, signal) {
  if (tokens > RUN_UP_TO) {
    const asked = problem(tokens);
    const flash = { ...asked, options: { ...asked.options, algorithm: 'ALGORITHM_FLASH' } };
    const outputs = { omitOutput: true, logSumExp: true };
    const [plan, { execution }] = [
      await call('PlanAttention', asked, signal),
      await call('Attend', { ...flash, outputs }, signal),
    ];
    return {
      tokens,
      grid: plan.scoreGridBytes,
      tiles: execution.scratchBytes,
      cells: [
        bytes(plan.naiveBytes),
        bytes(execution.workspaceBytes),
        bytes(execution.scratchBytes),
        'planned',
        time(execution.total),
        '–',
      ],
    };
  }
  const { naive, flash, naiveFlash } = await call('CompareAlgorithms', problem(tokens), signal);
  return {
    tokens,
    grid: naive.scoreGridBytes,
    tiles: flash.scratchBytes,
    cells: [
      bytes(naive.workspaceBytes),
      bytes(flash.workspaceBytes),
      bytes(flash.scratchBytes),
      time(naive.total),
      time(flash.total),
      difference(naiveFlash.maxAbsDifference ?? 0),
    ],
  };
}

function finding() {
  const last = runs.at(-1);
  const before = runs.at(-2);
  if (!before) return 'Flash never holds the grid of scores, and gives the same numbers. Double the length and watch both.';
  const times = (name) => `${(Number(last[name]) / Number(before[name])).toFixed(1)} times`;
  const found = `Twice the tokens: the grid takes ${times('grid')} the bytes, flash’s tiles ${times('tiles')}; Q, K and V twice in both.`;
  return last.tokens > RUN_UP_TO ? `${found} This long, naive is planned and not run.` : found;
}

function draw(body, page, signal, update) {
  const more = make('button', { type: 'button' }, 'Double the length');
  const next = runs.at(-1).tokens * 2;
  more.disabled = next > LONGEST;
  more.addEventListener('click', () => update({ lengths: next }));
  const rows = runs.map((one) => [one.tokens.toLocaleString('en'), bytes(one.grid), ...one.cells]);
  body.replaceChildren(
    make(
      'p',
      {},
      '8 heads of 16 channels on random embeddings, made by the server. Both hold Q, K and V, which grow with the tokens; naive holds the grid besides, flash a few tiles.',
    ),
    more,
    make('p', { class: 'finding', 'aria-live': 'polite' }, finding()),
    table('Naive and flash by length', [HEAD, ...rows]),
  );
}

export async function showCompare(body, page, signal, update) {
  const wanted = Math.max(FIRST, Math.min(LONGEST, page.state.lengths));
  if (runs.at(-1)?.tokens > wanted) runs.length = 0;
  for (let tokens = runs.length ? runs.at(-1).tokens * 2 : FIRST; tokens <= wanted; tokens *= 2) {
    runs.push(await run(tokens, signal));
    draw(body, page, signal, update);
  }
  draw(body, page, signal, update);
}
