import pytest

from engine.request import FinishReason
from lsp_server.prompt.edit_output import EditRefusal, EditRefusedError, clean_edit
from lsp_server.prompt.edit_prompt import EditInput
from tests.lsp_server.prompt.edit_corpus import Case, load_cases, selected

CASES = load_cases()


def outcome(case: Case, inp: EditInput) -> str:
    try:
        return clean_edit(inp, case.raw, case.finish)
    except EditRefusedError as error:
        assert str(error)
        return error.reason.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_corpus_comes_out_as_it_says(case: Case) -> None:
    assert outcome(case, case.inp) == (case.shown if case.refused is None else case.refused)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_line_ends_are_the_documents(case: Case) -> None:
    inp = case.inp
    crlf = EditInput(
        *(text.replace("\n", "\r\n") for text in (inp.before, inp.selection, inp.after)),
        inp.instruction,
        inp.language_id,
    )
    shown = None if case.shown is None else case.shown.replace("\n", "\r\n")
    assert outcome(case, crlf) == (shown if case.refused is None else case.refused)


def test_every_refusal_of_an_answer_has_a_case() -> None:
    # The others are about the document or the user, not about the answer.
    others = {EditRefusal.CANCELLED, EditRefusal.STALE, EditRefusal.SUPERSEDED}
    tested = {case.refused for case in CASES} | {EditRefusal.CHANGED_CODE.value}
    assert {reason.value for reason in EditRefusal} - {o.value for o in others} <= tested


def test_a_cancelled_answer_is_not_applied() -> None:
    with pytest.raises(EditRefusedError) as refused:
        clean_edit(selected("‸x = 1\n‸"), "x = 2", FinishReason.CANCELLED)
    assert refused.value.reason is EditRefusal.CANCELLED


@pytest.mark.parametrize(
    ("language", "old", "new", "is_fine"),
    [
        ("python", "def f():\n    return 1\n", 'def f():\n    """One."""\n    return 1', True),
        ("python", "def f():\n    return 1\n", 'def f():\n    """One."""\n    return 2', False),
        (
            "go",
            "func f() int {\n\treturn 1\n}\n",
            "// f is 1.\nfunc f() int {\n\treturn 1\n}",
            True,
        ),
        ("go", "func f() int {\n\treturn 1\n}\n", "// f is 1.\nfunc f() int {\n}", False),
        ("c", 'char *s = "//";\n', '/* a\nb */ char *s = "//"; // c', True),
    ],
)
def test_documenting_may_change_no_code(language: str, old: str, new: str, is_fine: bool) -> None:
    inp = EditInput("", old, "", "document", language, keeps_code=True)
    if is_fine:
        assert clean_edit(inp, new, FinishReason.STOP) == new + "\n"
        return
    with pytest.raises(EditRefusedError) as refused:
        clean_edit(inp, new, FinishReason.STOP)
    assert refused.value.reason is EditRefusal.CHANGED_CODE


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        ("def f():\n    pass\n", "\n\ndef test():\n    pass\n"),
        ("def f():\n    pass\n\n\n", "def test():\n    pass\n"),
        ("", "def test():\n    pass\n"),
    ],
)
def test_what_is_added_to_a_file_keeps_its_distance(before: str, shown: str) -> None:
    inp = EditInput(before, "", "", "write tests", "python")
    assert clean_edit(inp, "def test():\n    pass", FinishReason.STOP) == shown
