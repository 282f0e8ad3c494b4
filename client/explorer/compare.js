// Naive and flash on the same input, and what happens to each when the input doubles.

import { call } from './api.js';
import { bytes, difference, time } from './describe.js';
import { make, table } from './elements.js';

const FIRST = 256;
const LONGEST = 16384;
const RUN_UP_TO = 4096; // beyond that naive's grid is planned, not filled, and flash runs alone
const problem = (tokens) => ({
  selfAttention: { seededEmbeddings: { seed: '1', tokens: String(tokens), width: '128' }, seededWeights: { seed: '2' } },
  options: { queryHeads: 8 },
});

const HEAD = [
  'tokens',
  'grid of scores',
  'naive takes',
  'flash takes',
  'of it tiles',
  'naive',
  'flash',
  'apart by',
];
const runs = [];

// Flash alone, as far as the server's plan admits it. A row's largest key is the smallest answer there is.
async function runFlash(tokens, plan, signal) {
  const row = { tokens, grid: plan.scoreGridBytes, naive: plan.naiveBytes, flash: plan.flashBytes };
  const planned = [bytes(plan.naiveBytes), bytes(plan.flashBytes), '–', 'planned'];
  if (plan.admission !== 'ADMISSION_FORECAST_ADMITTED') return { ...row, refused: true, cells: [...planned, 'planned', '–'] };
  const maps = [{ heads: [0], rows: [{ begin: '0', end: '1' }], topKeys: { k: 1 } }];
  const request = { ...problem(tokens), outputs: { omitOutput: true, maps } };
  request.options = { ...request.options, algorithm: 'ALGORITHM_FLASH' };
  const { execution } = await call('Attend', request, signal);
  return { ...row, cells: [...planned, time(execution.total), '–'] };
}

async function run(tokens, signal) {
  if (tokens > RUN_UP_TO) return runFlash(tokens, await call('PlanAttention', problem(tokens), signal), signal);
  const { naive, flash, naiveFlash } = await call('CompareAlgorithms', problem(tokens), signal);
  return {
    tokens,
    grid: naive.scoreGridBytes,
    flash: flash.workspaceBytes,
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
  const grid = `Twice the tokens: the grid takes ${times('grid')} the bytes`;
  if (last.tiles) return `${grid}, flash’s tiles ${times('tiles')}; Q, K, V and the output, which both hold, double.`;
  const ran = last.refused ? 'This server’s plan admits neither.' : 'This long, naive is planned and not run: flash runs alone.';
  return `${grid}, flash ${times('flash')}. ${ran}`;
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
      '8 heads of 16 channels on random embeddings, made by the server. Both hold Q, K, V and the output, which grow with the tokens. Naive holds the grid besides, which grows with their square; flash a few tiles, which stay as they are.',
    ),
    more,
    make('p', { class: 'finding', 'aria-live': 'polite' }, finding()),
    table('Naive and flash by length', [HEAD, ...rows]),
  );
}

// A link may say anything.
const bounded = (lengths) => Math.max(FIRST, Math.min(LONGEST, lengths));

export async function showCompare(body, page, signal, update) {
  const wanted = bounded(page.state.lengths);
  if (runs.at(-1)?.tokens > wanted) runs.length = 0;
  for (let tokens = runs.length ? runs.at(-1).tokens * 2 : FIRST; tokens <= wanted; tokens *= 2) {
    runs.push(await run(tokens, signal));
    draw(body, page, signal, update);
  }
  draw(body, page, signal, update);
}
