import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { FlashStats, RequestRecord } from '../src/protocol';
import { decodeSpeed, MISSING, statusDetails, statusText, STOPPED } from '../src/status_text';

const MODEL = {
  name: '/models/some.gguf',
  path: '/models/some.gguf',
  backend: 'avx2',
  contextTokens: 8192,
  memoryBytes: 2 ** 30,
  threads: 2,
  loadMs: 10,
  notices: ['the drafter is another model’s'],
};

test('a ready server shows its model and how fast it writes', () => {
  const status = { ...STOPPED, state: 'ready' as const, message: 'ready', model: MODEL };
  assert.equal(statusText(status, undefined), '$(zap) some');
  assert.equal(statusText(status, 76.6), '$(zap) some 77 tok/s');
  assert.deepEqual(statusDetails(status).slice(3), [
    'context: 8192 tokens, memory: 1024 MiB',
    'the drafter is another model’s',
  ]);
});

test('other states say what they are and how far', () => {
  const loading = { ...STOPPED, state: 'loading' as const, fraction: 0.459 };
  assert.equal(statusText(loading, undefined), '$(loading~spin) flash-lsp 45 %');
  assert.match(statusText({ ...STOPPED, state: 'disabled' }, 10), /paused/);
  assert.match(statusText({ ...STOPPED, state: 'failed' }, 10), /failed/);
  assert.match(statusText(MISSING, undefined), /install/);
  assert.deepEqual(statusDetails(STOPPED), ['the server is not running']);
});

test('the speed is that of completions the model wrote', () => {
  const of = (...recent: RequestRecord[]) => decodeSpeed({ recent } as unknown as FlashStats);
  const cached = { outcome: 'offered-from-cache', totalMs: 1 };
  assert.equal(of(cached), undefined);
  const written = { outcome: 'offered', totalMs: 600, tokens: 20, decodeMs: 400 };
  assert.equal(of(cached, written, { ...written, tokens: 10, decodeMs: 200 }), 50);
});
