"""The definition around a line, told by its first word and by indentation: good in half written
code, where a parser has nothing to say."""

import re
from collections.abc import Sequence

_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|async|abstract|override|final"
    r"|virtual|inline|extern|unsafe|const|pub(?:\([^)]*\))?|declare|local)\s+)*"
)
_DEFINITION = re.compile(
    rf"\s*{_MODIFIERS}(?:def|class|function\b\*?|func|fun|fn|struct|enum|trait|impl|interface|sub"
    r"|module|namespace|record|object|protocol|extension|type)\b"
)
_ARROW = re.compile(rf"\s*{_MODIFIERS}(?:const|let|var)\s+\w+.*=>\s*[{{(]?\s*\Z")
_HEADLESS = re.compile(r"\s*[\w:<>,*&~\[\]\s.]+\([^;]*\)[^;=]*\{\s*\Z")
_CONTROL = re.compile(
    r"\s*[})]*\s*(?:if|for|while|switch|catch|else|do|try|return|match|with|foreach|using|lock)\b"
)
_TAB_COLUMNS = 4


def enclosing_definition(lines: Sequence[str], line_idx: int) -> tuple[int, int] | None:
    """First line and end (exclusive) of the innermost definition that line `line_idx` is in.

    Decorators and attributes right above belong to it; None outside of every definition.
    """
    at = line_idx
    while at > 0 and not lines[at].strip():
        at -= 1
    n_columns = indent_columns(lines[at]) if lines[at].strip() else 0
    for head in range(at, -1, -1):
        line = lines[head]
        if not line.strip():
            continue
        depth = indent_columns(line)
        is_continued = line.strip()[0] in "){" and head != at  # its head is above, as deep
        if depth > n_columns or is_continued or (depth == n_columns and head != at):
            continue
        if is_definition(_with_own_line_brace(lines, head)):
            end = _end_of_block(lines, head)
            return (_with_decorators(lines, head), end) if end > line_idx else None
        n_columns = depth
    return None


def is_definition(line: str) -> bool:
    """Whether a line begins a function, class or the like."""
    if _CONTROL.match(line):
        return False
    return any(pattern.match(line) for pattern in (_DEFINITION, _ARROW, _HEADLESS))


def indent_columns(line: str) -> int:
    content = line.lstrip(" \t")
    return len(line[: len(line) - len(content)].expandtabs(_TAB_COLUMNS))


def _with_own_line_brace(lines: Sequence[str], head: int) -> str:
    below = lines[head + 1].strip() if head + 1 < len(lines) else ""
    return f"{lines[head]} {{" if below == "{" else lines[head]


def _end_of_block(lines: Sequence[str], head: int) -> int:
    depth, end = indent_columns(lines[head]), head + 1
    for n in range(head + 1, len(lines)):
        line = lines[n]
        if not line.strip():
            continue
        if indent_columns(line) <= depth:
            first = line.strip()[0]
            if first in "{)":  # the block's own bracket, or the end of a list of parameters
                end = n + 1
                continue
            is_closer = first in "}]" or line.strip() in ("end", "end;")
            return n + 1 if is_closer else end
        end = n + 1
    return end


def _with_decorators(lines: Sequence[str], head: int) -> int:
    while head > 0 and lines[head - 1].strip().startswith(("@", "#[")):
        head -= 1
    return head
