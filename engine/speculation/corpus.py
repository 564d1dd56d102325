"""The tokens that a continuation may be copied from, and where the latest ones occurred before.

Nothing is indexed: comparing every token with the last one takes NumPy about 5 us per 8k tokens and
step, where a suffix automaton in Python would take 25 ms to build, for every request anew.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEPARATOR = -1  # between texts; nothing is matched or copied across it
MOST_MATCH = 32  # longer matches say no more

Ints = NDArray[np.intp]


class Match(NamedTuple):
    """The last `length` tokens occurred before; `starts` (ascending) are where they went on."""

    length: int
    starts: Ints


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

    def matches(self, low: int = 0, high: int | None = None) -> list[Match]:
        """Earlier occurrences of the latest tokens that end in [low, high), by length from 1 up."""
        ids, n = self._ids, self.n
        high = n - 1 if high is None else min(high, n - 1)
        if ids[n - 1] == SEPARATOR:
            return []
        starts = np.flatnonzero(ids[low:high] == ids[n - 1]) + (low + 1)
        starts = starts[ids[starts] != SEPARATOR]
        found: list[Match] = []
        # Index 0 holds a separator, so no match reaches across the beginning.
        while len(starts) and len(found) < MOST_MATCH:
            length = len(found) + 1
            if len(starts) == 1:  # the most frequent case, which NumPy is slow at
                longest = self._n_matching(int(starts[0]))
                return found + [Match(n, starts) for n in range(length, longest + 1)]
            found.append(Match(length, starts))
            earlier = ids[n - 1 - length]
            if earlier == SEPARATOR:
                break
            starts = starts[ids[starts - 1 - length] == earlier]
        return found

    def _n_matching(self, start: int) -> int:
        """How many tokens before `start` are the latest ones."""
        most = min(MOST_MATCH, start - 1)
        latest = self.slice(self.n - most, self.n)[::-1]
        if SEPARATOR in latest:
            latest = latest[: latest.index(SEPARATOR)]
        return n_common(self.slice(start - most, start)[::-1], latest)

    def other_starts(self, starts: Ints, token: int) -> Ints:
        """Those of `starts` that go on otherwise than with `token`."""
        return starts[self._ids[starts] != token]

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
