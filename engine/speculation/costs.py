"""How long a step takes by its number of rows: measured once per machine and model, kept on disk,
corrected by every real step."""

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from math import inf
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import platformdirs

from engine.fingerprint import fingerprint

MOST_ROWS = 64
ANCHOR_ROWS = (1, 2, 4, 8, 16, 32, 64)  # between them, costs are interpolated
_MEASURING_ORDER = (1, 8, 32, 4, 16, 64, 2)
_MEASURING_S = 0.45  # as much as a first start may be delayed
_LEAST_RUNS, _MOST_RUNS = 3, 5
_LEAST_KEPT_BYTES = 32 * 2**20  # of a model
_CORRECTED_FROM_STEPS = 500
# How far a real step moves its own cost, down or up: other work on the machine makes a step slower
# than it need be, nothing makes it faster. And the part of that by which it moves all others: a
# machine that is busy or warm is slower at everything. It must be a part of the same share, or
# noise alone would carry costs that no step corrects ever further up.
_DOWN_SHARE, _UP_SHARE = 0.5, 0.3
_COMMON_PART = 0.4
_ASSUMED_GROWTH = 1.3  # of 32 rows on a GPU, where weights are what a step waits for
_MOST_SURPRISE = 1.5  # a step may be interrupted: one alone proves little


class StepCosts:
    """Milliseconds of a step of 1..64 rows."""

    def __init__(
        self,
        anchors_ms: Mapping[int, float],
        *,
        is_guess: bool = False,
        most_rows: int = MOST_ROWS,
    ) -> None:
        """`anchors_ms` has 1 and any others of ANCHOR_ROWS; in between and beyond, costs grow in
        lines.

        Of a guess, only the proportions count: the first real step sets the scale. Steps of more
        than `most_rows` are not to be relied on."""
        rows = sorted(anchors_ms)
        known = np.interp(ANCHOR_ROWS, rows, [anchors_ms[n] for n in rows]).tolist()
        for i in range(ANCHOR_ROWS.index(rows[-1]) + 1, len(ANCHOR_ROWS)):
            known[i] = anchors_ms[rows[-1]] + _last_slope(anchors_ms) * (ANCHOR_ROWS[i] - rows[-1])
        # More rows never take less time, nor more than as many steps of one: where they seem to,
        # the clock was disturbed.
        for i in reversed(range(len(known) - 1)):
            known[i] = min(known[i], known[i + 1])
        known = [min(ms, n * known[0]) for n, ms in zip(ANCHOR_ROWS, known, strict=True)]
        self._anchors = known
        self.is_guess, self.most_rows = is_guess, most_rows
        self.n_observed = 0
        self._tabulate()

    def ms(self, n_rows: int) -> float:
        return self.by_rows[n_rows]

    def observe(self, n_rows: int, ms: float) -> None:
        """A real step of `n_rows` took `ms`: believe it a little."""
        self.n_observed += 1
        surprise = ms / self.by_rows[n_rows]
        if self.is_guess and self.n_observed == 1:
            self._anchors = [anchor * surprise for anchor in self._anchors]
            self._tabulate()
            return
        share = _DOWN_SHARE if surprise < 1 else _UP_SHARE
        surprise = min(surprise, _MOST_SURPRISE)
        for i, rows in enumerate(ANCHOR_ROWS):
            part = _COMMON_PART + (1 - _COMMON_PART) * _nearness(i, rows, n_rows)
            self._anchors[i] *= surprise ** (share * part)
        self._tabulate()

    def adopt(self, measured: "StepCosts") -> None:
        """Become `measured`, for all who hold these costs."""
        self._anchors = list(measured._anchors)
        self._tabulate()
        self.is_guess, self.most_rows = measured.is_guess, measured.most_rows
        self.n_observed = 0

    def anchors_ms(self) -> dict[int, float]:
        return dict(zip(ANCHOR_ROWS, self._anchors, strict=True))

    def _tabulate(self) -> None:
        """By number of rows: what a step costs, and what a row more does at least from there on."""
        anchors = self._anchors
        self.by_rows = [0.0]
        slopes: list[float] = []
        for i, (low, high) in enumerate(pairwise(ANCHOR_ROWS)):
            slope = (anchors[i + 1] - anchors[i]) / (high - low)
            self.by_rows += [anchors[i] + slope * k for k in range(high - low)]
            slopes += [slope] * (high - low)
        self.by_rows.append(anchors[-1])
        least = list(accumulate(reversed(slopes), min))
        self.least_row_ms = [0.0, *reversed(least), 0.0]
        self.table = np.array([self.by_rows, self.least_row_ms])  # as native code takes them


