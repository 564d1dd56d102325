import pytest

from engine.errors import RequestError
from engine.request import PromptPart
from lsp_server.prompt import FORMS, CompletionInput, build_prompt
from tests.lsp_server.prompt.corpus import at_cursor

DOCUMENT = at_cursor("one\ntwo\nthr‸ee\nfour\nfive\n")


def text_of(form: str, inp: CompletionInput, n_prefix: int, n_suffix: int) -> str:
    return "".join(part.text for part in build_prompt(inp, form, n_prefix, n_suffix).parts)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("fim_psm", "<|fim_prefix|>one\ntwo\nthr<|fim_suffix|>ee\nfour\nfive\n<|fim_middle|>"),
        ("prefix", "one\ntwo\nthr"),
    ],
)
def test_a_form_lays_out_the_document(form: str, text: str) -> None:
    assert text_of(form, DOCUMENT, 100, 100) == text


@pytest.mark.parametrize("form", FORMS)
def test_only_the_text_before_the_cursor_is_healed_and_only_tokens_are_special(form: str) -> None:
    parts = build_prompt(DOCUMENT, form, 100, 100).parts
    assert [part for part in parts if part.heal] == [PromptPart("one\ntwo\nthr", heal=True)]
    assert {part.text for part in parts if part.is_special} == set(FORMS[form].special_tokens)


def test_names_of_special_tokens_in_a_document_stay_text() -> None:
    inp = at_cursor("x = '<|fim_suffix|>'\n‸")
    parts = build_prompt(inp, "fim_psm", 100, 100).parts
    assert PromptPart("x = '<|fim_suffix|>'\n") in parts


@pytest.mark.parametrize(("form", "is_healed"), [("fim_psm", False), ("prefix", True)])
def test_indentation_is_healed_only_where_the_text_goes_straight_on(
    form: str, is_healed: bool
) -> None:
    parts = build_prompt(at_cursor("if x:\n    ‸\n"), form, 100, 100).parts
    assert PromptPart("if x:\n    ", heal=is_healed) in parts


@pytest.mark.parametrize(
    ("n_prefix", "n_suffix", "prefix", "suffix"),
    [(8, 8, "two\nthr", "ee\nfour\n"), (4, 4, "thr", "ee\n"), (2, 2, "hr", "ee")],
)
def test_the_window_is_cut_at_line_boundaries(
    n_prefix: int, n_suffix: int, prefix: str, suffix: str
) -> None:
    parts = build_prompt(DOCUMENT, "fim_psm", n_prefix, n_suffix).parts
    assert (parts[1].text, parts[3].text) == (prefix, suffix)


def test_the_window_stays_where_it_is_while_a_line_is_typed() -> None:
    document = "".join(f"line number {i}\n" for i in range(200))
    starts = {
        text_of("prefix", CompletionInput(document + "x" * n, ""), 800, 0)[:20] for n in range(100)
    }
    assert len(starts) <= 2


def test_an_unknown_form_is_refused_with_those_there_are() -> None:
    with pytest.raises(RequestError, match="unknown prompt form 'chat'; known: fim_psm"):
        build_prompt(DOCUMENT, "chat", 100, 100)


@pytest.mark.parametrize("form", FORMS)
def test_no_prompt_is_without_text(form: str) -> None:
    assert text_of(form, CompletionInput("", "import os\n"), 100, 100)
