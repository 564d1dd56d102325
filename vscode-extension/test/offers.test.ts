import assert from 'node:assert/strict';
import { test } from 'node:test';

import { acceptedUnits, isContinuation, isWhole, type Offer } from '../src/offers';

const offer = (offset: number, text: string, uri = 'file:///a'): Offer => ({
  uri,
  offset,
  text,
  item: { insertText: text, command: { command: 'accepted' } },
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
  assert.equal(acceptedUnits(offer(10, '😀 done now'), '😀'), 2);
  assert.equal(acceptedUnits(offer(10, '😀 done now'), '😀 done'), 7);
});

test('nothing was accepted of a suggestion that says something else', () => {
  assert.equal(acceptedUnits(offer(10, 'return'), 'res'), 0);
  assert.equal(acceptedUnits(offer(10, 'return'), ''), 0);
});

test('a suggestion is accepted when all of it is there', () => {
  assert.ok(isWhole(offer(10, 'a\nb'), 'a\nb'));
  assert.ok(!isWhole(offer(10, 'a\nb'), 'a'));
  assert.ok(!isWhole(offer(10, ''), ''));
});
