"""What steps, drafts and prompts take on a device: measured once within two seconds, when nothing
else is asked for, and kept on disk for whatever the times depend on.

Runs trials it is given and knows no backend. Without a calibration, a GPU's first steps rest on the
table of its architecture (backends/gpu/defaults.py).
"""

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

import msgspec
import platformdirs

from engine.program import Program
from engine.speculation.costs import ANCHOR_ROWS, StepCosts

BUDGET_S = 2.0
_MOST_ROUNDS = 6
# Step sizes whose speeds differ by less count as equally fast, and the largest of them is taken:
# after a long text, where attention takes its part, larger steps are worth more than from an empty
# one, where they are timed.
_NOTICEABLE = 1.03
_CHEAP = 1.25  # of a step of one row
_MOST_FILES = 64

Kind = Literal["step", "draft", "prefill"]


class Trial(NamedTuple):
    """A step that verifies so many rows, a block of so many drafts, or so many tokens read."""

    kind: Kind
    n_rows: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds by rows, the least of a few tries. `device` and `model` are for people."""

    device: str
    model: str
    step_ms: dict[int, float]
    draft_ms: dict[int, float] = {}
    prefill_ms: dict[int, float] = {}
    spent_s: float = 0.0

    @property
    def cheap_rows(self) -> int:
        """The rows of the largest step that takes at most a quarter more than a step of one."""
        costs = StepCosts(self.step_ms)
        n_rows = range(1, max(self.step_ms) + 1)
        return max(n for n in n_rows if costs.ms(n) <= _CHEAP * costs.ms(1))

    def prefill_rows(self, default: int) -> int:
        """Rows of the steps that read prompts fastest, at most `default`, the largest where several
        are about as fast; `default` where there is nothing to compare."""
        speeds = {n: n / ms for n, ms in self.prefill_ms.items() if n <= default}
        if len(speeds) < 2:
            return default
        fastest = max(speeds.values())
        return max(n for n, speed in speeds.items() if _NOTICEABLE * speed >= fastest)


class Calibrator:
    """Times trials in turns, one at a call, until they are done or the time is used up."""

    def __init__(
        self,
        trials: Mapping[Trial, Callable[[], None]],
        clock: Callable[[], float] = perf_counter,
        budget_s: float = BUDGET_S,
    ) -> None:
        """The first trial is made in any case; the others should come in the order of their
        worth."""
        self._trials, self._clock, self._budget_s = trials, clock, budget_s
        self._left = [trial for _ in range(_MOST_ROUNDS) for trial in trials]
        self._latest: dict[Trial, float] = {}
        self._best: dict[Trial, float] = {}
        self.spent_s = 0.0

    def run_some(self) -> bool:
        """Makes the next trial; False once there is none."""
        while self._left:
            trial = self._left.pop(0)
            if self._latest and self.spent_s + self._expected_s(trial) > self._budget_s:
                continue
            began = self._clock()
            self._trials[trial]()
            took = self._clock() - began
            self.spent_s += took
            self._latest[trial] = took
            self._best[trial] = min(self._best.get(trial, inf), took)
            return True
        return False

    def ms(self, kind: Kind) -> dict[int, float]:
        """The least of each trial, by rows."""
        return {t.n_rows: 1e3 * s for t, s in self._best.items() if t.kind == kind}

    def _expected_s(self, trial: Trial) -> float:
        """As the trial before; of one that was never made, by the rows of its like, or of any."""
        if trial in self._latest:
            return self._latest[trial]
        like = {t.n_rows: s for t, s in self._latest.items() if t.kind == trial.kind}
        like = like or {t.n_rows: s for t, s in self._latest.items()}
        nearest = min(like, key=lambda n: abs(n - trial.n_rows))
        # The weights are most of a step, but not of a prompt.
        growth = trial.n_rows / nearest if trial.kind == "prefill" else 1.0
        return like[nearest] * max(growth, 1.0)


def step_rows(most: int) -> list[int]:
    """The rows to time, those that say most of the curve first."""
    return [n for n in (1, 32, 8, 16, 64, 4, 2) if n <= most]


def shape_of(programs: Iterable[Program]) -> str:
    """Models of one shape take the same time, whatever their numbers."""
    weights = [(w.n_out, w.n_cols, w.type_id) for p in programs for w in p.weights_used()]
    return sha256(repr(weights).encode()).hexdigest()


class CalibrationFile:
    """Where the calibration of one shape on one device is kept."""

    def __init__(self, identity: str, shape: str, folder: Path | None = None) -> None:
        """`identity` has all of the device and its kernels that times depend on."""
        name = sha256(f"{identity}\n{shape}".encode()).hexdigest()[:32]
        self._path = (folder or calibrations_folder()) / f"{name}.json"

    def load(self) -> Calibration | None:
        """None where nothing usable is kept."""
        return _read(self._path)

    def store(self, calibration: Calibration) -> None:
        """A folder that cannot be written costs two seconds of each start, no more."""
        try:
            folder = self._path.parent
            folder.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(calibration))
            part.replace(self._path)
            others = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in others[:-_MOST_FILES]:
                path.unlink(missing_ok=True)
        except OSError:
            return


def calibrations_folder() -> Path:
    return Path(platformdirs.user_cache_dir("flash-lsp")) / "calibrations"


def kept_calibrations(folder: Path | None = None) -> list[Calibration]:
    """All that are kept, the latest first."""
    paths = list((folder or calibrations_folder()).glob("*.json"))
    paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [found for path in paths if (found := _read(path)) is not None]


def _read(path: Path) -> Calibration | None:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError):
        return None
    steps = found.step_ms
    times = [*steps.values(), *found.draft_ms.values(), *found.prefill_ms.values()]
    is_sound = 1 in steps and set(steps) <= set(ANCHOR_ROWS) and all(0 < ms < 1e6 for ms in times)
    return found if is_sound else None
