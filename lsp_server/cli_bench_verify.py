"""`flash-lsp bench verify`: what a step of several rows costs, and how much of a step is Python.

The cost of checking n drafted tokens at once, as a multiple of computing one, is what speculation
lives on.
"""

from collections.abc import Generator
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from engine.backends.cpu import CpuModel
from engine.cancel import CancelToken
from engine.engine import Engine
from engine.request import GenerateRequest, PromptPart
from engine.session import ROOT, Session

CONTEXT_TOKENS = 1024
VERIFY_ROWS = (1, 2, 4, 8, 16, 32)
VERIFY_STEPS = 4  # of one run: a single short step is too noisy
PYTHON_SHARE_TOKENS = 64
PYTHON_SHARE_PROMPT = "def add(a, b):\n    return a + b\n\n\ndef subtract(a, b):\n"


class VerifySteps:
    """Steps of several rows that continue the tokens `ids`, computed when first needed."""

    def __init__(self, session: Session, ids: list[int]) -> None:
        """`session` is empty; whoever made it releases it."""
        self._session = session
        self._ids = ids

    def ms(self, rows: list[int]) -> float:
        """Mean time of a step over `rows`, with the most likely token after each of them."""
        if not self._session.tokens:
            self._session.append(self._ids)
        parents = range(ROOT, len(rows) - 1)
        start_s = perf_counter()
        for _ in range(VERIFY_STEPS):
            self._session.verify(rows, parents)
        return (perf_counter() - start_s) * 1e3 / VERIFY_STEPS


def with_costs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to each row its step's time and the multiple of the first row's, a step of one."""
    for entry, n_rows in zip(rows, VERIFY_ROWS, strict=True):
        entry["step_ms"] = n_rows * 1000 / entry["value"]
        entry["step_cost"] = entry["step_ms"] / rows[0]["step_ms"]
        baseline = entry["baseline_value"]
        entry["baseline_step_ms"] = None if baseline is None else n_rows * 1000 / baseline
        entry["baseline_step_cost"] = (
            None if baseline is None else entry["baseline_step_ms"] / rows[0]["baseline_step_ms"]
        )
    return rows


def show_costs(console: Console, rows: list[dict[str, Any]]) -> None:
    """The verify rows as a table of times and multiples; nothing if there are none."""
    verify = [entry for entry in rows if "step_cost" in entry]
    if not verify:
        return
    table = Table("rows of a step", "flash-lsp ms", "x 1 row", "llama.cpp ms", "x 1 row")
    for entry in verify:
        has_peer = entry["baseline"] is not None
        table.add_row(
            entry["name"].removeprefix("verify "),
            f"{entry['step_ms']:.1f}",
            f"{entry['step_cost']:.2f}",
            f"{entry['baseline_step_ms']:.1f}" if has_peer else "-",
            f"{entry['baseline_step_cost']:.2f}" if has_peer else "-",
        )
    console.print(table)


class _Clock:
    """The one-row steps of a generation: when each began and ended, in seconds."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def python_share(self) -> float | None:
        """From the start of the first step to that of the last: whole steps and all between.

        None if there are fewer than two.
        """
        if len(self.steps) < 2:
            return None
        wall_s = self.steps[-1][0] - self.steps[0][0]
        inside_s = sum(end_s - start_s for start_s, end_s in self.steps[:-1])
        return (wall_s - inside_s) / wall_s


def python_share_row(engine: Engine, n_runs: int) -> dict[str, Any]:
    """A row with the share of a decode step that is not the native call, in per cent.

    Its value is None when the model ends its text before there are two steps to measure between.
    """
    runs = [_python_share(engine) for _ in range(-1, n_runs)][1:]
    shares = [share * 100 for share in runs if share is not None]
    return {
        "name": "python share of a decode step",
        "model": engine.info.name,
        "mode": "plain",
        "value": median(shares) if shares else None,
        "unit": "%",
        "baseline": None,
        "baseline_value": None,
        "ratio": None,
        "min": min(shares, default=None),
        "max": max(shares, default=None),
        "baseline_min": None,
        "baseline_max": None,
        "runs": len(shares),
    }


def _python_share(engine: Engine) -> float | None:
    """(time per step - time inside the native call) / time per step, in a real generation."""
    request = GenerateRequest(
        prompt=(PromptPart(PYTHON_SHARE_PROMPT),), max_tokens=PYTHON_SHARE_TOKENS
    )
    with _timed_steps() as clock:
        engine.generate(request, CancelToken(), _go_on)
    return clock.python_share()


def _go_on(_: str) -> bool:
    return True


@contextmanager
def _timed_steps() -> Generator[_Clock, None, None]:
    """Counts every one-row step. The wrapper's own fraction of a microsecond counts as Python."""
    clock = _Clock()
    step = CpuModel.step

    def timed(self: CpuModel, kv: Any, tokens: Any, *rest: Any) -> bool:
        start_s = perf_counter()
        finished = step(self, kv, tokens, *rest)
        if len(tokens) == 1:
            clock.steps.append((start_s, perf_counter()))
        return finished

    with patch.object(CpuModel, "step", timed):
        yield clock
