// What went wrong, with a way to try again; the token that a server asks for; and that something takes its time.

import { setToken, watchCalls, wasAborted } from './api.js';
import { byId, make } from './elements.js';

const TITLES = {
  unreachable: 'The server does not answer',
  invalid_argument: 'The server refused this request',
  resource_exhausted: 'The server is full',
  too_large: 'This is too large to send from a page',
  unavailable: 'The server takes no calls now',
  deadline_exceeded: 'That took too long',
  not_found: 'There is no such layer',
  unauthenticated: 'This server wants a token',
  permission_denied: 'This caller may not do that',
};

function titleOf({ code, retryDelay }) {
  // Who is full says when to come back; what will never fit has no such time.
  if (code === 'resource_exhausted' && !retryDelay) return 'This is more than the server takes';
  return TITLES[code] ?? (code ? `The call failed: ${code}` : 'This cannot be asked');
}

// What a header carries: fetch throws at most of the rest as if the server were gone.
const SENDABLE = /^[!-~]+$/;

function violations(error) {
  return make(
    'ul',
    {},
    ...error.violations.map(({ field, description }) => make('li', {}, make('code', {}, field), ` ${description}`)),
  );
}

function tokenForm(retry) {
  const input = make('input', { type: 'password', autocomplete: 'off', id: 'token', required: '' });
  const form = make(
    'form',
    { class: 'token' },
    make('label', { for: 'token' }, 'Token'),
    input,
    make('button', { type: 'submit' }, 'Use it'),
  );
  const hint = make('p', { class: 'hint' }, 'Sent as “Authorization: Bearer”. Kept in memory only.');
  form.append(hint);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const token = input.value.trim();
    if (SENDABLE.test(token)) {
      setToken(token);
      retry();
      return;
    }
    hint.textContent = 'A token has only plain Latin letters, digits and signs, without spaces. This one has others.';
    input.setAttribute('aria-invalid', 'true');
    input.focus();
  });
  return form;
}

// An alert in place of what could not be shown.
export function showError(root, error, retry) {
  if (wasAborted(error)) return;
  if (!error.code) console.debug(error);
  // An experiment's stands under an h2, the page's under the h1.
  const level = root.closest('.experiments') ? 'h3' : 'h2';
  const parts = [make(level, {}, titleOf(error))];
  if (error.violations?.length) parts.push(violations(error));
  else parts.push(make('p', {}, error.message));
  if (error.retryDelay) parts.push(make('p', {}, `It asks to come back in ${parseFloat(error.retryDelay)} s.`));
  if (error.code === 'unauthenticated') parts.push(tokenForm(retry));
  // What the page refuses it would refuse again.
  if (error.code && error.code !== 'too_large') {
    const button = make('button', { type: 'button', class: 'retry' }, 'Try again');
    button.addEventListener('click', retry);
    parts.push(button);
  }
  // What had the focus here goes: it passes to what is in its place.
  const focused = root.contains(document.activeElement);
  root.replaceChildren(...parts);
  root.hidden = false;
  root.tabIndex = -1;
  if (focused) (root.querySelector('input, button') ?? root).focus();
}

export function clearError(root) {
  if (root.contains(document.activeElement))
    (root.closest('details')?.querySelector('summary') ?? byId('map-section')).focus({ preventScroll: true });
  root.hidden = true;
  root.replaceChildren();
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
