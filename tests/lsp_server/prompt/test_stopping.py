import random
import time

import pytest

from lsp_server.prompt import CompletionInput, StopRule
from tests.lsp_server.prompt.corpus import Case, at_cursor, load_corpus, mangled

ANSWERED = [case for case in load_corpus() if case.skip is None]


def kept_in_pieces(inp: CompletionInput, raw: str, n_chars: int) -> tuple[str, bool]:
    rule = StopRule(inp)
    for start in range(0, len(raw), n_chars):
        if rule.feed(raw[start : start + n_chars]):
            break
    return rule.kept, rule.is_done


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.name)
def test_the_end_does_not_depend_on_the_pieces(case: Case) -> None:
    rng = random.Random(case.name)
    for raw in [case.raw, *(mangled(case, rng) for _ in range(10))]:
        whole = kept_in_pieces(case.inp, raw, max(1, len(raw)))
        assert kept_in_pieces(case.inp, raw, 1) == whole, raw
        assert kept_in_pieces(case.inp, raw, 7) == whole, raw


@pytest.mark.parametrize(
    ("document", "language", "raw", "kept"),
    [
        # a line that opens nothing ends a statement, one that opens a block goes on
        ("x = ‸", "python", "1\ny = 2\n", "1"),
        ("for x in ‸", "python", "xs:\n    print(x)\nprint(", "xs:\n    print(x)"),
        ("int f(void) ‸", "c", "{\n    return 1;\n}\nint g", "{\n    return 1;\n}"),
        ("if [ ‸", "shellscript", "x ]; then\n  cat x\nfi\necho y\n", "x ]; then\n  cat x\nfi"),
        ("<ul‸", "html", ">\n  <li>a</li>\n</ul>\n<p>", ">\n  <li>a</li>\n</ul>"),
        ("value = a +‸", "python", "\n    b\nc = 1\n", "\n    b"),
        # brackets that the text after the cursor closes, and those it does not
        ("f(‸)", "python", "a, g(b))\n", "a, g(b)"),
        ("f(‸", "python", "a, g(b))\nh()\n", "a, g(b))"),
        ("x = [‸\n]\n", "python", "\n    1,\n    2,\n]\n", "\n    1,\n    2,"),
        ("s = '(‸", "python", ")'\nt = 2\n", ")'"),
        # on a blank line
        ("def f():\n    ‸", "python", "a()\n    b()\n\n    c()\n", "a()\n    b()"),
        ("def f():\n    ‸", "python", "a()\n\n\ndef g():\n", "a()"),
        ("def f():\n    ‸", "python", "for x in y:\n        a()\n\n        b()\n    c()\nd()",
         "for x in y:\n        a()\n\n        b()\n    c()"),
        ("‸\n", "python", "def f():\n    a()\nf()\n", "def f():\n    a()"),
        ("‸\n", "c", "int f(void) {\n    return 1;\n}\nint g", "int f(void) {\n    return 1;\n}"),
        ("# Title\n\n‸", "markdown", "One line.\nTwo lines.\n\nMore", "One line.\nTwo lines."),
        # loops
        ("x = ‸", "python", "some_name and " * 4, "some_name "),
        ("‸", "python", " " * 60, ""),
    ],
)  # fmt: skip
def test_a_completion_ends_where_its_statement_or_block_ends(
    document: str, language: str, raw: str, kept: str
) -> None:
    rule = StopRule(at_cursor(document, language))
    assert rule.feed(raw)
    assert rule.kept == kept


def test_a_completion_never_grows_without_end() -> None:
    rule = StopRule(at_cursor("def f():\n    ‸"))
    assert rule.feed("".join(f"call_{'abcdef'[i % 6] * i}(x)\n    " for i in range(100)))
    assert rule.is_cut_short
    assert rule.kept.count("\n") < 12
    rule = StopRule(at_cursor("data = [‸"))
    assert rule.feed("".join(f"{i * i}, " for i in range(1000)))
    assert rule.is_cut_short


def test_reading_costs_the_same_for_every_piece() -> None:
    def seconds(n_chars: int) -> float:
        rule = StopRule(at_cursor('text = """‸'))
        started = time.perf_counter()
        rule.feed("".join(chr(97 + i * i % 23) for i in range(n_chars)))
        return time.perf_counter() - started

    few, many = min(seconds(400) for _ in range(5)), min(seconds(1600) for _ in range(5))
    assert many < 16 * few  # linear would be 4
