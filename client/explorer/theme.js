// Light and dark: as the system says, until the switch says otherwise.

import { byId } from './elements.js';

const system = matchMedia('(prefers-color-scheme: dark)');
const KEPT = 'headlight-theme';
let chosen = kept();
let cached;

// Browsers may keep nothing for a page.
function kept() {
  try {
    const name = localStorage.getItem(KEPT);
    return name === null ? undefined : name === 'dark';
  } catch {
    return undefined;
  }
}

function keep() {
  try {
    localStorage.setItem(KEPT, chosen ? 'dark' : 'light');
  } catch {
    // It is chosen until the next visit.
  }
}

const isDark = () => chosen ?? system.matches;

// Of the style sheet, for what is drawn on canvases; read once, because reading them makes the page lay itself out.
export function colours() {
  if (!cached) {
    const style = getComputedStyle(document.documentElement);
    cached = Object.fromEntries(
      ['ink', 'soft', 'paper', 'veil', 'accent', 'line'].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
  }
  return cached;
}

function apply(redraw) {
  document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
  byId('theme').textContent = isDark() ? 'Light' : 'Dark';
  cached = undefined;
  redraw();
}

export function bindTheme(redraw) {
  byId('theme').addEventListener('click', () => {
    chosen = !isDark();
    keep();
    apply(redraw);
  });
  system.addEventListener('change', () => apply(redraw));
  apply(() => {});
}