def _last_slope(anchors_ms: Mapping[int, float]) -> float:
    """Milliseconds per row between the two largest anchors."""
    if len(anchors_ms) == 1:
        ((rows, ms),) = anchors_ms.items()
        return ms / rows
    before, last = sorted(anchors_ms)[-2:]
    return max(anchors_ms[last] - anchors_ms[before], 0.0) / (last - before)


def _nearness(i: int, rows: int, n_rows: int) -> float:
    """1 at anchor i, falling to 0 at its neighbours."""
    if n_rows == rows:
        return 1.0
    j = i + 1 if n_rows > rows else i - 1
    if not 0 <= j < len(ANCHOR_ROWS):
        return 0.0
    other = ANCHOR_ROWS[j]
    return max(1 - abs(n_rows - rows) / abs(other - rows), 0.0)


def guessed_costs() -> StepCosts:
    """Costs of no machine in particular, for who only observes."""
    return StepCosts({1: 1.0}, is_guess=True)


def assumed_costs(tree_budget: int) -> StepCosts:
    """A GPU's before it is measured: up to `tree_budget` drafts cost little, more are not tried."""
    return StepCosts({1: 1.0, 32: _ASSUMED_GROWTH}, is_guess=True, most_rows=1 + tree_budget)


def measure(step: Callable[[int], None], most_rows: int) -> StepCosts:
    """Times `step(n_rows)` within about half a second.

    Costs grow nearly in a line, so a slow model, which leaves no time for all anchors, is measured
    far apart first. The least of a few runs counts: whatever else the machine does adds to it.
    """
    step(1)  # brings the weights into memory
    started = perf_counter()
    best: dict[int, float] = {}
    for n_runs in range(_MOST_RUNS):
        for n_rows in (n for n in _MEASURING_ORDER if n <= most_rows):
            before = perf_counter()
            step(n_rows)
            after = perf_counter()
            best[n_rows] = min(best.get(n_rows, inf), (after - before) * 1000)
            if after - started > _MEASURING_S * (n_runs + 1) / _LEAST_RUNS and len(best) > 1:
                break
        if perf_counter() - started > _MEASURING_S * (_LEAST_RUNS - 1) / _LEAST_RUNS:
            break
    return StepCosts(best)


class CostFile:
    """Where the costs of one model on one machine are kept."""

    def __init__(self, model: Path, machine: str, folder: Path | None = None) -> None:
        """`machine` says all that the costs depend on beside the model's file."""
        folder = folder or Path(platformdirs.user_cache_dir("flash-lsp")) / "step_costs"
        self._is_kept = model.stat().st_size >= _LEAST_KEPT_BYTES
        self._path = folder / f"{fingerprint(model, machine)}.json"

    def load(self) -> StepCosts | None:
        """None where nothing usable is kept."""
        try:
            anchors = msgspec.json.decode(self._path.read_bytes(), type=dict[int, float])
        except (OSError, msgspec.DecodeError):
            return None
        if set(anchors) != set(ANCHOR_ROWS) or not all(0 < ms < 1e6 for ms in anchors.values()):
            return None
        return StepCosts(anchors)

    def store(self, costs: StepCosts) -> None:
        """Keeps them; a folder that cannot be written costs a measurement each time, no more.

        Those of small models are not worth a file: they are measured in no time."""
        if not self._is_kept:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(costs.anchors_ms()))
            part.replace(self._path)
        except OSError:
            return


def measured_costs(step: Callable[[int], None], most_rows: int, file: CostFile) -> StepCosts:
    """The costs kept in `file`, or those of steps up to `most_rows` measured now and kept."""
    costs = file.load()
    if costs is None:
        costs = measure(step, most_rows)
        file.store(costs)
    return costs


def keep_corrected(costs: StepCosts, file: CostFile) -> None:
    """Replaces what was measured once by what many real steps made of it."""
    if not costs.is_guess and costs.n_observed >= _CORRECTED_FROM_STEPS:
        file.store(costs)
