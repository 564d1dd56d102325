import time

import pytest

from lsp_server.prompt import CompletionInput
from lsp_server.prompt.situation import Situation, eol_of
from tests.lsp_server.prompt.corpus import at_cursor


@pytest.mark.parametrize(
    ("text", "eol"), [("a\nb", "\n"), ("a\r\nb", "\r\n"), ("a\rb", "\r"), ("a", "\n")]
)
def test_the_line_end_is_the_documents(text: str, eol: str) -> None:
    assert eol_of(text, "") == eol


@pytest.mark.parametrize(
    ("document", "unit"),
    [
        ("if a:\n    b\n    c\n‸", "    "),
        ("{\n  a: {\n    b\n  }\n}‸", "  "),
        ("f {\n\ta\n\tb\n}‸", "\t"),
        ("a\nb\n‸", "    "),
    ],
)
def test_the_indent_unit_is_the_documents(document: str, unit: str) -> None:
    assert Situation(at_cursor(document)).indent_unit == unit


def test_the_lines_around_the_cursor_are_known() -> None:
    at = Situation(at_cursor("a\r\n\r\nb\r\nc ‸ d\r\n\r\n  e\r\n"))
    assert (at.line_before, at.line_after) == ("c ", " d")
    assert at.lines_above == ["a", "b"]
    assert at.next_line == "  e"


@pytest.mark.parametrize(
    ("language", "line", "code"),
    [
        ("python", "x = 1  # why", "x = 1"),
        ("python", "x = '# no'", "x = '# no'"),
        ("c", "f(); /* why */", "f();"),
        ("html", "<p><!-- why -->", "<p>"),
        ("markdown", "# Title", "# Title"),
    ],
)
def test_code_is_a_line_without_its_comment(language: str, line: str, code: str) -> None:
    assert Situation(at_cursor("‸", language)).code_of(line) == code


def test_a_large_document_is_read_in_milliseconds() -> None:
    half = "    value = compute(value, [1, 2, 3])  # again\n" * 20_000
    started = time.perf_counter()
    Situation(CompletionInput(half, half, "python"))
    assert time.perf_counter() - started < 0.5
