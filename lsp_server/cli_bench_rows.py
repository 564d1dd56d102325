"""Rows of `flash-lsp bench`: what is timed by turns with llama.cpp, and how a row is written."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

BASELINE = "llama.cpp"


@dataclass(frozen=True)
class Measurement:
    """Something to time. `ours` and `peer` each run once and return milliseconds."""

    name: str
    n_tokens: int
    ours: Callable[[], float]
    peer: Callable[[], float] | None


@dataclass
class Speeds:
    """Tokens per second of every run, by turns."""

    ours: list[float] = field(default_factory=list[float])
    peer: list[float] = field(default_factory=list[float])


def take_turns(
    measurements: list[Measurement], n_runs: int, say: Callable[[str], None]
) -> list[Speeds]:
    """One uncounted round for warming up, then rounds of ours, theirs of every measurement."""
    all_speeds = [Speeds() for _ in measurements]
    for run_idx in range(-1, n_runs):
        turn = "warming up" if run_idx < 0 else f"run {run_idx + 1} of {n_runs}"
        for measurement, speeds in zip(measurements, all_speeds, strict=True):
            say(f"{measurement.name}: {turn}")
            ours_ms = measurement.ours()
            peer_ms = None if measurement.peer is None else measurement.peer()
            if run_idx < 0:
                continue
            speeds.ours.append(measurement.n_tokens * 1000 / ours_ms)
            if peer_ms is not None:
                speeds.peer.append(measurement.n_tokens * 1000 / peer_ms)
    return all_speeds


def row(name: str, model: str, speeds: Speeds, mode: str = "plain") -> dict[str, Any]:
    """One row of the JSON that programs may rely on (DESIGN.md 4); keys are only ever added."""
    value = median(speeds.ours)
    baseline = median(speeds.peer) if speeds.peer else None
    return {
        "name": name,
        "model": model,
        "mode": mode,
        "value": value,
        "unit": "tok/s",
        "baseline": None if baseline is None else BASELINE,
        "baseline_value": baseline,
        "ratio": None if baseline is None else value / baseline,
        "min": min(speeds.ours),
        "max": max(speeds.ours),
        "baseline_min": min(speeds.peer, default=None),
        "baseline_max": max(speeds.peer, default=None),
        "runs": len(speeds.ours),
    }
