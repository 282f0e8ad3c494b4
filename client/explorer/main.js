// The page: what is chosen, what the server answers to it, and what of it is lit.

import { replaceFlight, wasAborted } from './api.js';
import { paintLegend, rangeOf } from './colours.js';
import { bindControls, offerLayers, showControls } from './controls.js';
import { rowOf, time } from './describe.js';
import { byId } from './elements.js';
import { Grid } from './grid.js';
import { markRow, showDepths, showHeads, showMultiples } from './heads.js';
import { askServer } from './inputs.js';
import { Matrix } from './matrix.js';
import { clearError, showError, watchProgress } from './notice.js';
import { bindParts, refreshParts, unfoldParts } from './parts.js';
import { askWholeRow, showReading } from './reading.js';
import { askScene, shownHeads, shownMap } from './scene.js';
import { asksAnew, fromFragment, isLink, toFragment } from './state.js';
import { allowTake } from './take.js';
import { bindTheme, colours } from './theme.js';
import { Arcs, Strip } from './words.js';
import { Zoom } from './zoom.js';

// Which experiments follow what is only drawn.
const SHOWN_BY = { softmax: ['row', 'head'], swap: ['aim', 'cargo'], compare: ['lengths'] };

// A change of these is a step that the browser's Back takes back; hashchange then follows.
const STEPS = ['source', 'layer', 'head', 'depth', 'stage', 'view', 'position'];

const page = {
  state: fromFragment(location.hash),
  scene: undefined,
  map: undefined,
  missing: '', // what a link named and is not here, in words
  lit: { row: -1, key: -1, locked: false },
};
// Exported to be looked at from a console.
export const matrix = new Matrix(byId('map'));
const handlers = { onLight: point, onLock: lock };
const grid = new Grid(byId('map'), matrix, handlers);
const strip = new Strip(byId('strip'), handlers);
const arcs = new Arcs(byId('arcs'), handlers);
const zoom = new Zoom(byId('map'), matrix, page, update);

async function load() {
  const { state } = page;
  const signal = replaceFlight('scene');
  byId('picture').classList.add('stale');
  try {
    offerLayers(page, await askServer(signal));
    const scene = await askScene(state, signal);
    // Of a long input the numbers are of the head that was asked for.
    if (!choosePresent(scene) && scene.long) return load();
    page.scene = scene;
    byId('picture').hidden = false;
    byId('picture').classList.remove('stale');
    clearError(byId('error')); // its focus can only pass to what is seen
    allowTake(true);
    strip.show(scene);
    if (state.source === 'stack' && state.depth < 0) chooseBest(scene);
    draw();
    lookFurther();
    refreshParts(page);
  } catch (error) {
    if (wasAborted(error)) return;
    allowTake(false);
    showError(byId('error'), error, load);
  }
}

// A link may name a head or a layer that is not here. Returns whether what it names is.
function choosePresent({ headCount, layers }) {
  const { head, depth } = page.state;
  const last = layers ? layers.length - 1 : depth;
  const missing = [
    ...(depth > last ? [[`layer ${depth}`, { depth: last }, `layer ${last}`]] : []),
    ...(Number(head) >= headCount ? [[`head ${head}`, { head: '0' }, 'head 0']] : []),
  ];
  if (!missing.length) return true;
  page.state = Object.assign({}, page.state, ...missing.map(([, change]) => change));
  page.missing = missing.map(([asked, , shown]) => `There is no ${asked} here; ${shown} is shown.`).join(' ');
  history.replaceState(null, '', toFragment(page.state) || location.pathname);
  showControls(page);
  return false;
}

// Of a stack: the head that does most for the bet, and the word after which it bets.
function chooseBest({ trace, view }) {
  const { layer = 0, head = 0 } = trace.attributions.reduce((most, next) =>
    (next.logit ?? 0) > (most.logit ?? 0) ? next : most,
  );
  page.state = { ...page.state, depth: layer, head: String(head), row: view.rows - 1 };
  showControls(page);
}

function draw() {
  const { scene, state } = page;
  if (!scene) return;
  const heads = shownHeads(scene, state);
  const map = (page.map = shownMap(scene, state));
  const all = state.head === 'all' && heads.length > 1;
  byId('map').hidden = all || state.view === 'words';
  byId('arcs').hidden = all || state.view !== 'words';
  byId('multiples').hidden = !all;
  if (all) showMultiples(byId('multiples'), scene, heads, { onChoose: chooseHead, onLight: point });
  else if (state.view === 'words') arcs.show(scene, map);
  else matrix.show(scene, map, { numbers: state.numbers, colours: colours() });
  byId('numbers').hidden = byId('map').hidden || !matrix.hasRoom;
  grid.show(scene, map);
  showHeads(byId('heads').lastElementChild, scene, heads, state.head);
  byId('heads-words').textContent = page.missing;
  showDepths(byId('depths'), scene, state.depth);
  zoom.show(scene);
  showLegend();
  showComputed();
  rest();
}

