import assert from 'node:assert/strict';
import { test } from 'node:test';

import { statsPage } from '../src/stats_text';

const STATS = {
  engine: null,
  outcomes: { '<b>odd</b>': 2 },
  nShown: 1234,
  nAccepted: 5,
  nPartiallyAccepted: 1,
  nAcceptedChars: 80,
  nKeptChecked: 4,
  keptRate: 0.873,
  edits: {},
  nextEdits: {},
  recent: [{ outcome: 'offered', totalMs: 257.25, tokens: 12 }],
};

test('counts are shown, and no text becomes markup', () => {
  const page = statsPage(STATS);
  assert.match(page, /<td>shown<\/td><td>1,234<\/td>/);
  assert.match(page, /87 % of 4 looked at/);
  assert.match(page, /<td>257.3<\/td>/);
  assert.ok(!page.includes('<b>') && page.includes('&lt;b&gt;odd'));
  assert.ok(!page.includes('<script'));
});
