// Light and dark: as the system says, until the switch says otherwise. The choice alone is kept beyond a reload.

import { byId } from './elements.js';

const system = matchMedia('(prefers-color-scheme: dark)');
let chosen = remembered();
let cached;

// Storage throws where a browser forbids it.
function remembered() {
  try {
    return { dark: true, light: false }[localStorage.getItem('theme')];
  } catch {
    return undefined;
  }
}

function remember() {
  try {
    localStorage.setItem('theme', chosen ? 'dark' : 'light');
  } catch {
    // Then a reload forgets it.
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
    remember();
    apply(redraw);
  });
  system.addEventListener('change', () => apply(redraw));
  apply(() => {});
}
