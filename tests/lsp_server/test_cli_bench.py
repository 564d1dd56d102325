import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from lsp_server import cli_bench
from lsp_server.cli_bench import Measurement, Speeds, row, show, take_turns
from tests.tiny_gguf import write_tiny_gguf

ROW_KEYS = {
    "name", "model", "mode", "value", "unit",
    "baseline", "baseline_value", "ratio", "min", "max", "runs",
}  # fmt: skip


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli_bench.add_parser(parser.add_subparsers())
    args = parser.parse_args(["bench", *arguments])
    return args.run(args)


@pytest.fixture
def tiny_model(tmp_path: Path) -> str:
    return str(write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0"))


def measurement(ours_ms: float, peer_ms: float, calls: list[str]) -> Measurement:
    def timed(name: str, ms: float) -> float:
        calls.append(name)
        return ms

    return Measurement("decode", 10, lambda: timed("ours", ours_ms), lambda: timed("peer", peer_ms))


def test_engines_take_turns_and_the_first_turn_does_not_count() -> None:
    calls: list[str] = []
    (speeds,) = take_turns([measurement(100, 200, calls)], 2, lambda _: None)
    assert calls == ["ours", "peer"] * 3
    assert speeds == Speeds(ours=[100.0, 100.0], peer=[50.0, 50.0])


def test_a_row_holds_medians_and_the_spread() -> None:
    entry = row(measurement(1, 1, []), Speeds([10.0, 40.0, 20.0], [5.0, 10.0, 40.0]), "m")
    assert set(entry) >= ROW_KEYS
    assert (entry["value"], entry["min"], entry["max"], entry["runs"]) == (20.0, 10.0, 40.0, 3)
    assert (entry["baseline"], entry["baseline_value"], entry["ratio"]) == ("llama.cpp", 10.0, 2.0)


def test_without_llama_cpp_the_baseline_is_null(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find_no_python(_: str | None) -> None:
        return None

    monkeypatch.setattr(cli_bench, "find_python", find_no_python)
    assert bench("all", "--model", tiny_model, "--runs", "2", "--threads", "1", "--json") == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    *speeds, python_share = report["rows"]
    assert [entry["name"] for entry in speeds] == ["decode", "prefill 512"]  # its context is short
    assert python_share["name"] == "python share of a decode step"
    assert set(python_share) >= ROW_KEYS
    for entry in speeds:
        assert set(entry) >= ROW_KEYS
        assert 0 < entry["min"] <= entry["value"] <= entry["max"]
        assert (entry["baseline"], entry["baseline_value"], entry["ratio"]) == (None, None, None)
    assert report["machine"]["threads"] == 1
    assert report["machine"]["read_gb_per_s"] > 0

    show(report)
    assert "flash-lsp[bench]" in capsys.readouterr().out


def test_an_interpreter_without_llama_cpp_is_an_error(
    tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("decode", "--model", tiny_model, "--llama-cpp-python", "/nowhere/python") == 1
    assert "could not run /nowhere/python" in capsys.readouterr().err


def test_bench_wants_to_know_what(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        bench("sleep")
    assert exit_info.value.code == 2
    assert "sleep" in capsys.readouterr().err
