import json
from pathlib import Path

import pytest

from benchmarks.prefill_rows import Speed, Sweep, main, prefills, show, time_in_turns
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    return path


def test_all_sizes_take_turns_and_the_first_run_does_not_count() -> None:
    calls: list[str] = []
    ticks = iter(range(100))
    times = time_in_turns(
        [lambda: calls.append("a"), lambda: calls.append("b")], 2, clock=lambda: next(ticks)
    )
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert times == [[1, 1], [1, 1]]


def test_every_size_leaves_the_same_logits(tiny: Path) -> None:
    found = []
    for prefill in prefills(tiny, [8, 20, 64], n_tokens=41, n_threads=2):
        prefill.run()
        found.append(prefill._model.logits(1).copy())
    assert all((logits == found[0]).all() for logits in found)


def test_the_command_reports_every_size(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tiny), "--rows", "8,32", "--tokens", "64", "--runs", "1", "--threads", "1"]
    assert main([*arguments, "--json"]) == 0
    (sweep,) = json.loads(capsys.readouterr().out)
    assert [speed["rows"] for speed in sweep["speeds"]] == [8, 32]
    assert all(0 < speed["least"] <= speed["tokens_per_s"] for speed in sweep["speeds"])
    assert main(["no-such-model"]) == 2
    assert "no-such-model" in capsys.readouterr().err


def test_the_table_compares_with_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    speeds = [Speed(32, 50.0, 40.0, 60.0), Speed(64, 100.0, 90.0, 110.0)]
    show([Sweep("m", 1024, 2, 0.5, speeds)])
    printed = capsys.readouterr().out
    assert "50 tok/s (40 - 60) 50%" in printed
    assert "100%" in printed
    assert "Other processes used 50%" in printed
