"""Code blocks of the documentation, for the tests that hold them to what they say."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_blocks(path: str, language: str) -> list[str]:
    """The fenced blocks of a language in a Markdown file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
