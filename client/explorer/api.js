// Calls over the Connect protocol: one POST per call, protobuf's JSON mapping. Aborting a call's signal cancels it.

import { bytes } from './describe.js';

const SERVICES = {
  Attend: 'AttentionService',
  PlanAttention: 'AttentionService',
  CompareAlgorithms: 'AttentionService',
  GetDemo: 'AttentionService',
  GetServerInfo: 'AttentionService',
  ListLayers: 'LayerService',
  AblateHeads: 'AnalysisService',
  AnalyzeCircuits: 'AnalysisService',
  TraceStack: 'AnalysisService',
};

// Of a call in JSON, as the server takes it (docs/web.md). It would refuse more as it refuses when it is full.
const MOST_BYTES = 8 * 2 ** 20;

// Also for what would be made first: numbers without bounds take a page's memory before they are sent.
export function checkSize(size) {
  if (size <= MOST_BYTES) return;
  const words = `It would be ${bytes(size)} of JSON; the server takes ${bytes(MOST_BYTES)}.`;
  throw new CallError('too_large', `${words} Take fewer words, a smaller width or a shorter file; over gRPC it takes more.`);
}

export const procedure = (method) => `headlight.v1.${SERVICES[method]}/${method}`;

// What the server refused, or that it did not answer.
export class CallError extends Error {
  constructor(code, message, details = []) {
    super(message);
    this.code = code;
    const find = (type) => details.find((detail) => detail.type === type)?.debug ?? {};
    this.reason = find('google.rpc.ErrorInfo').reason ?? '';
    this.violations = find('google.rpc.BadRequest').fieldViolations ?? [];
    this.retryDelay = find('google.rpc.RetryInfo').retryDelay ?? '';
  }
}

let token = '';
// In memory only: a reload forgets it.
export const setToken = (given) => {
  token = given;
};
export const hasToken = () => token !== '';

const watchers = [];
let underWay = 0;
export const watchCalls = (watcher) => watchers.push(watcher);
function count(change) {
  underWay += change;
  for (const watcher of watchers) watcher(underWay);
}

const flights = new Map();
// A signal for the calls of one part of the page; what that part asked for before is aborted.
export function replaceFlight(part) {
  flights.get(part)?.abort();
  const flight = new AbortController();
  flights.set(part, flight);
  return flight.signal;
}

export const wasAborted = (error) => error?.name === 'AbortError';

async function failure(response) {
  const text = await response.text();
  try {
    const { code, message, details } = JSON.parse(text);
    if (code) {
      const error = new CallError(code, message ?? '', details);
      error.retryDelay ||= response.headers.get('retry-after') ?? '';
      return error;
    }
  } catch {
    // Not of the protocol: a proxy's page, or nothing.
  }
  const code = response.status === 401 ? 'unauthenticated' : 'unknown';
  return new CallError(code, `HTTP ${response.status} ${text.slice(0, 200)}`.trim());
}

async function post(method, request, signal) {
  const headers = { 'content-type': 'application/json', 'connect-protocol-version': '1' };
  if (token) headers.authorization = `Bearer ${token}`;
  const body = new Blob([JSON.stringify(request)]);
  checkSize(body.size);
  const options = { method: 'POST', headers, body, signal };
  let response;
  try {
    response = await fetch(`/${procedure(method)}`, options);
  } catch (error) {
    if (wasAborted(error)) throw error;
    throw new CallError('unreachable', 'The server does not answer. It may have been stopped, or the network is gone.');
  }
  if (!response.ok) throw await failure(response);
  return response.json();
}

export async function call(method, request, signal) {
  count(+1);
  try {
    return await post(method, request, signal);
  } finally {
    count(-1);
  }
}
