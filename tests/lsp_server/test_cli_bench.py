import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from lsp_server import cli_bench, cli_bench_decode
from lsp_server.cli_bench import show
from tests.lsp_server.test_cli_bench_rows import ROW_KEYS
from tests.tiny_gguf import write_tiny_gguf


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli_bench.add_parser(parser.add_subparsers())
    args = parser.parse_args(["bench", *arguments])
    return args.run(args)


@pytest.fixture
def tiny_model(tmp_path: Path) -> str:
    return str(write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0"))


def test_without_llama_cpp_the_baseline_is_null(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find_no_python(*_: str | None) -> None:
        return None

    monkeypatch.setattr(cli_bench, "find_python", find_no_python)
    monkeypatch.setattr(cli_bench_decode, "find_python", find_no_python)
    options = ["--runs", "2", "--threads", "1", "--tokens", "8", "--sets", "code", "--json"]
    assert bench("all", "--model", tiny_model, *options) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    decode, sampled, prefill, python_share, *modes = report["rows"]
    speeds = [decode, sampled, prefill, *modes]
    assert (decode["name"], sampled["name"]) == ("decode", "decode sampled")
    assert prefill["name"] == "prefill 512"  # its context is short
    assert {entry["name"] for entry in modes} == {"decode code"}
    assert [entry["mode"] for entry in modes] == ["plain", "lookup", "auto"]  # it has no drafter
    assert python_share["name"] == "python share of a decode step"
    assert set(python_share) >= ROW_KEYS
    for entry in speeds:
        assert set(entry) >= ROW_KEYS
        assert 0 < entry["min"] <= entry["value"] <= entry["max"]
        assert (entry["baseline"], entry["baseline_value"], entry["ratio"]) == (None, None, None)
    assert report["machine"]["threads"] == 1
    assert report["machine"]["read_gb_per_s"] > 0

    show(report)
    out = capsys.readouterr().out
    assert "flash-lsp[bench]" in out
    assert "xllamacpp is not installed" in out
    assert "dflash was left out" in out
    assert "same in all modes" in out


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
