"""What a model is told to make it rewrite some lines of a file, and where its answer ends."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from engine.request import ModelInfo, PromptPart
from lsp_server.prompt.chat import Message, chat_prompt
from lsp_server.prompt.situation import eol_of, to_line_feeds

_BACKTICKS = re.compile(r"`{3,}")
_FENCE_NAMES = {
    "py": "python",
    "pyi": "python",
    "js": "javascript",
    "mjs": "javascript",
    "ts": "typescript",
    "rs": "rust",
    "h": "c",
    "hpp": "cpp",
    "cc": "cpp",
    "cs": "csharp",
    "kt": "kotlin",
    "rb": "ruby",
    "sh": "bash",
    "md": "markdown",
    "yml": "yaml",
}


@dataclass(frozen=True)
class EditInput:
    """Whole lines to rewrite and all that surrounds them.

    `selection` may be empty: then lines are to be written between `before` and `after`. With
    `keeps_code` only comments and documentation may change."""

    before: str
    selection: str
    after: str
    instruction: str
    language_id: str = ""
    path: str = ""
    keeps_code: bool = False

    @cached_property
    def eol(self) -> str:
        """The document's line end."""
        return eol_of(self.before + self.selection, self.after)

    @cached_property
    def old(self) -> str:
        """The selection with "\\n" line ends."""
        return to_line_feeds(self.selection)

    @cached_property
    def indent(self) -> str:
        """The blanks that all lines of the selection begin with; for a blank one its own or those
        of the line above, and none at the very end of a file."""
        if self.old.strip():
            return common_indent(self.old)
        if not self.after and not self.old:
            return ""
        above = to_line_feeds(self.before[-4096:]).rstrip("\n").rpartition("\n")[2]
        return self.old.strip("\n") or above[: len(above) - len(above.lstrip(" \t"))]

    @cached_property
    def bare(self) -> str:
        """The selection as the model sees it: without its common indentation and outer lines that
        are blank."""
        return without_indent(self.old, self.indent).strip("\n")

    @property
    def fence_name(self) -> str:
        """What a code block of this language is called in Markdown."""
        suffix = PurePath(self.path).suffix.removeprefix(".").lower()
        return self.language_id or _FENCE_NAMES.get(suffix, suffix)

    @cached_property
    def fence(self) -> str:
        """Enough backticks to tell the answer's fence from any in the selection."""
        runs = _BACKTICKS.findall(self.old)
        return "`" * max(3, *(len(run) + 1 for run in runs), 3)


@dataclass(frozen=True)
class EditPrompt:
    """`references` are what the answer will repeat, the replaced text first."""

    parts: tuple[PromptPart, ...]
    stop: tuple[str, ...]
    references: tuple[str, ...]


def build_edit_prompt(info: ModelInfo, inp: EditInput, max_context_chars: int) -> EditPrompt:
    """Show at most so much of what surrounds the selection. Raises what `chat_prompt` does."""
    above = _last_lines(to_line_feeds(inp.before[-2 * max_context_chars :]), max_context_chars)
    below = _first_lines(
        to_line_feeds(inp.after[: 2 * max_context_chars]), max_context_chars - len(above) // 2
    )
    code = f"{inp.fence}{inp.fence_name}\n"
    request = _request(inp, above, below, code)
    return EditPrompt(
        parts=chat_prompt(info, [Message("user", request)], code),
        stop=(f"\n{inp.fence}",),
        references=(f"{inp.bare}\n", f"{above}{below}"),
    )


def _request(inp: EditInput, above: str, below: str, code: str) -> str:
    name = f"`{inp.path}`" if inp.path else "a file"
    end = inp.fence
    if not inp.bare:
        return (
            f"Lines are missing in {name}. Above them is:\n\n{code}{above}{end}\n\n"
            f"Below them is:\n\n{code}{below}{end}\n\n"
            f"Write the missing lines: {inp.instruction}\n\n"
            "Answer with the missing lines only."
        )
    around = ""
    if (above + below).strip():
        around = f"This is a part of {name}:\n\n{code}{above}{inp.old}{below}{end}\n\n"
    return (
        f"{around}Rewrite this code:\n\n{code}{inp.bare}\n{end}\n\n"
        f"Instruction: {inp.instruction}\n\n"
        "Answer with all of the rewritten code and nothing else. "
        "Keep everything that the instruction does not ask to change, "
        "and do not repeat the rest of the file."
    )


def common_indent(text: str) -> str:
    """The blanks that every line with content begins with."""
    blanks = [line[: len(line) - len(line.lstrip(" \t"))] for line in lines_with_content(text)]
    first, last = min(blanks, default=""), max(blanks, default="")
    n_same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first if n_same is None else first[:n_same]


def without_indent(text: str, indent: str) -> str:
    return "\n".join(line.removeprefix(indent) if line.strip() else "" for line in text.split("\n"))


def lines_with_content(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _last_lines(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    return text[text.find("\n", len(text) - max_chars) + 1 :]


def _first_lines(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    return text[: text.rfind("\n", 0, max_chars) + 1]
