// Short ways to elements.

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);
export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

// Rebuilds a part; what had the focus there has it again.
export async function keepFocus(root, rebuild) {
  const focusable = () => [...root.querySelectorAll('button, input, select')];
  const place = focusable().indexOf(document.activeElement);
  await rebuild();
  if (place >= 0 && !root.contains(document.activeElement) && document.activeElement === document.body)
    focusable()[place]?.focus();
}

// A table from rows of texts or elements; the first row is the head.
export function table(caption, [head, ...rows]) {
  const line = (cells, tag) =>
    make('tr', {}, ...cells.map((cell, i) => make(i ? tag : 'th', i || tag === 'th' ? {} : { scope: 'row' }, cell)));
  return make(
    'div',
    { class: 'wide', tabindex: 0, role: 'region', 'aria-label': caption },
    make(
      'table',
      {},
      make('caption', { class: 'unseen' }, caption),
      make('thead', {}, line(head, 'th')),
      make('tbody', {}, ...rows.map((row) => line(row, 'td'))),
    ),
  );
}

// A bar as long as the share, with its name and number.
export function bar(name, share, text) {
  const filled = make('span', { class: 'filled' });
  filled.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return make(
    'li',
    {},
    make('span', { class: 'name' }, name),
    make('span', { class: 'track' }, filled),
    make('span', { class: 'number' }, text),
  );
}
