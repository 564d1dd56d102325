"""What steps cost: interpolated, corrected by real ones, kept on disk."""

from pathlib import Path
from time import perf_counter

import pytest

from engine.speculation.costs import (
    ANCHOR_ROWS,
    CostFile,
    StepCosts,
    guessed_costs,
    keep_corrected,
    measure,
    measured_costs,
)

ANCHORS = {rows: 10.0 + rows for rows in ANCHOR_ROWS}


def file(folder: Path, content: bytes = b"model", machine: str = "cpu") -> CostFile:
    model = folder / "model.gguf"
    model.write_bytes(content)
    return CostFile(model, machine, folder / "costs")


def test_costs_lie_on_the_line_between_anchors() -> None:
    costs = StepCosts(ANCHORS)
    assert [costs.ms(n) for n in range(1, 65)] == pytest.approx([10.0 + n for n in range(1, 65)])


def test_unmeasured_steps_lie_on_the_line_through_the_last_ones() -> None:
    costs = StepCosts({1: 5.0, 2: 6.0, 4: 9.0})
    assert [costs.ms(n) for n in (4, 8, 16, 64)] == pytest.approx([9, 15, 27, 99])


def test_more_rows_never_seem_cheaper() -> None:
    costs = StepCosts({**ANCHORS, 1: 99.0})
    assert costs.by_rows[1:] == sorted(costs.by_rows[1:])


def test_real_steps_move_the_costs_near_them_most() -> None:
    costs = StepCosts(ANCHORS)
    for _ in range(100):
        costs.observe(16, 52.0)
    assert costs.ms(16) == pytest.approx(52.0, rel=0.01)
    moved = {rows: costs.ms(rows) / ms for rows, ms in ANCHORS.items()}
    assert moved[16] > max(moved[8], moved[32])
    assert min(moved.values()) > 1


def test_one_interrupted_step_proves_little() -> None:
    costs = StepCosts(ANCHORS)
    costs.observe(8, 5000.0)
    assert costs.ms(8) < 1.15 * 18.0


def test_the_first_real_step_sets_the_scale_of_a_guess() -> None:
    costs = guessed_costs()
    costs.observe(1, 13.0)
    assert costs.ms(1) == pytest.approx(13.0)
    assert costs.ms(4) == pytest.approx(52.0)


def test_measuring_asks_for_no_more_rows_than_there_may_be() -> None:
    asked: list[int] = []
    measure(asked.append, 10)
    assert set(asked) == {1, 2, 4, 8}


def test_measuring_a_slow_model_ends_early_and_begins_with_few_rows() -> None:
    asked: list[int] = []

    def slow(n_rows: int) -> None:
        asked.append(n_rows)
        until = perf_counter() + 0.2
        while perf_counter() < until:
            pass

    costs, _ = measure(slow, 64)
    assert asked[:3] == [1, 1, 2]
    assert len(asked) < 8
    assert costs.ms(64) >= costs.ms(1) > 0


def test_costs_are_kept_for_one_model_and_machine(tmp_path: Path) -> None:
    file(tmp_path).store(StepCosts(ANCHORS))
    kept = file(tmp_path).load()
    assert kept is not None and kept.anchors_ms() == pytest.approx(ANCHORS)
    assert file(tmp_path, b"other").load() is None
    assert file(tmp_path, machine="other").load() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"1": 2.0}', b'{"1": "x"}'])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    file(tmp_path).store(StepCosts(ANCHORS))
    (kept,) = (tmp_path / "costs").iterdir()
    kept.write_bytes(content)
    assert file(tmp_path).load() is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "costs").write_text("in the way")
    file(tmp_path).store(StepCosts(ANCHORS))
    assert file(tmp_path).load() is None


@pytest.mark.parametrize(("n_steps", "is_kept"), [(499, False), (500, True)])
def test_many_real_steps_replace_what_was_measured(
    tmp_path: Path, n_steps: int, is_kept: bool
) -> None:
    file(tmp_path).store(costs := StepCosts(ANCHORS))
    for _ in range(n_steps):
        costs.observe(1, 22.0)
    keep_corrected(costs, file(tmp_path))
    kept = file(tmp_path).load()
    assert kept is not None
    assert (kept.ms(1) > 1.4 * 11.0) == is_kept


def test_kept_costs_spare_the_measurement(tmp_path: Path) -> None:
    file(tmp_path).store(StepCosts(ANCHORS))

    def never(n_rows: int) -> None:
        raise AssertionError(f"measured {n_rows} rows")

    assert measured_costs(never, 64, file(tmp_path)).ms(1) == pytest.approx(11.0)
