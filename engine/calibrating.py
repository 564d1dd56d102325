"""Calibrates one loaded model: which trials there are, when they are made, and who goes by them."""

from collections.abc import Callable
from functools import partial
from time import perf_counter

from engine.backends.backend import Backend, Model
from engine.calibration import (
    Calibration,
    CalibrationFile,
    Calibrator,
    Trial,
    shape_of,
    step_rows,
)
from engine.session import ROOT, Session
from engine.speculation.controller import BLOCK_ROWS
from engine.speculation.costs import StepCosts
from engine.speculation.dflash import DFlashDrafter
from engine.speculation.speculator import Speculation


class Calibrating:
    """Of a model on a GPU. Used by the thread that owns the model."""

    def __init__(
        self,
        backend: Backend,
        model: Model,
        drafter: DFlashDrafter | None,
        new_session: Callable[[], Session],
        speculation: Speculation,
        *,
        name: str,
        is_wanted: bool,
    ) -> None:
        """Goes by what is kept; where nothing is and `is_wanted`, there is something to measure."""
        self._model, self._drafter, self._new_session = model, drafter, new_session
        self._speculation, self._name, self._device = speculation, name, backend.name
        self._default_rows = model.max_rows
        programs = [model.program] if drafter is None else [model.program, drafter.model.program]
        self._file = CalibrationFile(backend.identity(), shape_of(programs))
        self._calibrator: Calibrator | None = None
        kept = self._file.load()
        if kept is not None:
            self._adopt(kept)
        elif is_wanted:
            self._calibrator = Calibrator(self._trials())

    def run_some(self) -> bool:
        """Makes one measurement, where some are still to be made; False once there are none."""
        if self._calibrator is None:
            return False
        if self._calibrator.run_some():
            return True
        self._end(self._calibrator)
        return False

    def run(self, clock: Callable[[], float] = perf_counter) -> Calibration:
        """Measures anew, whatever is kept."""
        calibrator = Calibrator(self._trials(), clock)
        while calibrator.run_some():
            pass
        return self._end(calibrator)

    def _trials(self) -> dict[Trial, Callable[[], None]]:
        """Steps, blocks of drafts and prompts of a fresh sequence, by their sizes."""

        def fresh(work: Callable[[Session], object]) -> None:
            session = self._new_session()
            try:
                work(session)
            finally:
                session.release()

        def step(n: int) -> None:
            fresh(lambda session: session.verify([0] * n, range(ROOT, n - 1)))

        def prefill(n: int) -> None:
            fresh(lambda session: session.append([0] * n))

        n_free = self._new_session().n_free
        most = self._default_rows
        found = {Trial("step", n): partial(step, n) for n in step_rows(n_free)}
        if self._drafter is not None:
            found |= self._draft_trials(self._drafter, fresh)
        sizes = [n for n in (most // 4, most // 2, most) if 0 < n <= n_free]
        return found | {Trial("prefill", n): partial(prefill, n) for n in sizes}

    def _draft_trials(
        self, drafter: DFlashDrafter, fresh: Callable[[Callable[[Session], object]], None]
    ) -> dict[Trial, Callable[[], None]]:
        def draft(n: int) -> None:
            fresh(lambda session: drafter.begin(session, 0, n)())

        sizes = [n for n in BLOCK_ROWS if n <= drafter.block_rows]
        return {Trial("draft", n): partial(draft, n) for n in sizes}

    def _end(self, calibrator: Calibrator) -> Calibration:
        found = Calibration(
            device=self._device,
            model=self._name,
            step_ms=calibrator.ms("step"),
            draft_ms=calibrator.ms("draft"),
            prefill_ms=calibrator.ms("prefill"),
            spent_s=calibrator.spent_s,
        )
        self._calibrator = None
        self._adopt(found)
        self._file.store(found)
        return found

    def _adopt(self, found: Calibration) -> None:
        self._speculation.adopt(StepCosts(found.step_ms), found.draft_ms)
        self._model.max_rows = found.prefill_rows(self._default_rows)
