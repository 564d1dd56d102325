"""What steps cost: interpolated, corrected by real ones, kept on disk."""

import random
from pathlib import Path

import pytest

from engine.speculation.costs import (
    ANCHOR_ROWS,
    CostFile,
    StepCosts,
    assumed_costs,
    guessed_costs,
    keep_corrected,
    measure,
    measured_costs,
)

ANCHORS = {rows: 10.0 + rows for rows in ANCHOR_ROWS}


def file(
    folder: Path, content: bytes = b"model", machine: str = "cpu", n_bytes: int = 2**25
) -> CostFile:
    model = folder / "model.gguf"
    model.write_bytes(content)
    with model.open("r+b") as grown:
        grown.truncate(n_bytes)  # a hole: takes no room on the disk
    return CostFile(model, machine, folder / "costs")


def test_costs_lie_on_the_line_between_anchors() -> None:
    costs = StepCosts(ANCHORS)
    assert [costs.ms(n) for n in range(1, 65)] == pytest.approx([10.0 + n for n in range(1, 65)])


def test_unmeasured_steps_lie_on_the_line_through_the_last_ones() -> None:
    costs = StepCosts({1: 5.0, 8: 12.0, 32: 60.0})
    assert [costs.ms(n) for n in (2, 4, 8, 16, 64)] == pytest.approx([6, 8, 12, 28, 124])


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


@pytest.mark.parametrize("sizes", [(1,), (1, 8), (4, 5, 16)])
def test_noise_does_not_carry_away_the_costs_of_other_sizes(sizes: tuple[int, ...]) -> None:
    draw = random.Random(5)
    costs = StepCosts(ANCHORS)
    for _ in range(20_000):
        n_rows = draw.choice(sizes)
        is_disturbed = draw.random() < 0.2
        costs.observe(n_rows, (10.0 + n_rows) * draw.uniform(0.95, 2.0 if is_disturbed else 1.05))
    for n_rows in ANCHOR_ROWS:
        assert costs.ms(n_rows) == pytest.approx(10.0 + n_rows, rel=0.4)


def test_no_step_seems_to_cost_more_than_its_rows_one_by_one() -> None:
    costs = StepCosts({1: 10.0, 8: 400.0})
    assert [costs.ms(n) for n in (1, 8, 64)] == pytest.approx([10, 80, 640])


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


@pytest.mark.parametrize(
    ("row_ms", "asked"),
    [
        (150.0, [1, 1, 8]),  # too slow for more than the least
        (20.0, [1, 1, 8, 32, 4, 1, 8, 32]),
        (0.5, [1] + 5 * [1, 8, 32, 4, 16, 64, 2]),
    ],
)
def test_a_slow_model_is_measured_at_few_places(
    monkeypatch: pytest.MonkeyPatch, row_ms: float, asked: list[int]
) -> None:
    clock, seen = [0.0], []

    def step(n_rows: int) -> None:
        seen.append(n_rows)
        clock[0] += row_ms / 1000 * (1 + 0.1 * n_rows)

    monkeypatch.setattr("engine.speculation.costs.perf_counter", lambda: clock[0])
    costs = measure(step, 64)
    for n_rows in (1, 2, 5, 8, 40, 64):
        assert costs.ms(n_rows) == pytest.approx(row_ms * (1 + 0.1 * n_rows))
    assert seen == asked


def test_costs_are_kept_for_one_model_and_machine(tmp_path: Path) -> None:
    file(tmp_path).store(StepCosts(ANCHORS))
    kept = file(tmp_path).load()
    assert kept is not None and kept.anchors_ms() == pytest.approx(ANCHORS)
    assert file(tmp_path, b"other").load() is None
    assert file(tmp_path, machine="other").load() is None


def test_costs_of_a_small_model_are_not_kept(tmp_path: Path) -> None:
    file(tmp_path, n_bytes=2**24).store(StepCosts(ANCHORS))
    assert not (tmp_path / "costs").exists()


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


def test_a_guess_is_never_kept(tmp_path: Path) -> None:
    costs = guessed_costs()
    for _ in range(1000):
        costs.observe(1, 22.0)
    keep_corrected(costs, file(tmp_path))
    assert file(tmp_path).load() is None


def test_kept_costs_spare_the_measurement(tmp_path: Path) -> None:
    file(tmp_path).store(StepCosts(ANCHORS))

    def never(n_rows: int) -> None:
        raise AssertionError(f"measured {n_rows} rows")

    assert measured_costs(never, 64, file(tmp_path)).ms(1) == pytest.approx(11.0)


def test_assumed_costs_are_cheap_and_reach_as_far_as_the_budget() -> None:
    costs = assumed_costs(22)
    assert costs.is_guess
    assert costs.most_rows == 23
    costs.observe(1, 8.0)
    assert 8.0 < costs.ms(23) < 1.5 * 8.0


def test_measured_costs_replace_what_was_assumed_for_all_who_hold_it() -> None:
    costs = assumed_costs(22)
    table = costs.by_rows
    costs.adopt(StepCosts(ANCHORS))
    assert (costs.is_guess, costs.most_rows) == (False, 64)
    assert costs.by_rows != table
    measured = StepCosts(ANCHORS)
    costs.observe(8, 1000.0)
    assert measured.anchors_ms() == ANCHORS  # they have nothing in common


def test_a_row_more_costs_at_least_what_the_flattest_part_ahead_says() -> None:
    costs = StepCosts({1: 10.0, 8: 17.0, 16: 18.0, 32: 50.0, 64: 60.0})
    assert costs.least_row_ms[1] == costs.least_row_ms[15] == pytest.approx(0.125)
    assert costs.least_row_ms[16] == pytest.approx(10 / 32)
    assert costs.least_row_ms[64] == 0
    costs.adopt(StepCosts({1: 1.0, 64: 64.0}))
    assert costs.least_row_ms[2] == pytest.approx(1.0)
