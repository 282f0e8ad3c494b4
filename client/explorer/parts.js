// The experiments: each asks the server when it is unfolded, and again when what it shows has changed.

import { replaceFlight, wasAborted } from './api.js';
import { showAblation } from './ablation.js';
import { showBet } from './bet.js';
import { showCompare } from './compare.js';
import { byId, keepFocus, make } from './elements.js';
import { clearError, showError } from './notice.js';
import { showPlaces } from './places.js';
import { showSoftmax } from './softmax.js';
import { showSwap } from './swap.js';
import { bindTake } from './take.js';

const PARTS = { softmax: showSoftmax, places: showPlaces, ablation: showAblation, swap: showSwap, compare: showCompare };
const parts = new Map();

async function refresh(name, page, update) {
  const { details, body, notice } = parts.get(name);
  if (!details.open || details.hidden || !page.scene) return;
  const signal = replaceFlight(name);
  try {
    await keepFocus(body, () => PARTS[name](body, page, signal, update));
    clearError(notice);
  } catch (error) {
    if (wasAborted(error)) return;
    showError(notice, error, () => refresh(name, page, update));
  }
}

function bind(details, page, update) {
  const name = details.dataset.part;
  details.addEventListener('toggle', () => {
    const open = [...document.querySelectorAll('details[open]')].map((one) => one.dataset.part).join(',');
    if (open !== page.state.open) update({ open });
    if (parts.has(name)) refresh(name, page, update);
  });
  if (!PARTS[name]) return;
  const body = details.querySelector('.result') ?? details.querySelector('.body');
  const notice = make('div', { class: 'notice', role: 'alert', hidden: '' });
  body.after(notice);
  parts.set(name, { details, body, notice });
}

// As a link says.
export function unfoldParts({ state }) {
  for (const details of document.querySelectorAll('details[data-part]'))
    details.open = state.open.split(',').includes(details.dataset.part);
}

let updatePage;
export function bindParts(page, update) {
  updatePage = update;
  unfoldParts(page);
  for (const details of document.querySelectorAll('details[data-part]')) bind(details, page, update);
  bindTake(page);
}

export function refreshParts(page, names = Object.keys(PARTS)) {
  if (page.scene.trace) keepFocus(byId('bet-body'), () => showBet(byId('bet-body'), page, updatePage));
  for (const name of names) refresh(name, page, updatePage);
}
