"""Where nothing should be offered: a wrong suggestion costs more than none."""

import re

from lsp_server.prompt.situation import CompletionInput, Situation

_MAX_LINE_CHARS = 1000
# What may stand right of the cursor: closers, quotes, separators and the head of a block.
_CLOSERS = re.compile(r"""[\s)\]}>"'`,;:.!?]*(?:=>\s*)?(?:\{\s*[)\]}>"'`,;]*)?(?:/>)?\s*""")
_CLOSING_TAGS = re.compile(r"\s*(?:</[\w:-]+>\s*)+")


def skip_reason(inp: CompletionInput) -> str | None:
    """Name why nothing should be offered at this cursor; None means go ahead."""
    if not inp.prefix.strip() and not inp.suffix.strip():
        return "the document is empty"
    if "\0" in inp.prefix[-4096:] or "\0" in inp.suffix[:4096]:
        return "the document is not text"
    line_before = re.split(r"[\r\n]", inp.prefix[-_MAX_LINE_CHARS - 1 :])[-1]
    line_after = re.split(r"[\r\n]", inp.suffix[: _MAX_LINE_CHARS + 1], maxsplit=1)[0]
    if len(line_before) + len(line_after) > _MAX_LINE_CHARS:
        return "the line is too long to be written by hand"
    if line_before[-1:].isalnum() and line_after[:1].isalnum():
        return "the cursor is inside a word"
    at = inp.situation
    code_after = at.code_of(at.line_after)
    if not _CLOSERS.fullmatch(code_after) and not _CLOSING_TAGS.fullmatch(code_after):
        return "text follows the cursor on its line"
    if _is_statement_ended(at):
        return "the statement is already complete"
    return None


def _is_statement_ended(at: Situation) -> bool:
    """Tell whether the line before the cursor ends with a terminator such as ";"."""
    if at.lexer.is_in_text:
        return False
    is_in_header = at.lexer.open_brackets[-1:] == ["("]  # for (;;)
    ends = at.line_before.rstrip().endswith(at.language.terminators or ("\0",))
    return ends and not is_in_header
