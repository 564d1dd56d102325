"""How the next token is chosen from the logits. Numbers in, an id out: knows no model."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.config import SamplingConfig
from engine.errors import NativeError, RequestError

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.integer]
Values = npt.NDArray[np.float64]

MOST_CANDIDATES = 64  # for which a backend is asked instead of all logits


def validate(config: SamplingConfig) -> None:
    """Raise RequestError for settings outside their range."""
    expectations = (
        ("temperature", 0 <= config.temperature < math.inf, "a number of at least 0"),
        ("top_k", config.top_k >= 0, "at least 0, where 0 means no limit"),
        ("top_p", 0 < config.top_p <= 1, "above 0 and at most 1"),
        ("min_p", 0 <= config.min_p <= 1, "between 0 and 1"),
        ("seed", config.seed >= 0, "at least 0"),
    )
    for name, is_met, expected in expectations:
        if not is_met:
            raise RequestError(f"sampling.{name} is {getattr(config, name)}, expected {expected}")


class Distribution(NamedTuple):
    """The ids that may be drawn and their probabilities, which add up to 1."""

    ids: Ids
    probabilities: Values


class Sampler:
    """Chooses tokens for one request: the same seed and logits give the same ids."""

    def __init__(self, config: SamplingConfig) -> None:
        validate(config)
        self._config = config
        self._generator = np.random.Generator(np.random.PCG64(config.seed))

    @property
    def is_greedy(self) -> bool:
        """Whether `pick` is the argmax, so that the logits need not be fetched to find it."""
        return self._config.temperature == 0

    @property
    def n_candidates(self) -> int | None:
        """How many of the best logits are enough to pick from; None where all are looked at."""
        is_few = 0 < self._config.top_k <= MOST_CANDIDATES
        return self._config.top_k if is_few and not self.is_greedy else None

    def pick(self, logits: Logits, allowed: Ids | None = None) -> int:
        """Choose an id from logits (V,), or among the `allowed` ones: at least one, ascending.

        Greedy choice takes the lowest id among equals; sampling draws one random number per call.
        Raises NativeError if the best logit is not a finite number.
        """
        if self.is_greedy:
            return _greedy(logits, allowed)
        return self._draw(self.distribution(logits, allowed))

    def pick_among(self, ids: Ids, logits: Logits) -> int:
        """As `pick` from logits (V,) whose best are these: `n_candidates` of them, or all."""
        return self._draw(self.distribution_of(ids, logits))

    def _draw(self, distribution: Distribution) -> int:
        ids, probabilities = distribution
        cumulative = np.cumsum(probabilities)
        point = self._generator.random() * float(cumulative[-1])
        drawn = cumulative.searchsorted(point, side="right")
        # Rounding may carry the draw past the end, where ids of probability 0 may follow.
        last = cumulative.searchsorted(float(cumulative[-1]), side="left")
        return int(ids[min(drawn, last)])

    def distribution(self, logits: Logits, allowed: Ids | None = None) -> Distribution:
        """What `pick` draws from at a temperature above 0; the ids ascend."""
        config = self._config
        ids = np.arange(len(logits)) if allowed is None else allowed
        kept = logits[ids].astype(np.float64)
        _check_best(kept.max())
        if 0 < config.top_k < len(ids):
            ids, kept = _top_k(ids, kept, config.top_k)
        return self._filtered(ids, kept)

    def distribution_of(self, ids: Ids, logits: Logits) -> Distribution:
        """What `pick_among` draws from: the same numbers in the same order."""
        order = np.argsort(ids)
        kept = logits[order].astype(np.float64)
        _check_best(kept.max())
        return self._filtered(ids[order], kept)

    def _filtered(self, ids: Ids, kept: Values) -> Distribution:
        """What is left of the best to draw from; the ids ascend."""
        config = self._config
        if config.top_p < 1:
            ids, kept = _top_p(ids, kept, config.top_p)
        if config.min_p > 0:
            is_kept = kept >= kept.max() + math.log(config.min_p)
            ids, kept = ids[is_kept], kept[is_kept]
        return Distribution(ids, _softmax(kept, config.temperature))


def _greedy(logits: Logits, allowed: Ids | None) -> int:
    if allowed is None:
        best_id = int(np.argmax(logits))
    else:
        best_id = int(allowed[np.argmax(logits[allowed])])  # the lowest id wins among equals
    _check_best(logits[best_id])
    return best_id


def _check_best(best: np.floating) -> None:
    """Catch NaN, which both `max` and `argmax` prefer to any number, and infinities."""
    if not math.isfinite(best):
        raise NativeError("logits", f"the best logit is {best}, expected a finite number")


def _top_k(ids: Ids, kept: Values, k: int) -> tuple[Ids, Values]:
    """Keep the k best; among equals at the edge, the lowest ids."""
    edge = np.partition(kept, len(kept) - k)[len(kept) - k]
    above = np.flatnonzero(kept > edge)
    equal = np.flatnonzero(kept == edge)[: k - len(above)]
    chosen = np.sort(np.concatenate((above, equal)))
    return ids[chosen], kept[chosen]


def _top_p(ids: Ids, kept: Values, p: float) -> tuple[Ids, Values]:
    """Keep the fewest, best first, whose probabilities reach p together."""
    order = np.argsort(-kept, kind="stable")
    cumulative = np.cumsum(_softmax(kept[order], temperature=1.0))
    n_kept = int(cumulative.searchsorted(p * float(cumulative[-1]), side="left")) + 1
    chosen = np.sort(order[:n_kept])
    return ids[chosen], kept[chosen]


def _softmax(kept: Values, temperature: float) -> Values:
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf
        weights = np.exp((kept - kept.max()) / temperature)
    return weights / weights.sum()
