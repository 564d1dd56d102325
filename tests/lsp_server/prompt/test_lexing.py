import pytest

from lsp_server.prompt.languages import language_of
from lsp_server.prompt.lexing import Lexer, missing_closers
from tests.lsp_server.prompt.corpus import Case, load_corpus


@pytest.mark.parametrize(
    ("language", "text", "open_brackets", "unmatched"),
    [
        ("python", "f(a, [b", "([", ""),
        ("python", "f(')', \"(\"", "(", ""),
        ("python", "x = ''' ( '''[", "[", ""),
        ("python", "x = \"\"\" \" ( \"\"\"", "", ""),
        ("python", "# (\n{", "{", ""),
        ("python", "f('it\\'s (')", "", ""),
        ("python", "'open (\n(", "(", ""),
        ("c", "/* ( */ { // [\n", "{", ""),
        ("c", "'('", "", ""),
        ("rust", "fn f<'a>(x: &'a str) { '{'", "{", ""),
        ("typescript", "`${a(` + (", "(", ""),
        ("shellscript", "$# ${#name} # {", "", ""),
        ("yaml", "url: http://x # [", "", ""),
        ("lua", "-- (\n(", "(", ""),
        ("markdown", "(it's [", "", ""),
        ("c", "a / b /(", "(", ""),
        ("c", "a /* b\n(", "", ""),
        ("typescript", "`a\n(", "", ""),
        ("c", "})", "", "})"),
        ("c", "(]", "(", "]"),
    ],
)  # fmt: skip
def test_only_brackets_of_the_code_count(
    language: str, text: str, open_brackets: str, unmatched: str
) -> None:
    lexer = Lexer(language_of(language, ""))
    lexer.read(text)
    assert "".join(lexer.open_brackets) == open_brackets
    assert "".join(lexer.unmatched_closers) == unmatched


@pytest.mark.parametrize("case", load_corpus(), ids=lambda case: case.name)
def test_reading_at_once_is_reading_char_by_char(case: Case) -> None:
    text = case.inp.prefix + case.raw + case.inp.suffix
    at_once, stepped = (Lexer(language_of(case.inp.language_id, "")) for _ in range(2))
    at_once.read(text)
    for char in text:
        stepped.step(char)
    names = ("open_brackets", "unmatched_closers", "string", "comment", "has_left_string")
    for name in names:
        assert getattr(at_once, name) == getattr(stepped, name), name


@pytest.mark.parametrize(
    ("open_brackets", "closers_after", "is_whole", "missing"),
    [
        ("{{", "}", True, "}"),
        ("({", "})", True, ""),
        ("{(", "}", True, ")"),
        ("{(", "", True, ")}"),
        ("{(", "", False, ""),
        ("(", ")}}", True, ""),
        ("{", ")}", True, ""),  # a line below has lost its head
    ],
)
def test_missing_closers_are_those_the_text_after_lacks(
    open_brackets: str, closers_after: str, is_whole: bool, missing: str
) -> None:
    found = missing_closers(list(open_brackets), list(closers_after), is_whole)
    assert sorted(found.elements()) == sorted(missing)


def test_an_unfinished_comment_of_several_characters_is_seen() -> None:
    lexer = Lexer(language_of("html", ""))
    lexer.read("<p>text</p> <!-- not")
    assert lexer.comment == "-->"
