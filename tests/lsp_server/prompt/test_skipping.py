import pytest

from lsp_server.prompt import CompletionInput, skip_reason
from tests.lsp_server.prompt.corpus import at_cursor


@pytest.mark.parametrize(
    ("document", "language"),
    [
        ("def f(‸):\n", "python"),
        ("foo(bar, ‸))  # why\n", "python"),
        ("items.map((item) => ‸);\n", "typescript"),
        ("if (‸) {\n", "c"),
        ('<a href="‸">\n', "html"),
        ("<b>‸</b>\n", "html"),
        ("for (int i = 0; ‸) {\n", "c"),
        ("// Sums up;‸\n", "c"),
        ("x = 'a;‸'\n", "javascript"),
        ("\n‸\nimport os\n", "python"),
    ],
)
def test_a_useful_place_is_answered(document: str, language: str) -> None:
    assert skip_reason(at_cursor(document, language)) is None


@pytest.mark.parametrize(
    ("inp", "reason"),
    [
        (at_cursor("wo‸rd"), "the cursor is inside a word"),
        (at_cursor("‸x = 1"), "text follows the cursor on its line"),
        (at_cursor("f(‸a)"), "text follows the cursor on its line"),
        (at_cursor("  ‸\n\n"), "the document is empty"),
        (at_cursor("return 0; ‸", "c"), "the statement is already complete"),
        (CompletionInput("a" * 1200, ""), "the line is too long to be written by hand"),
        (CompletionInput("a\0b", ""), "the document is not text"),
    ],
)
def test_a_useless_place_is_left_alone_with_the_reason(inp: CompletionInput, reason: str) -> None:
    assert skip_reason(inp) == reason
