import pytest

from lsp_server.prompt.languages import language_of


@pytest.mark.parametrize(
    ("language_id", "path", "same_as"),
    [
        ("", "a/b.py", "python"),
        ("Python", "", "python"),
        ("unknown", "x.tsx", "typescript"),
        ("", "notes.md", "markdown"),
        ("", "no-suffix", "no-such-language"),
        ("javascript", "x.py", "typescript"),
    ],
)
def test_the_language_id_wins_over_the_suffix(language_id: str, path: str, same_as: str) -> None:
    assert language_of(language_id, path) is language_of(same_as, "")


@pytest.mark.parametrize(
    ("language", "line", "opens"),
    [
        ("python", "if x:", True),
        ("python", "x = d['a:']", False),
        ("c", "case LEVEL_INFO:", True),
        ("typescript", "items.map((x) =>", True),
        ("shellscript", "for f in *; do", True),
        ("lua", "function M.f(a, b)", True),
        ("ruby", "def name", True),
        ("html", '<div class="a">', True),
        ("html", '<br class="a">', False),
        ("html", "<p>text</p>", False),
        ("yaml", "steps:", True),
        ("yaml", "key: value", False),
        ("markdown", "Note:", False),
    ],
)
def test_a_line_that_opens_a_block_is_recognised(language: str, line: str, opens: bool) -> None:
    assert (language_of(language, "").opener.search(line) is not None) == opens
