// Heads switched off, and how far the output moves.

import { call } from './api.js';
import { digits, relativeL2 } from './describe.js';
import { bar, make } from './elements.js';
import { attendRequest, options, traceRequest } from './requests.js';
import { offHeads } from './state.js';
import { floatsOf } from './tensors.js';

function switches(heads, off, update) {
  return make(
    'div',
    { class: 'tools' },
    ...heads.map(({ id, name }) => {
      const box = make('input', { type: 'checkbox' });
      box.checked = off.includes(id);
      box.addEventListener('change', () =>
        update({ off: (box.checked ? [...off, id] : off.filter((one) => one !== id)).sort().join(',') }),
      );
      return make('label', { class: 'check' }, box, `off: ${name}`);
    }),
  );
}

// A named layer: the server says what each head's loss changes.
async function ablate({ state, scene }, off, signal) {
  const request = {
    embeddings: scene.input.embeddings,
    layer: scene.input.weights.layer,
    options: options(state, scene.input),
    heads: off.map(Number),
    mode: 'ABLATION_MODE_ZERO',
  };
  const answer = await call('AblateHeads', request, signal);
  return { change: answer.change?.relativeL2 ?? 0, losses: answer.losses.map(({ change }) => change?.relativeL2 ?? 0) };
}

// Others: the output with and without the heads' gains.
async function compareGains({ state, scene }, off, signal) {
  if (!off.length) return { change: 0 };
  const outputs = {};
  const [all, without] = await Promise.all(
    ['', state.off].map((heads) => call('Attend', attendRequest({ ...state, off: heads }, scene.input, outputs), signal)),
  );
  return { change: relativeL2(floatsOf(all.output), floatsOf(without.output)) };
}

async function showLayer(body, page, signal, update) {
  const { state, scene } = page;
  const off = offHeads(state);
  const named = scene.input.weights?.layer && scene.input.embeddings;
  const { change, losses } = await (named ? ablate : compareGains)(page, off, signal);
  const heads = scene.heads.map(({ head, name }) => ({ id: String(head), name }));
  const found = make('p', { class: 'finding' });
  if (off.length)
    found.append(
      `Without ${off.map((id) => heads[id].name).join(' and ')} the output moves by `,
      make('b', {}, digits(Number(change))),
      ' (relative L2).',
    );
  else found.append('All heads are on. Switch one off: its map stays, but what it carries is gone from the output.');
  body.replaceChildren(switches(heads, off, update), found);
  if (!losses) return;
  body.append(
    make('h3', {}, 'Each head alone switched off'),
    make('ol', { class: 'bars' }, ...losses.map((loss, i) => bar(heads[i].name, loss, digits(loss)))),
  );
}

async function showStack(body, page, signal, update) {
  const { state, scene } = page;
  const off = offHeads(state);
  const heads = scene.layers.flatMap((layer, depth) =>
    layer.map(({ head }) => ({ id: `${depth}:${head}`, name: `layer ${depth}, head ${head}` })),
  );
  const found = make('p', { class: 'finding' });
  if (off.length) {
    const whole = await call('TraceStack', { ...traceRequest({ ...state, off: '' }), maps: false }, signal);
    const [before] = whole.bets;
    const [now] = scene.trace.bets;
    found.append(
      'With all heads the bet is ',
      make('b', {}, before.token ?? before.id),
      ` (${digits(before.probability)}). Now it is `,
      make('b', {}, now.token ?? now.id),
      ` (${digits(now.probability)}).`,
    );
  } else {
    found.append('All heads are on. Switch one off and see whether the bet survives.');
  }
  body.replaceChildren(switches(heads, off, update), found);
}

export const showAblation = (body, page, signal, update) =>
  (page.scene.trace ? showStack : showLayer)(body, page, signal, update);
