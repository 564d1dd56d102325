from typing import Any

import pytest
from rich.console import Console

from lsp_server.cli_bench_rows import Speeds, row
from lsp_server.cli_bench_tables import bar, histogram, is_speculation, show_speculation


def entry(mode: str, engine: str = "flash-lsp", **more: Any) -> dict[str, Any]:
    found = row("decode code", "m", Speeds([90.0, 100.0, 110.0], [50.0]), mode)
    details: dict[str, Any] = {
        "engine": engine,
        "plain_ratio": 1.5,
        "acceptance_length": 3.25,
        "copied_share": None,
        "accepted_lengths": [1, 2],
        "different_texts": 0,
    }
    return found | details | more


def shown(rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> str:
    show_speculation(Console(width=100), rows)
    return capsys.readouterr().out


def test_a_set_is_shown_with_its_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown([entry("auto"), entry("ngram-simple", "llama.cpp")], capsys)
    assert "100.0 ±10%" in out
    assert "2.00" in out and "1.50" in out and "3.25" in out
    assert "llama: ngram-simple" in out
    assert "same in all modes" in out
    assert "copied" not in out


def test_a_text_that_differs_is_not_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert "DIFFER" in shown([entry("auto", different_texts=1)], capsys)


def test_copies_are_shown_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert "97%" in shown([entry("auto", copied_share=0.97), entry("plain")], capsys)


def test_nothing_is_shown_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    plain = row("decode", "m", Speeds([1.0]))
    assert not is_speculation(plain)
    assert shown([plain], capsys) == ""


def test_a_bar_is_as_long_as_its_share() -> None:
    assert (len(bar(1.0)), len(bar(0.5)), len(bar(0.001))) == (8, 4, 1)


def test_a_histogram_has_a_column_for_each_level() -> None:
    assert histogram([]) == histogram([0, 0]) == ""
    assert histogram([4]) == "█         "
    assert histogram([8, 0, 4]) == "█ ▄       "
    assert histogram([0] * 5 + [1, 1]) == "    ██    "  # 5 counts from 4 on, 6 from 6 on
    assert histogram([0] * 63 + [2]) == "         █"
