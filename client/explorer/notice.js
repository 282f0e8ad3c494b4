// What went wrong, with a way to try again; the token that a server asks for; and that something takes its time.

import { setToken, watchCalls, wasAborted } from './api.js';
import { byId, make } from './elements.js';

const TITLES = {
  unreachable: 'The server does not answer',
  invalid_argument: 'The server refused this request',
  resource_exhausted: 'The server is full',
  unavailable: 'The server takes no calls now',
  deadline_exceeded: 'That took too long',
  not_found: 'There is no such layer',
  unauthenticated: 'This server wants a token',
  permission_denied: 'This caller may not do that',
};

function violations(error) {
  return make(
    'ul',
    {},
    ...error.violations.map(({ field, description }) => make('li', {}, make('code', {}, field), ` ${description}`)),
  );
}

function tokenForm(retry) {
  const input = make('input', { type: 'password', autocomplete: 'off', id: 'token', required: '' });
  input.addEventListener('input', () => input.setCustomValidity(''));
  const form = make(
    'form',
    { class: 'token' },
    make('label', { for: 'token' }, 'Token'),
    input,
    make('button', { type: 'submit' }, 'Use it'),
  );
  form.append(make('p', { class: 'hint' }, 'Sent as “Authorization: Bearer”. Kept in memory only.'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const token = input.value.trim();
    if (/^[!-~]+$/.test(token)) {
      setToken(token);
      retry();
    } else {
      input.setCustomValidity('A token has letters, digits and signs of ASCII alone.');
      input.reportValidity();
    }
  });
  return form;
}

// Too many bytes for JSON, which no waiting helps.
const isTooLarge = ({ code, message }) => code === 'resource_exhausted' && message.startsWith('a body of ');

function titleOf(error) {
  if (isTooLarge(error)) return 'This is too large to send from a page';
  return TITLES[error.code] ?? (error.code ? `The call failed: ${error.code}` : 'This cannot be asked');
}

// An alert in place of what could not be shown.
export function showError(root, error, retry) {
  if (wasAborted(error)) return;
  if (!error.code) console.debug(error);
  const hadFocus = root.contains(document.activeElement);
  const parts = [make('h3', {}, titleOf(error))];
  if (error.violations?.length) parts.push(violations(error));
  else if (isTooLarge(error))
    parts.push(
      make('p', {}, 'A page sends JSON, of which this server takes 8 MiB: choose a shorter text or smaller tensors.'),
      make('p', {}, 'Larger ones are for a gRPC client: “Copy as Python” shows how.'),
    );
  else parts.push(make('p', {}, error.message));
  if (error.retryDelay) parts.push(make('p', {}, `It asks to come back in ${parseFloat(error.retryDelay)} s.`));
  if (error.code === 'unauthenticated') parts.push(tokenForm(retry));
  const button = make('button', { type: 'button', class: 'retry' }, 'Try again');
  button.addEventListener('click', retry);
  root.replaceChildren(...parts, button);
  root.hidden = false;
  if (hadFocus) button.focus();
}

// What had the focus there gives it on.
export function clearError(root, focusNext) {
  const hadFocus = root.contains(document.activeElement);
  root.hidden = true;
  root.replaceChildren();
  if (hadFocus) focusNext();
}

// A bar for whatever has been under way for half a second.
export function watchProgress() {
  const progress = byId('progress');
  let timer;
  let began;
  watchCalls((count) => {
    if (count === 0) {
      clearTimeout(timer);
      timer = undefined;
      progress.hidden = true;
    } else if (!timer) {
      began = performance.now();
      const tick = () => {
        progress.hidden = false;
        progress.lastElementChild.textContent = `computing, ${((performance.now() - began) / 1000).toFixed(1)} s`;
        timer = setTimeout(tick, 100);
      };
      timer = setTimeout(tick, 500);
    }
  });
}
