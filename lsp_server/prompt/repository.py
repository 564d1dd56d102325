"""The repository in front of a prompt: parts of other files, before the text around the cursor.

Stable text comes first, so that the engine finds it in its cache at the next keystroke: the files
that were shown before, then new ones, the head of the current file, and last the cursor's window.
"""

from collections.abc import Collection, Sequence

import msgspec

from engine.request import PromptPart
from lsp_server.prompt.languages import language_of

# The repository-level format of Qwen2.5-Coder; models without these tokens get comments instead.
REPOSITORY, FILE = "<|repo_name|>", "<|file_sep|>"


class ShownFile(msgspec.Struct, frozen=True):
    """A file's path and those of its lines that are shown, gaps marked."""

    path: str
    text: str


class RepositoryBlock(msgspec.Struct, frozen=True):
    """What a prompt shows of the repository `name`; `head` is of the current file itself, from
    above the window: its imports."""

    name: str
    files: tuple[ShownFile, ...] = ()
    head: str = ""

    def __bool__(self) -> bool:
        return bool(self.files or self.head)


def block_parts(block: RepositoryBlock, special_tokens: Collection[str]) -> tuple[PromptPart, ...]:
    """The part of the prompt that does not depend on the cursor."""
    if {REPOSITORY, FILE}.issubset(special_tokens):
        parts = [PromptPart(REPOSITORY, is_special=True), PromptPart(f"{block.name}\n")]
        for file in block.files:
            parts.append(PromptPart(FILE, is_special=True))
            parts.append(PromptPart(f"{file.path}\n{_ended(file.text)}"))
        return tuple(parts)
    return tuple(PromptPart(f"{_titled(file.path)}{_ended(file.text)}\n") for file in block.files)


def head_parts(
    block: RepositoryBlock, path: str, special_tokens: Collection[str]
) -> tuple[PromptPart, ...]:
    """What comes between the block and the text around the cursor."""
    head = f"{_ended(block.head)}{gap('', path)}" if block.head else ""
    if {REPOSITORY, FILE}.issubset(special_tokens):
        return (PromptPart(FILE, is_special=True), PromptPart(f"{path}\n{head}"))
    return (PromptPart(f"{_titled(path)}{head}"),)


def gap(next_line: str, path: str, n_lines: int = 0) -> str:
    """The line that stands for lines left out before `next_line`."""
    indent = next_line[: len(next_line) - len(next_line.lstrip())].rstrip("\r\n")
    what = f"... {n_lines} lines" if n_lines else "..."
    return f"{indent}{_comment(path)} {what}\n"


def with_gaps(path: str, spans: Sequence[tuple[int, Sequence[str]]]) -> str:
    """The lines of spans (first line, lines) in order, with a mark where lines are left out."""
    text: list[str] = []
    at = 0
    for first, lines in spans:
        if first > at:
            text.append(gap(lines[0] if lines else "", path, first - at))
        text += lines
        if lines and not lines[-1].endswith("\n"):
            text.append("\n")
        at = first + len(lines)
    return "".join(text)


def _titled(path: str) -> str:
    return f"{_comment(path)} {path}\n"


def _comment(path: str) -> str:
    return next(iter(language_of("", path).line_comments), "#")


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else text + "\n"
