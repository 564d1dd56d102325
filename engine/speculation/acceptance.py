"""How often drafts of a kind turned out right: running shares that forget slowly."""

from collections.abc import Sequence
from math import inf, log

_MOST_RATE = 0.995  # nothing is certain: a path of any length has an end to its worth


class RunningRates:
    """A share of successes for each of several cases, begun with a guess that counts as `weight`
    trials; after `memory` trials the older ones fade."""

    def __init__(self, guesses: Sequence[float], weight: float = 6.0, memory: float = 128.0):
        self._hits = [guess * weight for guess in guesses]
        self._trials = [weight] * len(guesses)
        self._memory = memory

    def add(self, case: int, n_trials: float, n_hits: float) -> None:
        self._hits[case] += n_hits
        self._trials[case] += n_trials
        if self._trials[case] > self._memory:
            fade = self._memory / self._trials[case]
            self._hits[case] *= fade
            self._trials[case] *= fade

    def rate(self, case: int) -> float:
        return min(self._hits[case] / self._trials[case], _MOST_RATE)


# Match lengths are pooled: 0 1 2 3 4 5-6 7-9 10-14 15-22 23-31 32 and more.
_POOL_STARTS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 23, 32)


class MatchRates:
    """How often the token that followed a match of some length follows again."""

    def __init__(self, guesses: Sequence[float]) -> None:
        """`guesses` has one share for each pool of lengths."""
        assert len(guesses) == len(_POOL_STARTS)
        self._rates = RunningRates(guesses)
        longest = _POOL_STARTS[-1]
        self._pool_of = [sum(start <= n for start in _POOL_STARTS) - 1 for n in range(longest + 1)]
        self._logs = [log(self._rates.rate(pool)) for pool in self._pool_of]

    def log_probs(self, length: int, n_tokens: int, least: float = -inf) -> list[float]:
        """Conditional log-probabilities of a run after a match: each token lengthens the match.

        There are at most `n_tokens`, the first of them and those that add up to at least `least`.
        """
        logs = self._logs[min(length, len(self._logs) - 1) :][:n_tokens]
        logs += [self._logs[-1]] * (n_tokens - len(logs))
        total = 0.0
        for i, log_prob in enumerate(logs):
            total += log_prob
            if total < least:
                return logs[: max(i, 1)]
        return logs

    def observe(self, length: int, n_right: int, *, is_cut_short: bool) -> None:
        """A run after a match of `length` was right for `n_right` tokens, then wrong, or
        `is_cut_short`: nobody knows."""
        longest = len(self._pool_of) - 1
        touched: set[int] = set()
        for i in range(n_right + (not is_cut_short)):
            pool = self._pool_of[min(length + i, longest)]
            self._rates.add(pool, 1.0, float(i < n_right))
            touched.add(pool)
        for pool in touched:
            value = log(self._rates.rate(pool))
            for n in range(_POOL_STARTS[pool], longest + 1):
                if self._pool_of[n] != pool:
                    break
                self._logs[n] = value
