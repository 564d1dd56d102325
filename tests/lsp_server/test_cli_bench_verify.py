import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine.config import EngineConfig
from engine.engine import Engine
from lsp_server import cli_bench
from lsp_server.cli_bench_peer import LlamaCpp
from lsp_server.cli_bench_rows import Speeds, row
from lsp_server.cli_bench_verify import (
    VERIFY_ROWS,
    VerifySteps,
    python_share_row,
    show_costs,
    with_costs,
)
from tests.tiny_gguf import write_tiny_gguf

HAS_LLAMA_CPP = importlib.util.find_spec("llama_cpp") is not None


def rows_of(ours_ms: list[float], peer_ms: list[float] | None) -> list[dict[str, Any]]:
    """Rows of steps that took these times, by number of rows."""
    found: list[dict[str, Any]] = []
    for i, n_rows in enumerate(VERIFY_ROWS):
        peer = [] if peer_ms is None else [n_rows * 1000 / peer_ms[i]]
        speeds = Speeds([n_rows * 1000 / ours_ms[i]], peer)
        found.append(row(f"verify {n_rows}", "m", speeds))
    return with_costs(found)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0")
    return Engine.load(EngineConfig(model=str(path), n_threads=1))


def test_costs_are_multiples_of_a_step_of_one_row() -> None:
    rows = rows_of([10, 12, 14, 20, 40, 80], [20, 30, 40, 90, 160, 320])
    assert [entry["step_cost"] for entry in rows] == pytest.approx([1, 1.2, 1.4, 2, 4, 8])
    assert [entry["baseline_step_cost"] for entry in rows] == pytest.approx([1, 1.5, 2, 4.5, 8, 16])
    assert rows[3]["step_ms"] == pytest.approx(20)
    assert rows[3]["baseline_step_ms"] == pytest.approx(90)
    assert rows[3]["ratio"] == pytest.approx(4.5)  # of speeds, as in every other row


def test_costs_are_shown_with_and_without_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=100)
    show_costs(console, rows_of([10, 12, 14, 21, 40, 80], None))
    assert "2.10" in capsys.readouterr().out
    show_costs(console, rows_of([10, 12, 14, 21, 40, 80], [20, 30, 40, 93, 160, 320]))
    assert "4.65" in capsys.readouterr().out
    show_costs(console, [])
    assert capsys.readouterr().out == ""


def test_steps_all_continue_the_same_tokens(engine: Engine) -> None:
    session = engine.session()
    steps = VerifySteps(session, [100, 101, 102])
    for n_rows in (1, 4, 32):
        assert steps.ms(list(range(103, 103 + n_rows))) > 0
        assert session.tokens == [100, 101, 102]


def test_the_python_share_is_a_share_and_survives_json(engine: Engine) -> None:
    entry = json.loads(json.dumps(python_share_row(engine, 2)))
    assert (entry["unit"], entry["runs"]) == ("%", 2)
    assert 0 < entry["min"] <= entry["value"] <= entry["max"] < 100


def test_the_command_measures_every_number_of_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_no_python(*_: str | None) -> None:
        return None

    monkeypatch.setattr(cli_bench, "find_python", find_no_python)
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0", n_ctx=2048)
    parser = argparse.ArgumentParser()
    cli_bench.add_parser(parser.add_subparsers())
    command = ["bench", "verify", "--model", str(path), "--runs", "1", "--threads", "1"]
    args = parser.parse_args([*command, "--json"])
    assert args.run(args) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [entry["name"] for entry in rows] == [
        *(f"verify {n}" for n in VERIFY_ROWS),
        "python share of a decode step",
    ]
    assert rows[0]["step_cost"] == 1
    assert rows[5]["step_ms"] > 0 and rows[5]["baseline_step_cost"] is None


@pytest.mark.skipif(not HAS_LLAMA_CPP, reason="needs the extra `bench`")
def test_llama_cpp_takes_the_same_steps(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "llama")
    with LlamaCpp(sys.executable, path, 1, 64) as peer:
        for n_rows in (1, 4, 1):
            assert peer.verify_ms([100, 101, 102], [103, 104, 105, 106][:n_rows], 2) > 0
