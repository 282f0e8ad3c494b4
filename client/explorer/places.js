// Does the order of words matter? Shuffle them, or shift them all, and compare two answers of the server.

import { difference, largestDifference } from './describe.js';
import { make } from './elements.js';
import { askScene } from './scene.js';

const SHIFT = 1000;

// The map with its rows and columns back in the order of the sentence.
function inOrder({ values, rows, columns }, order) {
  const sorted = new Float32Array(values.length);
  for (let row = 0; row < rows; ++row) {
    for (let key = 0; key < columns; ++key) sorted[order[row] * columns + order[key]] = values[row * columns + key];
  }
  return sorted;
}

async function apart(page, signal) {
  const { state } = page;
  const [plain, moved] = await Promise.all([
    askScene({ ...state, shuffle: 0, shift: 0, stage: 'weights' }, signal),
    askScene({ ...state, stage: 'weights' }, signal),
  ]);
  const { order } = moved.input;
  return Math.max(
    ...moved.heads.map((head, i) =>
      largestDifference(plain.heads[i].values, state.shuffle ? inOrder(head, order) : head.values),
    ),
  );
}

function words({ shuffle, shift }, largest) {
  const what = [shuffle ? 'shuffled' : '', shift ? `shifted by ${shift.toLocaleString('en')}` : '']
    .filter(Boolean)
    .join(' and ');
  const number = make('b', {}, difference(largest));
  const same = largest < 1e-3;
  const end = shuffle
    ? same
      ? ': rows travel with their words, and each word attends as before.'
      : ': with positions, another order is another sentence.'
    : same
      ? ': only distances count, and they have not changed.'
      : ': here the places themselves count.';
  return make(
    'p',
    { class: 'finding' },
    `The words are ${what}. The largest difference to the weights before, word by word, is `,
    number,
    end,
  );
}

function button(text, act) {
  const made = make('button', { type: 'button' }, text);
  made.addEventListener('click', act);
  return made;
}

export async function showPlaces(body, page, signal, update) {
  const { state, scene } = page;
  if (scene.long) return body.replaceChildren();
  const tools = make('div', { class: 'tools' });
  if (scene.input?.order) {
    tools.append(
      button(state.shuffle ? 'Shuffle again' : 'Shuffle the words', () => update({ shuffle: state.shuffle + 1, row: -1 })),
    );
  }
  if (state.shuffle) tools.append(button('Back in order', () => update({ shuffle: 0, row: -1 })));
  tools.append(
    button(state.shift ? 'Shift back' : `Shift all words by ${SHIFT.toLocaleString('en')}`, () =>
      update({ shift: state.shift ? 0 : SHIFT }),
    ),
  );
  const parts = [tools];
  if (state.source === 'demo')
    parts.push(
      make(
        'p',
        { class: 'hint' },
        'The demo’s vectors carry their place in the sentence within them, and keep it when words are shuffled. What is chosen here comes on top.',
      ),
    );
  if (state.shuffle || state.shift) parts.push(words(state, await apart(page, signal)));
  return body.replaceChildren(...parts);
}
