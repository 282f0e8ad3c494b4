// What can be taken along: the link, the picture, the numbers, the request as code.

import { byId, make } from './elements.js';
import { toCsv, toPng, toSvg } from './exporting.js';
import { snippets } from './snippets.js';

const SAID = {
  link: 'The link is copied. It restores all of this, but not files.',
  png: 'The picture is saved.',
  svg: 'The drawing is saved.',
  csv: 'The numbers are saved.',
};

function save(blob, name) {
  const link = make('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Without the right to the clipboard the text is shown, and can be copied by hand.
async function copy(text, said) {
  byId('code').textContent = text;
  byId('code').hidden = false;
  try {
    await navigator.clipboard.writeText(text);
    return said;
  } catch {
    return 'Copy it from here:';
  }
}

// Heads of a stack are counted anew in each layer.
const nameOf = ({ scene, map, state }) => (scene.layers ? `layer ${state.depth}, ${map.name}` : map.name);

function remarks(what, { view, head }) {
  const arcs = view === 'words' && ['png', 'svg'].includes(what) ? ' It shows the matrix, not the arcs.' : '';
  return `${head === 'all' ? ' It is the mean of all heads.' : ''}${arcs}`;
}

async function take(what, page) {
  const { scene, map } = page;
  if (what === 'link') return copy(location.href, SAID.link);
  if (what === 'png') save(await toPng(scene, map, nameOf(page)), 'headlight.png');
  else if (what === 'svg') save(new Blob([toSvg(scene, map, nameOf(page))], { type: 'image/svg+xml' }), 'headlight.svg');
  else if (what === 'csv') save(new Blob([toCsv(scene, map)], { type: 'text/csv' }), 'headlight.csv');
  else return copy(snippets[what](scene.method, scene.request), 'The request is copied.');
  return `${SAID[what]}${remarks(what, page.state)}`;
}

// While a refusal is shown, the picture under it is of what was asked before. The link alone is of now.
export function allowTake(allowed) {
  for (const button of document.querySelectorAll('[data-take]:not([data-take=link])')) button.disabled = !allowed;
  byId('taken').textContent = allowed ? '' : 'What is shown was not answered: there is only the link to take.';
}

export function bindTake(page) {
  for (const button of document.querySelectorAll('[data-take]')) {
    button.addEventListener('click', async () => {
      const isStale = !page.scene || byId('picture').classList.contains('stale');
      if (isStale && button.dataset.take !== 'link')
        byId('taken').textContent = 'There is nothing to take: what is asked for has not been answered.';
      else byId('taken').textContent = await take(button.dataset.take, page);
    });
  }
}
