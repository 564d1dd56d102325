import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import kernel_cases, kernels
from benchmarks.kernel_cases import Case, Shape, all_cases, attention_case, linear_case
from benchmarks.kernel_floors import (
    LEAST_NOISE,
    FloorError,
    Machine,
    Result,
    floors_of,
    misses,
    path_of,
    read,
    summarize,
    tightened,
    write,
)
from benchmarks.kernels import Peaks, main, time_case
from engine.machine import cpu_name

MACHINE = Machine("a cpu", "avx2", 2)
HERE = Machine("this cpu", "portable", 1)
PEAKS = Peaks(read_bytes_per_s=10e9, int8_macs_per_s=100e9, float_macs_per_s=50e9)
TINY = linear_case(Shape("Q8_0", 64, 32), 2)


def result(name: str, *times_us: float) -> Result:
    return summarize(name, list(times_us), n_bytes=1000, n_macs=8000, roofline_us=1)


def known_peaks(_: Machine) -> Peaks:
    return PEAKS


def ticking(step_s: float) -> Callable[[], float]:
    """A clock that advances by `step_s` whenever it is read."""
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += step_s
        return now_s

    return clock


def test_a_result_holds_speeds_of_the_median_run_and_the_spread() -> None:
    found = result("x", 1.0, 2.0, 3.0, 4.0, 9.0)
    assert (found.median_us, found.min_us, found.max_us, found.runs) == (3.0, 1.0, 9.0, 5)
    assert found.gb_per_s == pytest.approx(1000 / 3e-6 / 1e9)
    assert found.gmac_per_s == pytest.approx(8000 / 3e-6 / 1e9)
    assert found.roofline_share == pytest.approx(1 / 3)
    assert found.noise == pytest.approx((4 - 2) / 3)  # one slow run is not the noise of all


def test_the_roofline_is_whichever_limit_is_met_first() -> None:
    case = linear_case(Shape("Q8_0", 1024, 1024), 1)
    assert case.n_bytes == 1024 * 1024 / 32 * 34
    assert PEAKS.roofline_us(case) == pytest.approx(case.n_bytes / 10e3)
    many = linear_case(Shape("Q8_0", 1024, 1024), 128)
    assert PEAKS.roofline_us(many) == pytest.approx(128 * 1024 * 1024 / 100e3)
    in_float = linear_case(Shape("F32", 1024, 1024), 128)
    assert PEAKS.roofline_us(in_float) == pytest.approx(128 * 1024 * 1024 / 50e3)


def test_a_peak_is_never_below_what_a_case_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_peaks(_: Machine) -> Peaks:
        return Peaks(read_bytes_per_s=1, int8_macs_per_s=1, float_macs_per_s=1)

    monkeypatch.setattr(kernels, "measure_peaks", slow_peaks)
    monkeypatch.setattr(kernels, "LEAST_RUN_S", 1e-4)
    one_row = linear_case(Shape("F32", 64, 32), 1)
    report = kernels.measure([TINY, one_row], HERE, 3, 0)
    in_int8, in_float = report.results
    assert report.peaks.int8_macs_per_s == pytest.approx(in_int8.gmac_per_s * 1e9)
    assert report.peaks.float_macs_per_s == pytest.approx(in_float.gmac_per_s * 1e9)
    assert report.peaks.read_bytes_per_s == pytest.approx(in_float.gb_per_s * 1e9)


def test_attention_counts_the_keys_each_row_sees() -> None:
    case = attention_case(4, 2, 8, n_rows=3, n_past=10)
    assert case.n_macs == 2 * 4 * 8 * (11 + 12 + 13)
    assert case.n_bytes == 2 * 2 * 8 * 13 * 2


def test_weights_rotate_through_more_than_the_cache() -> None:
    least_bytes = 64 * 2**20
    for case in all_cases():
        if case.peak is not None and case.n_rows == 1:
            assert case.n_copies(least_bytes) * case.n_bytes >= least_bytes, case.name


def test_a_time_is_that_of_one_copy_and_the_first_run_does_not_count() -> None:
    times_us = time_case(TINY, HERE, 5, 0, clock=ticking(2.0))  # each run takes "two seconds"
    assert times_us == [2e6] * 5
    twice = 2 * TINY.n_bytes
    assert time_case(TINY, HERE, 1, twice, clock=ticking(2.0)) == [1e6]


def test_a_run_fails_only_below_its_floor_minus_the_noise() -> None:
    floors = floors_of(
        MACHINE, [result("wide", 10, 90, 100, 110, 900), result("narrow", 100, 100, 100)]
    )
    assert floors.cases["wide"].noise == pytest.approx(0.2)
    assert floors.cases["narrow"].noise == LEAST_NOISE
    fast = [result("wide", 50), result("narrow", 50), result("unknown", 1e6)]
    near = [result("wide", 124), result("narrow", 111)]
    slow = [result("wide", 126), result("narrow", 112)]
    assert misses(floors, MACHINE, fast) == []
    assert misses(floors, MACHINE, near) == []
    assert [miss.name for miss in misses(floors, MACHINE, slow)] == ["wide", "narrow"]


