import math

import pytest

from lsp_server.context_layout import (
    Gap,
    by_file,
    heat,
    kept_and_gaps,
    lines_of,
    share,
    verdict,
    visible,
)
from tests.lsp_server.context_reports import EXAMPLE, report, span


def test_spans_are_grouped_by_file_and_ordered_by_line() -> None:
    config, notes = by_file(report(span(8), span(0, path="b", uri="b"), span(2)))
    assert [s.first_line for s in config.spans] == [2, 8]
    assert (notes.path, config.end_line, config.kept_tokens) == ("b", 9, 20)


def test_equal_paths_of_two_folders_stay_apart() -> None:
    assert len(by_file(report(span(uri="a"), span(uri="b")))) == 2


def test_what_lies_between_kept_spans_is_a_gap() -> None:
    pieces = list(kept_and_gaps(by_file(EXAMPLE)[0]))
    shape = [
        (p.first_line, p.n_lines, len(p.dropped)) if isinstance(p, Gap) else p.first_line
        for p in pieces
    ]
    assert shape == [(0, 4, 0), 4, (6, 24, 1), 30]


def test_what_was_dropped_at_the_end_is_a_gap() -> None:
    file = by_file(report(span(0), span(1, "b\nc\n", is_kept=False)))[0]
    kept, gap = kept_and_gaps(file)
    assert kept is file.spans[0]
    assert gap == Gap(first_line=1, n_lines=2, dropped=file.spans[1:])


def test_overlapping_spans_make_no_gap() -> None:
    file = by_file(report(span(0, "a\nb\nc\n"), span(1, "b\n"), span(3, "d\n")))[0]
    assert not [piece for piece in kept_and_gaps(file) if isinstance(piece, Gap)]


@pytest.mark.parametrize(
    ("score", "shown"), [(0.5, 0.5), (-1.0, 0.0), (7.0, 1.0), (math.nan, 0.0), (math.inf, 1.0)]
)
def test_a_score_outside_its_range_is_clamped(score: float, shown: float) -> None:
    assert heat(span(score=score)) == shown


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", []), ("a", ["a"]), ("a\r\nb\r\n", ["a", "b"]), ("\n", [""]), ("a\n\n", ["a", ""])],
)
def test_lines_lose_their_ends_and_nothing_else(text: str, lines: list[str]) -> None:
    assert lines_of(span(text=text)) == lines


@pytest.mark.parametrize("code", [0x00, 0x1B, 0x7F, 0x9B, 0x202E, 0x2066, 0x200F, 0x2028, 0xD800])
def test_characters_that_act_on_the_screen_are_written_out(code: int) -> None:
    assert visible(f"a{chr(code)}b") == f"a‹U+{code:04X}›b"


def test_text_of_any_script_stays_as_it_is() -> None:
    for text in ("größe = 1", "名前 = '値'", "שלום", "👩\u200d💻", "می\u200cخواهم", "\ta"):
        assert visible(text) == text


def test_the_verdict_says_why_nothing_was_shown() -> None:
    assert verdict(EXAMPLE) is None
    assert "nothing helps\u2039U+001B\u203a" in str(
        verdict(report(span(), abstained="nothing helps\x1b"))
    )
    assert "off" in str(verdict(report(mode="off")))
    assert "nothing to choose from" in str(verdict(report()))


def test_a_share_of_nothing_is_nothing() -> None:
    assert (share(0, 0), share(1, 3)) == ("0 %", "33 %")
