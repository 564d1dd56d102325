import random

import pytest

from lsp_server.prompt import StopRule, postprocess, skip_reason
from tests.lsp_server.prompt.corpus import Case, at_cursor, load_corpus, mangled

CORPUS = load_corpus()
ANSWERED = [case for case in CORPUS if case.skip is None]


def name_of(case: Case) -> str:
    return f"{case.name}: {case.rule}"


@pytest.mark.parametrize("case", ANSWERED, ids=name_of)
def test_shown_text_is_what_the_corpus_says(case: Case) -> None:
    assert postprocess(case.inp, case.raw, case.is_complete) == case.shown


@pytest.mark.parametrize("case", CORPUS, ids=name_of)
def test_model_is_asked_where_the_corpus_says(case: Case) -> None:
    assert skip_reason(case.inp) == case.skip


@pytest.mark.parametrize("case", ANSWERED, ids=name_of)
def test_text_stopped_while_it_streams_is_shown_alike(case: Case) -> None:
    rule, text, is_stopped = StopRule(case.inp), "", case.is_complete
    for start in range(0, len(case.raw), 4):
        text += case.raw[start : start + 4]
        if rule.feed(case.raw[start : start + 4]):
            is_stopped = True
            break
    assert postprocess(case.inp, text, is_stopped) == case.shown


@pytest.mark.parametrize("case", ANSWERED, ids=name_of)
def test_any_text_is_trimmed_to_a_fixed_point_that_does_not_repeat_the_line_below(
    case: Case,
) -> None:
    rng = random.Random(case.name)
    below = next((line for line in case.inp.suffix.splitlines()[1:] if line.strip()), "").rstrip()
    for _ in range(60):
        raw = mangled(case, rng)
        shown = postprocess(case.inp, raw, rng.random() < 0.5)
        assert postprocess(case.inp, shown, True) == shown, raw
        assert shown == "" or shown.strip(), raw
        if shown and any(char.isalnum() for char in below):
            last_line = (case.inp.prefix + shown).splitlines()[-1]
            assert last_line.rstrip() != below, raw


def test_corpus_has_a_case_for_every_family_of_rules() -> None:
    assert len(CORPUS) >= 30
    assert len({case.name for case in CORPUS}) == len(CORPUS)
    assert len({case.inp.language_id for case in CORPUS}) >= 10


@pytest.mark.parametrize(
    ("document", "raw", "shown"),
    [
        ("total = ‸\n", " a + b\n", "a + b"),  # a blank is there already
        ("total = ‸\n", "   \n", ""),
        ("total = ‸\n", "", ""),
        ("a = 1\n‸", "\n\nb = 2\n", "b = 2"),
        ("name = 'a ‸'\n", " b'\n", " b"),  # blanks in a string are text
    ],
)
def test_blanks_around_a_completion_are_trimmed(document: str, raw: str, shown: str) -> None:
    assert postprocess(at_cursor(document), raw, True) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a();\n  b((x) => {\n    c();\n    d", "a();"),
        ("b((x) => {\n    c();\n    d", "b((x) => {\n    c();"),  # all of it is open
        ("// the sum of it", ""),
        ("a();\n  // and then", "a();"),
    ],
)
def test_what_leads_nowhere_is_not_shown(raw: str, shown: str) -> None:
    inp = at_cursor("function f() {\n  ‸\n}\n", "javascript")
    assert postprocess(inp, raw, is_complete=not raw.endswith("    d")) == shown


@pytest.mark.parametrize(
    ("document", "language"),
    [
        ('def f():\n    """\n    ‸\n    """\n', "python"),
        ("description: ‸\n", "yaml"),
        ("<p>\n  ‸\n</p>\n", "html"),
    ],
)
def test_prose_is_no_chat_where_prose_belongs(document: str, language: str) -> None:
    raw = "This function adds two numbers."
    assert postprocess(at_cursor(document, language), raw, True) == raw


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("['SIGINT', 'SIGTERM', 'SIGQ", "['SIGINT', 'SIGTERM'"),
        ("first + second + thi", "first + second"),
        ("first", ""),
    ],
)
def test_an_only_half_line_ends_at_a_sensible_boundary(raw: str, shown: str) -> None:
    assert postprocess(at_cursor("x = ‸\n"), raw, False) == shown


def test_one_line_is_shown_when_one_line_is_asked_for() -> None:
    inp = at_cursor("def f(x):\n    ‸\n", multiline=False)
    assert postprocess(inp, "y = x\n    return y\n", True) == "y = x"
