import assert from 'node:assert/strict';
import { test } from 'node:test';

import { asOneLine, changedPart } from '../src/changed_part';

test('equal beginnings and ends are left out, and nothing twice', () => {
  assert.deepEqual(changedPart('total(xs)', 'sum(xs)'), { head: 0, tail: 4 });
  assert.deepEqual(changedPart('aa', 'aaa'), { head: 2, tail: 0 });
  assert.deepEqual(changedPart('same', 'same'), { head: 4, tail: 0 });
  assert.deepEqual(changedPart('', 'new'), { head: 0, tail: 0 });
});

test('a decoration is one line whose spaces are kept', () => {
  assert.equal(asOneLine('a b\r\n\tc'), 'a\u00a0b\u00a0⏎\u00a0\u00a0\u00a0c');
});
