"""From what a model answered to the lines that replace a selection, or the reason to refuse it.

What is merely untidy is repaired: fences, chatter, indentation, the last line end. What cannot be
a clean replacement is refused with a typed reason; nothing doubtful is ever applied.
"""

import re
from enum import StrEnum

from engine.request import FinishReason
from lsp_server.prompt.edit_prompt import (
    EditInput,
    common_indent,
    lines_with_content,
    without_indent,
)
from lsp_server.prompt.languages import language_of
from lsp_server.prompt.situation import to_line_feeds
from lsp_server.prompt.syntax import change_of_code, damage, is_python

_MARKER = re.compile(r"<\|[\w▁|]+\|>|<(?:fim|file|repo)_\w+>|\[/?INST\]|</?s>")
_FENCE_LINE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`~\n]*\Z")
_CHATTER = re.compile(
    r"\s*(?:(?:sure|certainly|of course|okay|yes)\b[,!. ]|here(?:'s|\u2019s| is| are)\b"
    r"|(?:the|this|these) (?:\w+ )?(?:code|function|change|version|rewritten|modified|updated)"
    r"|(?:note|explanation|changes?)\b[ \w]*:|i(?:'ve|\u2019ve| have) |in this (?:code|version)\b"
    r"|(?:\*\*|#+ )?(?:explanation|changes made)\b)",
    re.IGNORECASE,
)
_ELISION = re.compile(
    r"(?:#|//|/\*|--|<!--)\s*(?:\.\.\.|…|(?:the )?(?:rest|remaining)\b|(?:existing|other|same) code"
    r"|your code\b|(?:code|methods?|implementation) (?:here|goes|unchanged|as before))",
    re.IGNORECASE,
)
_REPEATED_LINES = 2  # so many lines of the neighbourhood in a row are no coincidence
_LEAST_LINE_CHARS = 4  # braces and the like are common to all code
_TAB_COLUMNS = 4


class EditRefusal(StrEnum):
    """Why an edit is not applied."""

    TRUNCATED = "truncated"
    CANCELLED = "cancelled"
    EMPTY = "empty"
    UNCHANGED = "unchanged"
    FENCED = "fenced"
    MARKERS = "markers"
    REPEATS_CONTEXT = "repeats-context"
    ELIDED = "elided"
    BROKEN_SYNTAX = "broken-syntax"
    CHANGED_CODE = "changed-code"
    STALE = "stale"
    SUPERSEDED = "superseded"


class EditRefusedError(Exception):
    """An edit is not applied; the message is for the user who asked for it."""

    def __init__(self, reason: EditRefusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def clean_edit(inp: EditInput, raw: str, finish: FinishReason) -> str:
    """The lines to put in place of `inp.selection`, with the document's indentation and line ends.

    Raises EditRefusedError.
    """
    _check_finish(finish)
    text = _without_chatter(inp, _unfenced(inp, to_line_feeds(raw)))
    text = _without_surroundings(inp, text)
    _check_leftovers(inp, text)
    text = _framed(inp, _indented(inp, text))
    _check_replacement(inp, text)
    return text.replace("\n", inp.eol)


def _check_finish(finish: FinishReason) -> None:
    if finish in (FinishReason.LENGTH, FinishReason.DEADLINE):
        limit = "length" if finish is FinishReason.LENGTH else "time"
        raise EditRefusedError(
            EditRefusal.TRUNCATED,
            f"the answer reached the {limit} limit before its end; select fewer lines",
        )
    if finish is FinishReason.CANCELLED:
        raise EditRefusedError(EditRefusal.CANCELLED, "the edit was cancelled")


def _unfenced(inp: EditInput, raw: str) -> str:
    """The code of the first block, or all of it; the prompt has opened a block already."""
    lines = raw.split("\n")
    own = len(inp.fence)
    marks = [n for n, line in enumerate(lines) if _is_fence(line, own)]
    if not marks:
        return raw
    said = lines_with_content("\n".join(lines[: marks[0]]))
    if not said or all(_CHATTER.match(line) or line.endswith(":") for line in said):
        end = marks[1] if len(marks) > 1 else len(lines)
        return "\n".join(lines[marks[0] + 1 : end])
    return "\n".join(lines[: marks[0]])


def _is_fence(line: str, n_chars: int) -> bool:
    match = _FENCE_LINE.match(line)
    return match is not None and len(match[1]) >= n_chars


def _without_chatter(inp: EditInput, text: str) -> str:
    """Drop sentences before and after the code that the selection does not have, either."""
    lines = text.strip("\n").split("\n")
    known = set(inp.old.split("\n"))

    def is_chatter(line: str) -> bool:
        return line not in known and _CHATTER.match(line) is not None

    if lines and is_chatter(lines[0]) and lines[0].rstrip().endswith((":", ".", "!")):
        lines = lines[1:]
    for n in range(len(lines) - 1, 0, -1):
        if is_chatter(lines[n]) and not lines[n - 1].strip():
            lines = lines[:n]
    return "\n".join(lines).strip("\n")


def _without_surroundings(inp: EditInput, text: str) -> str:
    """Drop the lines right above and below the selection where the model wrote them, too."""
    lines = text.split("\n")
    above = lines_with_content(to_line_feeds(inp.before))
    below = lines_with_content(to_line_feeds(inp.after))
    # The only line of the file above, such as a package's name, is no coincidence.
    n_head = _n_shared(lines, above[::-1], 1 if len(above) == 1 else _REPEATED_LINES)
    lines = lines[n_head:]
    n_tail = _n_shared(lines[::-1], below, _REPEATED_LINES)
    return "\n".join(lines[: len(lines) - n_tail]).strip("\n")


def _n_shared(lines: list[str], near: list[str], least: int) -> int:
    """How many of the first lines are the whole way to the selection: the lines of `near`, nearest
    first, read backwards. Fewer than `least` may be a coincidence and count as none."""
    places = [n for n, line in enumerate(lines) if line.strip()]
    said = [lines[n].strip() for n in places]
    had = [line.strip() for line in near[: len(said)]]
    for length in range(min(len(said), len(had)), least - 1, -1):
        if said[:length] == had[:length][::-1]:
            return places[length - 1] + 1
    return 0


def _check_leftovers(inp: EditInput, text: str) -> None:
    if not text.strip():
        raise EditRefusedError(EditRefusal.EMPTY, "the model answered with nothing")
    known = inp.before + inp.selection + inp.after + inp.instruction
    if (marker := _MARKER.search(text)) is not None and marker.group() not in known:
        raise EditRefusedError(
            EditRefusal.MARKERS, f"the answer contains the model's own mark {marker.group()}"
        )
    own = len(inp.fence)
    if any(_is_fence(line, own) for line in text.split("\n")) or _is_new_fence(inp, text):
        raise EditRefusedError(
            EditRefusal.FENCED, "the answer is a text with code blocks, expected code alone"
        )
    elision = _ELISION.search(text)
    if elision is not None and elision.group() not in known:
        raise EditRefusedError(
            EditRefusal.ELIDED, f"the answer leaves code out: '{elision.group()}'"
        )


def _is_new_fence(inp: EditInput, text: str) -> bool:
    """Whether a line begins or ends a code block as no line of the selection does."""
    if language_of(inp.language_id, inp.path).is_prose:
        return False
    known = {line.strip() for line in inp.old.split("\n")}
    return any(_is_fence(line, 3) and line.strip() not in known for line in text.split("\n"))


def _indented(inp: EditInput, text: str) -> str:
    """Give the answer the selection's indentation in place of its own."""
    first, _, rest = text.partition("\n")
    if lines_with_content(rest) and not first.startswith((" ", "\t")):
        # A first line that begins where the cursor would be, above lines of the file's own depth.
        shift = common_indent(rest)
        is_head = first.rstrip().endswith((":", "{", "(", "[", "=>"))
        if shift and shift == inp.indent and not is_head:
            text = shift + text
    text = _in_unit_of(inp, without_indent(text, common_indent(text)))
    return "\n".join(inp.indent + line if line.strip() else "" for line in text.split("\n"))


def _in_unit_of(inp: EditInput, text: str) -> str:
    """Indent with tabs where the document does, and with spaces where it does that."""
    around = inp.before[-8192:] + inp.selection + inp.after[:8192]
    n_tabs = len(re.findall(r"^\t", around, re.MULTILINE))
    n_spaces = len(re.findall(r"^ {2,}\S", around, re.MULTILINE))
    if n_tabs == n_spaces:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        content = line.lstrip(" \t")
        blanks = line[: len(line) - len(content)].expandtabs(_TAB_COLUMNS)
        if n_tabs > n_spaces:
            n_deep, n_more = divmod(len(blanks), _TAB_COLUMNS)
            blanks = "\t" * n_deep + " " * n_more
        lines.append(blanks + content)
    return "\n".join(lines)


def _framed(inp: EditInput, text: str) -> str:
    """Keep the blank lines around the selection and its last line end."""
    if not inp.bare:
        return _gap(inp) + text + "\n"
    lead = len(inp.old) - len(inp.old.lstrip("\n"))
    tail = len(inp.old) - len(inp.old.rstrip("\n"))
    return "\n" * lead + text + "\n" * tail


def _gap(inp: EditInput) -> str:
    """The blank lines between a file's end and what is added there."""
    above = to_line_feeds(inp.before[-64:])
    if inp.after or inp.old or not above.strip():
        return ""
    n_wanted = 2 if is_python(inp) else 1
    return "\n" * max(0, n_wanted - (len(above) - len(above.rstrip("\n")) - 1))


def _check_replacement(inp: EditInput, text: str) -> None:
    if text.rstrip() == inp.old.rstrip():
        raise EditRefusedError(EditRefusal.UNCHANGED, "the model proposes no change")
    if (line := _repeated_line(inp, text)) is not None:
        raise EditRefusedError(
            EditRefusal.REPEATS_CONTEXT,
            f"the answer repeats lines around the selection: '{line.strip()}'",
        )
    if (detail := damage(inp, text)) is not None:
        raise EditRefusedError(EditRefusal.BROKEN_SYNTAX, f"the answer is no valid code: {detail}")
    if inp.keeps_code and (detail := change_of_code(inp, text)) is not None:
        raise EditRefusedError(
            EditRefusal.CHANGED_CODE, f"only comments were to change, but {detail}"
        )


def _repeated_line(inp: EditInput, text: str) -> str | None:
    """A line of the neighbourhood that the answer has together with the one beside it."""
    said, had = _significant(text), _significant(inp.old)
    above = _significant(to_line_feeds(inp.before[-4096:]))[-_REPEATED_LINES:]
    below = _significant(to_line_feeds(inp.after[:4096]))[:_REPEATED_LINES]
    for near in (above, below):
        if len(near) == _REPEATED_LINES and _has_run(said, near) and not _has_run(had, near):
            return near[0]
    return None


def _significant(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if len(line.strip()) >= _LEAST_LINE_CHARS]


def _has_run(lines: list[str], run: list[str]) -> bool:
    return any(lines[n : n + len(run)] == run for n in range(len(lines) - len(run) + 1))
