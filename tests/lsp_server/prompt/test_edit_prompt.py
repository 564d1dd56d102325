from lsp_server.prompt.edit_prompt import EditInput, build_edit_prompt, common_indent
from tests.lsp_server.prompt.edit_corpus import selected
from tests.lsp_server.scripted_engine import INFO


def said(inp: EditInput, max_context_chars: int = 2000) -> str:
    return "".join(
        part.text
        for part in build_edit_prompt(INFO, inp, max_context_chars).parts
        if not part.is_special
    )


def test_the_model_sees_the_file_the_lines_and_the_instruction() -> None:
    inp = selected("class A:\n‸    x = 1\n‸    y = 2\n", instruction="make x two")
    text = said(inp)
    for piece in ("class A:\n    x = 1\n    y = 2\n", "```python\nx = 1\n```", "make x two"):
        assert piece in text
    assert text.endswith("assistant\n```python\n")


def test_the_replaced_text_is_the_first_reference() -> None:
    prompt = build_edit_prompt(INFO, selected("a = 1\n‸    x = 1\n‸b = 2\n"), 2000)
    assert prompt.references == ("x = 1\n", "a = 1\nb = 2\n")
    assert prompt.stop == ("\n```",)


def test_the_fence_is_longer_than_any_in_the_selection() -> None:
    prompt = build_edit_prompt(INFO, selected("‸````\nx\n````\n‸", "markdown"), 2000)
    assert prompt.stop == ("\n`````",)
    assert prompt.parts[-1].text.endswith("\n`````markdown\n")


def test_the_surroundings_are_cut_at_lines() -> None:
    inp = EditInput("above\n" * 100, "x = 1\n", "below\n" * 100, "change it", "python")
    text = said(inp, 60)
    assert 5 <= text.count("above\n") <= 10
    assert 3 <= text.count("below\n") <= 10
    assert "\nove" not in text


def test_lines_that_are_missing_are_asked_for_between_their_neighbours() -> None:
    text = said(selected("def f(a):\n‸    \n‸    return b\n", instruction="set b to twice a"))
    assert "missing" in text and "def f(a):" in text and "    return b" in text


def test_the_indentation_is_that_of_all_lines_or_of_the_line_above() -> None:
    assert selected("‸    a\n\n      b\n‸").indent == "    "
    assert selected("‸\ta\n\t\tb\n‸").indent == "\t"
    assert selected("‸  \n‸x\n").indent == "  "
    assert selected("    a\n‸\n‸x\n").indent == "    "
    assert selected("    a\n‸‸").indent == ""
    assert common_indent("\tx\n    y\n") == ""


def test_line_ends_of_the_document_do_not_reach_the_model() -> None:
    assert "\r" not in said(selected("a\n‸b\n‸c\n", eol="\r\n"))


def test_a_language_unknown_by_id_is_named_by_its_suffix() -> None:
    assert EditInput("", "x\n", "", "y", "", "a.rs").fence_name == "rust"
    assert EditInput("", "x\n", "", "y", "", "a.lua").fence_name == "lua"
    assert EditInput("", "x\n", "", "y").fence_name == ""