def test_floors_survive_their_file(tmp_path: Path) -> None:
    floors = floors_of(MACHINE, [result("x", 1, 2, 3)], busy_share_of_others=0.123456)
    assert floors.busy_share_of_others == 0.123
    write(tmp_path / "new" / "floors.json", floors)
    assert read(tmp_path / "new" / "floors.json") == floors


def test_the_committed_floors_name_only_cases_that_exist() -> None:
    names = {case.name for case in all_cases()}
    paths = sorted((Path(kernels.__file__).parent / "floors").glob("*.json"))
    assert paths
    for path in paths:
        floors = read(path)
        assert set(floors.cases) <= names, path
        assert path == path_of(path.parent, floors.machine)


def test_floors_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    floors = floors_of(MACHINE, [result("x", 1)])
    with pytest.raises(FloorError, match="another cpu"):
        misses(floors, Machine("another cpu", "avx2", 2), [result("x", 1)])
    with pytest.raises(FloorError, match="none of the cases"):
        misses(floors, MACHINE, [result("y", 1)])
    with pytest.raises(FloorError, match="could not read"):
        read(tmp_path / "missing.json")


@pytest.fixture
def tiny_cases(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The workbench with a few small cases, a small cache and no waiting."""
    tiny: list[Case] = [
        TINY,
        attention_case(2, 1, 16, 1, 64),
        *kernel_cases.elementwise_cases(64, 96, 16, 2),
    ]
    monkeypatch.setattr(kernels, "all_cases", lambda: iter(tiny))
    monkeypatch.setattr(kernels, "cache_bytes", lambda: 1024)
    monkeypatch.setattr(kernels, "measure_peaks", known_peaks)
    monkeypatch.setattr(kernels, "LEAST_RUN_S", 1e-4)
    return tiny


def test_the_command_measures_writes_floors_and_meets_them(
    tiny_cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--isa", "portable", "--runs", "2"]
    assert main([*shared, "--threads", "1,2", "--json", "--write", str(tmp_path)]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [report["machine"]["threads"] for report in reports] == [1, 2]
    for report in reports:
        assert report["machine"]["isa"] == "portable"
        assert [entry["name"] for entry in report["results"]] == [case.name for case in tiny_cases]
        for entry in report["results"]:
            assert 0 < entry["min_us"] <= entry["median_us"] <= entry["max_us"]

    one, two = (path_of(tmp_path, Machine(cpu_name(), "portable", n)) for n in (1, 2))
    for path in (one, two):
        floors = read(path)
        for floor in floors.cases.values():
            floor.us = 1e9
        write(path, floors)
    assert main([*shared, "--threads", "1,2", "--check", str(tmp_path)]) == 0
    assert "of roofline" in capsys.readouterr().out
    floors = read(two)
    floors.cases[TINY.name].us = 1e-9
    write(two, floors)
    assert main([*shared, "--threads", "1", "--check", str(tmp_path)]) == 0
    assert main([*shared, "--threads", "1,2", "--check", str(tmp_path)]) == 1
    assert TINY.name in capsys.readouterr().err
    assert main([*shared, "--threads", "3", "--check", str(tmp_path)]) == 2


def test_a_slower_run_loosens_no_floor() -> None:
    kept = floors_of(MACHINE, [result("a", 10), result("b", 10)], 0.1)
    found = floors_of(MACHINE, [result("a", 12), result("b", 8), result("c", 5)], 0.4)
    both = tightened(kept, found)
    assert {name: floor.us for name, floor in both.cases.items()} == {"a": 10, "b": 8, "c": 5}
    assert both.busy_share_of_others == 0.4


def test_floors_of_other_cases_stay_when_some_are_written(
    tiny_cases: list[Case], tmp_path: Path
) -> None:
    shared = ["--isa", "portable", "--threads", "1", "--runs", "1", "--write", str(tmp_path)]
    assert main(["--only", "linear", *shared]) == main(["--only", "rope", *shared]) == 0
    found = read(path_of(tmp_path, Machine(cpu_name(), "portable", 1))).cases
    assert len(found) == sum("linear" in c.name or "rope" in c.name for c in tiny_cases) == 2


def test_kernels_that_are_not_here_and_senseless_threads_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--isa", "avx9"]) == 2
    assert "'avx9' is unknown" in capsys.readouterr().err
    for threads in ("0", "1,-2", "two"):
        with pytest.raises(SystemExit):
            main(["--threads", threads])
