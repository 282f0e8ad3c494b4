// The form's fields are the state's: each has the name of one.

import { excludedBy, faults, files } from './inputs.js';
import { byId, make } from './elements.js';
import { readNpy } from './tensors.js';
import { DEFAULTS, fresh, isSeed } from './state.js';

// Fields that take not every number: which they take.
const TAKES = {
  seed: 'Seed takes a whole number from 0 to 18446744073709551615.',
  heads: 'Query heads takes a whole number from 1 to 128.',
  width: 'Width takes an even number from 2 to 4096.',
  window: 'Window takes a whole number from 0 to 999999999, or nothing for all words.',
};

const isValid = (field) =>
  field.name === 'seed' ? isSeed(field.value.trim()) : field.type !== 'number' || field.checkValidity();

function mark(field, valid) {
  const fault = byId(`${field.name}-fault`);
  if (!fault) return;
  fault.textContent = valid ? '' : TAKES[field.name];
  if (valid) {
    field.removeAttribute('aria-invalid');
    field.removeAttribute('aria-describedby');
  } else {
    field.setAttribute('aria-invalid', 'true');
    field.setAttribute('aria-describedby', fault.id);
  }
}

function valueOf(field) {
  if (field.type === 'checkbox') return field.checked;
  // A number that is half typed or refused asks for nothing.
  if (!isValid(field)) return undefined;
  if (field.name === 'seed') return field.value.trim();
  if (field.name === 'window' && field.value) return String(Number(field.value)); // it may be typed as 1e3
  if (typeof DEFAULTS[field.name] !== 'number') return field.value;
  return Number(field.value);
}

function changeOf(field) {
  const value = valueOf(field);
  if (value === undefined) return undefined;
  const change = { [field.name]: value };
  if (field.name === 'source') Object.assign(change, fresh());
  if (['text', 'tokens', 'layer', 'heads'].includes(field.name))
    Object.assign(change, { row: -1, zoom: '', off: '', head: '0' });
  if (['stack', 'stackText'].includes(field.name)) Object.assign(change, { row: -1, off: '', target: '', depth: -1 });
  return change;
}

const NAMES = { embeddings: 'the embeddings', query: 'Q', key: 'K', value: 'V', table: 'the table' };
const fileField = (name) => document.querySelector(`[data-file=${name}]`);

function dropFile(name) {
  delete files[name];
  delete faults[name];
  const field = fileField(name);
  field.value = '';
  field.closest('label').nextElementSibling.hidden = true;
}

async function readFile(name, chosen) {
  try {
    files[name] = readNpy(await chosen.arrayBuffer());
    return `${chosen.name}: [${files[name].shape.join(', ')}]`;
  } catch (error) {
    faults[name] = `${chosen.name} ${error.message}`;
    return faults[name];
  }
}

// Said where the file is chosen: the table of learned positions stands among the experiments.
const sayOfFile = (name, words) => {
  byId(name === 'table' ? 'table-words' : 'file-words').textContent = words;
};

async function chooseFile(name, chosen, update) {
  const dropped = chosen ? excludedBy(name) : [];
  dropped.forEach(dropFile);
  delete files[name];
  delete faults[name];
  const words = chosen ? [await readFile(name, chosen)] : [];
  if (dropped.length) words.push(`The last choice is read: ${dropped.map((other) => NAMES[other]).join(', ')} dropped.`);
  sayOfFile(name, words.join('. '));
  update({ row: -1 }, true);
}

function bindFiles(update) {
  for (const field of document.querySelectorAll('[data-file]')) {
    const { file: name } = field.dataset;
    // A browser's own field cannot be emptied.
    const drop = make('button', { type: 'button', hidden: '', 'aria-label': `Drop ${NAMES[name]}` }, 'Drop');
    field.closest('label').after(drop);
    drop.addEventListener('click', () => {
      dropFile(name);
      sayOfFile(name, '');
      field.focus();
      update({ row: -1 }, true);
    });
    field.addEventListener('change', () => {
      drop.hidden = field.files.length === 0;
      chooseFile(name, field.files[0], update);
    });
  }
}

// Waits until nothing has been typed for a moment.
function bindFields(form, update) {
  for (const name of Object.keys(TAKES))
    form.querySelector(`[name=${name}]`).closest('.fields').append(make('p', { id: `${name}-fault`, class: 'fault', role: 'status' }));
  let timer;
  const typed = new Set(); // not every browser leaves a field when another control is clicked
  const apply = () => {
    clearTimeout(timer);
    for (const field of typed) mark(field, isValid(field));
    const changes = [...typed].map(changeOf).filter(Boolean);
    typed.clear();
    if (changes.length) update(Object.assign({}, ...changes));
  };
  form.addEventListener('input', ({ target }) => {
    if (!Object.hasOwn(DEFAULTS, target.name)) return;
    clearTimeout(timer);
    typed.add(target);
    if (['text', 'number', 'textarea'].includes(target.type)) timer = setTimeout(apply, 350);
    else apply();
  });
  // Whoever leaves a field has typed enough.
  form.addEventListener('change', apply);
  form.addEventListener('submit', (event) => event.preventDefault());
}

export function bindControls(page, update) {
  bindFields(byId('controls'), update);
  bindFiles(update);
  showControls(page);
}

// Layers and stacks that can be named.
export function offerLayers(page, { layers, stacks }) {
  if (byId('layers').length) return;
  byId('layers').replaceChildren(
    make('option', { value: '' }, 'seeded weights'),
    ...layers.map(({ name, width, queryHeads }) =>
      make('option', { value: name, ...(queryHeads ? {} : { 'data-asks-heads': '' }) }, `${name} (width ${width})`),
    ),
  );
  byId('stacks').replaceChildren(...stacks.map(({ name }) => make('option', { value: name }, name)));
  showControls(page);
}

// Where a phone's width does not hold all sources, the chosen one and a part of the one before it are in sight.
function showSource() {
  const sources = byId('sources');
  sources.scrollLeft = sources.querySelector(':checked').parentElement.offsetLeft - sources.offsetLeft - 40;
}

// A link may give a number of tokens that is not among the choices.
function offerTokens(tokens) {
  const select = byId('controls').elements.tokens;
  const options = [...select.options];
  if (options.some(({ value }) => Number(value) === tokens)) return;
  select.add(make('option', {}, tokens), options.find(({ value }) => Number(value) > tokens) ?? null);
}

export function showControls({ state }) {
  offerTokens(state.tokens);
  for (const field of byId('controls').elements) {
    if (!Object.hasOwn(DEFAULTS, field.name)) continue;
    const value = state[field.name];
    if (field.type === 'radio') field.checked = String(value) === field.value;
    else if (field.type === 'checkbox') field.checked = value;
    else if (field !== document.activeElement || field.localName === 'select') {
      field.value = value;
      mark(field, true);
    }
  }
  showSource();
  for (const part of document.querySelectorAll('[data-for]'))
    part.hidden = !part.dataset.for.split(' ').includes(state.source);
  const asksHeads = byId('layers').selectedOptions[0]?.hasAttribute('data-asks-heads');
  for (const part of document.querySelectorAll('[data-seeded]')) part.hidden ||= state.layer !== '';
  byId('query-heads').hidden = state.layer !== '' && !asksHeads;
  for (const part of document.querySelectorAll('[data-learned]')) part.hidden = state.position !== 'learned';
  // A stack's trace has weights alone.
  for (const stage of document.querySelectorAll('#stages input'))
    stage.disabled = state.source === 'stack' && stage.value !== 'weights';
}
