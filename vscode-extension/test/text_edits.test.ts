import assert from 'node:assert/strict';
import { test } from 'node:test';

import { applied, editsOf, wholeLines, withLines } from '../src/text_edits';

const at = (line: number, character: number) => ({ line, character });
const edit = (from: [number, number], to: [number, number], newText: string) => ({
  range: { start: at(...from), end: at(...to) },
  newText,
});

test('edits are those of the text before, in whatever order they come', () => {
  const edits = [edit([2, 0], [3, 0], 'C\n'), edit([0, 0], [0, 1], 'A')];
  assert.equal(applied('a\nb\nc\nd\n', edits), 'A\nb\nC\nd\n');
});

test('lines end as in any system, and a range may lie behind the end', () => {
  assert.equal(applied('a\r\nb\rc', [edit([2, 0], [9, 0], 'C\n')]), 'a\r\nb\rC\n');
});

test('positions count UTF-16 units', () => {
  assert.equal(applied('😀b', [edit([0, 2], [0, 3], 'x')]), '😀x');
});

test('an answer has its edits with a version or without', () => {
  const edits = [edit([0, 0], [0, 0], 'x')];
  const textDocument = { uri: 'file:///a', version: 7 };
  const versioned = editsOf({ documentChanges: [{ textDocument, edits }] });
  assert.deepEqual(versioned, { version: 7, edits });
  assert.deepEqual(editsOf({ changes: { 'file:///a': edits } }), { version: null, edits });
  assert.deepEqual(editsOf({}), { version: null, edits: [] });
});

test('a selection that ends at the start of a line does not touch it', () => {
  assert.deepEqual(wholeLines({ start: at(1, 3), end: at(3, 0) }), { first: 1, end: 3 });
  assert.deepEqual(wholeLines({ start: at(1, 0), end: at(1, 0) }), { first: 1, end: 2 });
});

test('lines are put in the place of others', () => {
  assert.equal(withLines('a\nb\nc\n', 1, 2, 'x\ny\n'), 'a\nx\ny\nc\n');
  assert.equal(withLines('a\nb', 1, 2, 'x\n'), 'a\nx\n');
});