// Of a long input the head is asked for first: whoever went elsewhere meanwhile stays there.
async function chooseHead(head) {
  await update({ head });
  const { activeElement } = document;
  if (activeElement === document.body || activeElement.closest('[hidden]')) focusPicture();
}

function focusPicture() {
  const [shown] = ['map', 'arcs', 'multiples'].map(byId).filter((part) => !part.hidden);
  (shown.querySelector('button') ?? shown).focus();
}

function showLegend() {
  const { low, high, beyond } = rangeOf(page.map.values, page.scene.stage);
  byId('low').textContent = page.scene.digits(low);
  byId('high').textContent = `${page.scene.digits(high)}${beyond ? ' and more' : ''}`;
  const asArcs = !byId('arcs').hidden;
  for (const part of byId('legend').children) part.hidden = asArcs;
  byId('legend-words').hidden = false;
  const forbidden = page.scene.stage === 'biased' ? '; grey may not be looked at' : '';
  // Where heads stand side by side no row is dimmed.
  const dimmed = byId('map').hidden ? '' : '; while one row is lit the others are dimmed';
  byId('legend-words').textContent = asArcs
    ? 'from the chosen word to those it attends to, thicker is more'
    : `rows attend to columns, brighter is more${forbidden}${dimmed}`;
}

function showComputed() {
  const { execution, trace } = page.scene;
  const what = trace
    ? `Traced by this server in ${time(trace.total)}`
    : `Computed by this server with ${execution.algorithm.replace('ALGORITHM_', '').toLowerCase()} on ${execution.cpuTarget} in ${time(execution.total)}`;
  byId('computed').textContent = `${what}. Nothing on this page is stored or made up.`;
}

// What is lit while nothing is pointed at: the locked row. Until somebody points at one, a row explains the first picture.
function rest() {
  const { scene, pointed, state } = page;
  const row = pointed || scene.long ? -1 : (scene.tokens?.indexOf('it') ?? -1);
  light(state.view === 'words' && row < 0 ? 0 : row);
}

function point(row, key, aloud) {
  page.pointed = true;
  light(row, key, aloud);
}

function light(row, key = -1, aloud = false) {
  if (!page.map || (matrix.stretched && !byId('map').hidden)) return;
  if (page.state.row >= 0 && page.state.row < page.map.rows && (row < 0 || !page.pointed)) row = page.state.row;
  // Arcs without a word are an empty box: the one lit last stays.
  if (page.state.view === 'words' && row < 0) row = page.lit.row < page.map.rows ? Math.max(page.lit.row, 0) : 0;
  const lit = { row, key, locked: row >= 0 && row === page.state.row };
  page.lit = lit;
  const values = row >= 0 ? rowOf(page.map, row) : undefined;
  if (!byId('map').hidden) matrix.light(lit);
  if (!byId('arcs').hidden) arcs.light(lit);
  if (!byId('multiples').hidden) markRow(byId('multiples'), row, page.map.rows);
  strip.light(page.scene.stage === 'weights' ? values : undefined, lit);
  showReading(page, lit, aloud);
}

function lock(row) {
  page.pointed = true;
  update({ row: row === page.state.row ? -1 : row });
  light(row, -1, true);
  lookFurther();
}

async function lookFurther() {
  const { scene, state, map } = page;
  const signal = replaceFlight('row');
  if (!scene.exact || state.row < 0 || scene.keys === map.columns || typeof map.head !== 'number') return;
  try {
    await askWholeRow(page, signal);
    rest();
  } catch (error) {
    showError(byId('error'), error, lookFurther);
  }
}

function update(change, anew = false) {
  const before = page.state;
  page.state = { ...before, ...change };
  if (['source', 'head', 'depth'].some((name) => Object.hasOwn(change, name))) page.missing = '';
  const step = STEPS.some((name) => before[name] !== page.state[name]);
  history[step ? 'pushState' : 'replaceState'](null, '', toFragment(page.state) || location.pathname);
  showControls(page);
  if (anew || asksAnew(before, page.state, page.scene?.long)) return load();
  draw();
  const changed = (name) => before[name] !== page.state[name];
  const parts = Object.keys(SHOWN_BY).filter((part) => SHOWN_BY[part].some(changed));
  return page.scene && refreshParts(page, parts);
}

// Not to the fragment #map, which would be taken for a link to the first picture.
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  focusPicture();
});
window.addEventListener('hashchange', () => {
  if (!isLink(location.hash)) return;
  page.state = fromFragment(location.hash);
  page.missing = '';
  showControls(page);
  unfoldParts(page);
  load();
});
let width;
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width === width) return;
  ({ width } = contentRect);
  draw();
}).observe(byId('picture'));
watchProgress();
bindTheme(draw);
bindControls(page, update);
bindParts(page, update);
paintLegend(byId('legend').querySelector('canvas'));
load();
