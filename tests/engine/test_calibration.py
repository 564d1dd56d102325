"""Trials within a budget of time, by a clock of our own; what follows from them; what is kept."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.calibration import (
    BUDGET_S,
    Calibration,
    CalibrationFile,
    Calibrator,
    Trial,
    kept_calibrations,
    step_rows,
)
from engine.speculation.costs import ANCHOR_ROWS


class Bench:
    """Trials that take what they are told to, by the same clock."""

    def __init__(self, seconds: dict[Trial, list[float]]) -> None:
        self.now = 100.0
        self.made: list[Trial] = []
        self._seconds = seconds
        self.trials: dict[Trial, Callable[[], None]] = {
            trial: lambda trial=trial: self._make(trial) for trial in seconds
        }

    def clock(self) -> float:
        return self.now

    def _make(self, trial: Trial) -> None:
        takes = self._seconds[trial]
        n = self.made.count(trial)
        self.now += takes[min(n, len(takes) - 1)]
        self.made.append(trial)

    def run(self) -> Calibrator:
        calibrator = Calibrator(self.trials, self.clock)
        while calibrator.run_some():
            self.now += 7.0  # what is done in between does not count
        return calibrator


def steps(*seconds: float) -> dict[Trial, list[float]]:
    return {Trial("step", n): [s] for n, s in zip((1, 32, 8, 16), seconds, strict=False)}


def test_the_least_of_a_few_tries_counts() -> None:
    bench = Bench({Trial("step", 1): [0.5, 0.01, 0.02], Trial("prefill", 128): [0.25]})
    found = bench.run()
    assert found.ms("step") == {1: pytest.approx(10.0)}
    assert found.ms("prefill") == {128: pytest.approx(250.0)}
    assert found.ms("draft") == {}
    assert bench.made.count(Trial("step", 1)) > 2


def test_the_time_is_kept_to() -> None:
    bench = Bench(steps(0.1, 0.3, 0.2, 0.25))
    found = bench.run()
    assert set(found.ms("step")) == {1, 32, 8, 16}
    assert found.spent_s <= BUDGET_S
    assert len(bench.made) > 8


def test_a_slow_device_measures_what_matters_most() -> None:
    bench = Bench({**steps(0.7, 0.9, 0.8, 0.8), Trial("prefill", 512): [3.0]})
    found = bench.run()
    assert set(found.ms("step")) == {1, 32}
    assert found.spent_s <= BUDGET_S


def test_a_larger_prompt_is_expected_to_take_longer() -> None:
    bench = Bench(
        {Trial("step", 64): [0.1], Trial("prefill", 128): [0.5], Trial("prefill", 512): [2.0]}
    )
    assert set(bench.run().ms("prefill")) == {128}


def test_the_first_trial_is_made_however_long_it_takes() -> None:
    bench = Bench(steps(9.0, 0.1))
    assert bench.run().ms("step") == {1: pytest.approx(9000.0)}
    assert bench.made == [Trial("step", 1)]


def test_steps_say_most_of_the_curve_first() -> None:
    assert step_rows(64)[:2] == [1, 32]
    assert sorted(step_rows(64)) == list(ANCHOR_ROWS)
    assert max(step_rows(20)) == 16


def made(**more: object) -> Calibration:
    fields = {"device": "a GPU", "model": "a", "step_ms": {1: 4.0, 8: 4.4, 32: 8.0}, **more}
    return Calibration(**fields)  # type: ignore[arg-type]


def test_cheap_rows_are_read_off_the_line_between_steps() -> None:
    assert made().cheap_rows == 12  # 4.4 + 4 * 0.15 = 5.0
    assert made(step_ms={1: 4.0}).cheap_rows == 1
    assert made(step_ms={1: 4.0, 32: 4.1}).cheap_rows == 32


@pytest.mark.parametrize(
    ("prefill_ms", "expected"),
    [
        ({}, 512),
        ({128: 10.0}, 512),  # there is nothing to compare it with
        ({128: 10.0, 256: 15.0, 512: 29.5}, 512),  # faster, but not clearly
        ({128: 10.0, 256: 15.0, 512: 40.0}, 256),
        ({128: 10.0, 256: 20.1, 512: 41.6}, 256),  # as fast as 128, and larger
        ({128: 10.0, 256: 30.0}, 128),
    ],
)
def test_prompts_are_read_in_the_fastest_steps(prefill_ms: dict[int, float], expected: int) -> None:
    assert made(prefill_ms=prefill_ms).prefill_rows(512) == expected


def test_a_calibration_is_kept_for_its_device_and_shape(tmp_path: Path) -> None:
    file = CalibrationFile("gfx1151 hiprtc 7", "shape", tmp_path)
    assert file.load() is None
    file.store(made(draft_ms={16: 2.0}, spent_s=1.5))
    assert CalibrationFile("gfx1151 hiprtc 7", "shape", tmp_path).load() == made(
        draft_ms={16: 2.0}, spent_s=1.5
    )
    assert CalibrationFile("gfx1151 hiprtc 8", "shape", tmp_path).load() is None
    assert CalibrationFile("gfx1151 hiprtc 7", "other", tmp_path).load() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"device":"a","model":"a","step_ms":{"8":1.0}}',
        b'{"device":"a","model":"a","step_ms":{"1":0.0}}',
        b'{"device":"a","model":"a","step_ms":{"1":1.0,"3":2.0}}',
        b'{"device":"a","model":"a","step_ms":{"1":1.0},"draft_ms":{"4":-1.0}}',
    ],
)
def test_damaged_files_are_no_calibration(tmp_path: Path, content: bytes) -> None:
    file = CalibrationFile("device", "shape", tmp_path)
    file.store(made())
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert file.load() is None
    assert kept_calibrations(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    CalibrationFile("device", "shape", tmp_path / "file" / "folder").store(made())


def test_few_calibrations_are_kept_the_latest_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("engine.calibration._MOST_FILES", 2)
    for i, name in enumerate("abc"):
        CalibrationFile(name, "shape", tmp_path).store(made(model=name))
        for path in tmp_path.glob("*.json"):
            if path.stat().st_mtime > 1000:
                os.utime(path, (i, i))
    assert [found.model for found in kept_calibrations(tmp_path)] == ["c", "b"]
