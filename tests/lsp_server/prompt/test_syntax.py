import pytest

from lsp_server.prompt.edit_prompt import EditInput
from lsp_server.prompt.syntax import damage
from tests.lsp_server.prompt.edit_corpus import selected


@pytest.mark.parametrize(
    ("language", "document", "replacement", "is_damaged"),
    [
        ("python", "if a:\n‸    b()\n‸", "    c()\n", False),
        ("python", "if a:\n‸    b()\n‸", "c()\n", True),  # parses alone, but not there
        ("python", "def f(:\n‸x = (1)\n‸", "x = (2\n", True),  # the file is broken, the line not
        ("python", "‸x = [\n‸1]\n", "x = {\n", True),
        ("python", "def f(:\n‸x = [\n‸1]\n", "y = [\n", False),
        ("python", '‸x = "\\d"\n‸', 'x = "\\w"\n', False),  # an odd escape is no damage
        ("python", "‸x = 1\n‸", "x = " + "(" * 5000 + "\n", True),
        ("rust", "‸fn f<'a>(x: &'a str) {}\n‸", "fn g<'b>(x: &'b str) {}\n", False),
        ("rust", "‸fn f() {}\n‸", "fn f() {}}\n", True),
        ("javascript", "‸f();\n‸", 'f("(");\n', False),
        ("javascript", "‸f();\n‸", "f(`a);\n", True),
        ("javascript", "/*\n‸ a (\n‸*/\n", " b ((\n", False),  # inside a comment
        ("c", "‸a(); /* b */\n‸", "a(); /* b\n", True),
        ("markdown", "‸(a)\n‸", "(a\n", False),
    ],
)
def test_only_what_was_sound_can_be_damaged(
    language: str, document: str, replacement: str, is_damaged: bool
) -> None:
    found = damage(selected(document, language), replacement)
    assert (found is not None) is is_damaged, found


def test_python_is_told_by_its_suffix_where_there_is_no_language() -> None:
    assert damage(EditInput("", "x = 1\n", "", "", "", "a.py"), "x =\n") is not None
    assert damage(EditInput("", "x = 1\n", "", "", "", "a.txt"), "x =\n") is None
