import assert from 'node:assert/strict';
import { test } from 'node:test';

import { acceptedUnits, isContinuation, type Offer } from '../src/offers';

const offer = (offset: number, text: string, uri = 'file:///a'): Offer => ({
  uri,
  offset,
  text,
  item: {},
});

test('what is left after typing some of a suggestion is the same suggestion', () => {
  assert.ok(isContinuation(offer(5, 'return x'), offer(8, 'urn x'), 'ret'));
  assert.ok(isContinuation(offer(5, 'return x'), offer(5, 'return x'), ''));
});

test('another text, place or document is a new suggestion', () => {
  assert.ok(!isContinuation(undefined, offer(5, 'x'), ''));
  assert.ok(!isContinuation(offer(5, 'return x'), offer(8, 'urn y'), 'ret'));
  assert.ok(!isContinuation(offer(5, 'return x'), offer(5, 'return x', 'file:///b'), ''));
  assert.ok(!isContinuation(offer(8, 'urn x'), offer(5, 'return x'), ''));
});

test('what was accepted is counted from where the suggestion began', () => {
  assert.equal(acceptedUnits(offer(10, '😀 done now'), 12, '😀'), 2);
  assert.equal(acceptedUnits(offer(10, '😀 done now'), 17, '😀 done'), 7);
});

test('nothing was accepted of a suggestion that says something else', () => {
  assert.equal(acceptedUnits(offer(10, 'return'), 13, 'res'), 0);
  assert.equal(acceptedUnits(offer(10, 'return'), 10, ''), 0);
});
