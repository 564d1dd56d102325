"""The tokens that a continuation may be copied from, and where the latest ones occurred before.

Nothing is indexed: comparing every token with the last one takes native code a few microseconds per
8k tokens and step, where a suffix automaton would have to be built for every request anew.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine import _native

SEPARATOR = -1  # between texts; nothing is matched or copied across it
MOST_MATCH = 32  # longer matches say no more


class Occurrences(NamedTuple):
    """Earlier occurrences of the latest tokens, by where they went on: of the longest ones the
    latest, and the one nearest to a place; and the longest that went on otherwise than the latest
    did, the latest of them, which has length 0 where there is none."""

    length: int
    latest: int
    nearest: int
    other_length: int
    other: int


class Corpus:
    """Texts of token ids, one after another; the last one grows."""

    def __init__(self, texts: Sequence[Sequence[int]], room: int) -> None:
        """`room` is how many tokens may be appended."""
        parts = [part for text in texts for part in ((SEPARATOR,), text)]
        known = np.concatenate([np.asarray(part, np.int32) for part in parts])
        self.n = len(known)
        self._ids = np.concatenate((known, np.full(room, SEPARATOR, np.int32)))

    def append(self, tokens: Sequence[int]) -> None:
        self._ids[self.n : self.n + len(tokens)] = tokens
        self.n += len(tokens)

    def __getitem__(self, idx: int) -> int:
        return int(self._ids[idx])

    def slice(self, start: int, stop: int) -> list[int]:
        return self._ids[start:stop].tolist()

    def find(self, low: int = 0, high: int | None = None, near: int = 0) -> Occurrences | None:
        """Earlier occurrences of the latest tokens that end in [low, high)."""
        high = self.n if high is None else high
        found = _native.find_occurrences(self._ids, self.n, low, high, near, MOST_MATCH)
        return Occurrences(*found) if found[0] else None

    def run(self, start: int, n_tokens: int) -> list[int]:
        """What followed at `start`, up to the end of its text.

        At the end of the corpus it goes on with itself: text that repeats will repeat again.
        """
        stop = min(start + n_tokens, self.n)
        tokens = self.slice(start, stop)
        if SEPARATOR in tokens:
            return tokens[: tokens.index(SEPARATOR)]
        if stop == self.n:
            tokens *= -(-n_tokens // max(len(tokens), 1))
        return tokens[:n_tokens]


def n_common(left: Sequence[int], right: Sequence[int]) -> int:
    """Tokens with which both begin."""
    n = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        n += 1
    return n
