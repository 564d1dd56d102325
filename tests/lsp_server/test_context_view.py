import io

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from lsp_server.context_report import ContextReport
from lsp_server.context_view import as_json, terminal
from tests.lsp_server.context_reports import EXAMPLE, HOSTILE, report, span


def shown(of: ContextReport, width: int = 80, *, styles: bool = False) -> str:
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(terminal(of, width))
    return console.export_text(styles=styles)


def test_kept_lines_stand_under_their_file_with_numbers_and_scores() -> None:
    lines = shown(EXAMPLE).splitlines()
    assert lines[0] == " 67 %  pkg/config.py  kept 20 of 30 tokens"
    assert lines[1] == "   … 4 lines left out …"
    assert lines[2] == "   █ defines parse_config · 1.00 · 10 tokens"
    assert lines[3] == " 5 █ def parse_config(path):"
    assert lines[4] == " 6 █     return {}"
    assert lines[5] == "   … 24 lines left out, best 0.20: budget …"
    assert lines[7] == "31 ▅ NEW = 2"


def test_files_of_which_nothing_was_kept_take_a_line_each() -> None:
    text = shown(EXAMPLE)
    assert "nothing kept of 1 file:" in text
    assert "▁ 0.10  notes.py  lines 1-1, budget" in text
    assert "# notes" not in text


def test_only_the_best_of_many_dropped_files_are_listed() -> None:
    spans = [
        span(path=f"f{i}", uri=f"u{i}", is_kept=False, score=i / 100, reason="budget")
        for i in range(50)
    ]
    text = shown(report(*spans))
    assert "f49 " in text and "f30 " in text and "f29 " not in text
    assert "… and 30 more …" in text


def test_the_summary_holds_totals_and_timings() -> None:
    *_, totals, costs = shown(EXAMPLE).splitlines()
    assert totals == "kept 20 of 40 tokens (50 %), budget 2,048 · mode auto"
    assert costs.startswith("incremental: 40 segments scored, 38 kept from before · index 3 ms")


def test_hotter_spans_have_another_colour() -> None:
    def colours(score: float) -> str:
        return shown(report(span(score=score)), styles=True).split("a = 1")[0]

    assert "\x1b[31m" in colours(0.9) and "\x1b[31m" not in colours(0.1)
    assert "\x1b[34m" in colours(0.1)


@pytest.mark.parametrize("width", [1, 20, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    wide = span(
        text="\tx = '" + "名前" * 80 + "'\n", path="a\tb/" * 30 + "c.py", reason="imported " * 20
    )
    dropped = span(path="d/" * 60, uri="d", is_kept=False)
    text = shown(report(wide, dropped, scorer="s" * 90), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "…" in text


def test_nothing_foreign_acts_on_the_terminal() -> None:
    foreign = "\x1b]0;owned\x07\x1b[2J\u202e\r\n[bold red]"
    hostile = span(text=foreign, path=foreign, reason=foreign)
    text = shown(
        report(hostile, abstained=foreign, scorer=foreign, milliseconds={foreign: 1.0}), 400
    )
    assert not set(text) & set("\x1b\x07\r\u202e")
    assert "‹U+001B›" in text and "[bold red]" in text


def test_an_empty_report_says_that_there_is_nothing() -> None:
    text = shown(report(milliseconds={}, n_scored=0, n_reused=0))
    assert "nothing to choose from" in text
    assert "kept 0 of 0 tokens (0 %)" in text


def test_an_abstained_report_gives_its_reason() -> None:
    text = shown(report(span(is_kept=False), abstained="best score 0.02 is below 0.10"))
    assert "nothing was shown to the model: best score 0.02 is below 0.10" in text


def test_json_has_every_field_in_camel_case() -> None:
    plain = as_json(report(span(3, text=HOSTILE[0])))
    assert plain["budgetTokens"] == 2048 and plain["abstained"] is None
    assert plain["spans"][0]["firstLine"] == 3 and plain["spans"][0]["isKept"] is True
    assert plain["spans"][0]["text"] == HOSTILE[0]
    assert msgspec.convert(plain, ContextReport) == report(span(3, text=HOSTILE[0]))
