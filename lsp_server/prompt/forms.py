"""How a document cut at the cursor is laid out for a model: one function per prompt form."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from engine.errors import RequestError
from engine.request import PromptPart
from lsp_server.prompt.repository import block_parts, head_parts
from lsp_server.prompt.situation import CompletionInput

# The window moves by this part of its length at a time, so that what was computed for its
# beginning stays valid for many keystrokes.
_WINDOW_STEPS = 4
_STOP = (
    "<|endoftext|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|file_sep|>",
    "<|repo_name|>",
)


@dataclass(frozen=True)
class Prompt:
    """What the model gets, and the strings at which its text ends."""

    parts: tuple[PromptPart, ...]
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """A prompt layout and the special tokens a model must have for it."""

    special_tokens: tuple[str, ...]
    layout: Callable[[str, str], tuple[PromptPart, ...]]


def build_prompt(
    inp: CompletionInput,
    form: str,
    max_prefix_chars: int,
    max_suffix_chars: int,
    special_tokens: Collection[str] = (),
) -> Prompt:
    """Lay out the text around the cursor, cut at line boundaries to the given lengths, and the
    repository before it, in the format that a model with these special tokens knows.

    Raises RequestError for a form that is not in FORMS.
    """
    if form not in FORMS:
        raise RequestError(f"unknown prompt form '{form}'; known: {', '.join(FORMS)}")
    prefix = _last_lines(inp.prefix, max_prefix_chars)
    suffix = _first_lines(inp.suffix, max_suffix_chars)
    parts = FORMS[form].layout(prefix, suffix)
    if inp.repository is not None:
        block = inp.repository
        if len(prefix) == len(inp.prefix):  # the window holds what the head would repeat
            block = msgspec.structs.replace(block, head="")
        before = block_parts(block, special_tokens), head_parts(block, inp.path, special_tokens)
        parts = (*before[0], *before[1], *parts)
    return Prompt(parts, _STOP)


def _last_lines(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    step = max(1, max_chars // _WINDOW_STEPS)
    n_cut = -(-(len(text) - max_chars) // step) * step
    line_start = text.find("\n", n_cut - 1) + 1
    # A line longer than the window is cut within.
    return text[line_start:] if line_start > 0 else text[len(text) - max_chars :]


def _first_lines(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    line_end = text.rfind("\n", 0, max_chars)
    return text[: line_end + 1] if line_end >= 0 else text[:max_chars]


def _special(name: str) -> PromptPart:
    return PromptPart(name, is_special=True)


def _fim_psm(prefix: str, suffix: str) -> tuple[PromptPart, ...]:
    # Healed indentation tempts a model into endless blanks here; plain, it is well understood.
    is_on_blank_line = not prefix.rpartition("\n")[2].strip()
    return (
        _special("<|fim_prefix|>"),
        PromptPart(prefix, heal=not is_on_blank_line),
        _special("<|fim_suffix|>"),
        PromptPart(suffix),
        _special("<|fim_middle|>"),
    )


def _prefix(prefix: str, suffix: str) -> tuple[PromptPart, ...]:
    # A model needs at least one token to begin from.
    return (PromptPart(prefix or "\n", heal=bool(prefix)),)


def _fim_in_line(prefix: str, suffix: str) -> tuple[PromptPart, ...]:
    # On a blank line a small model writes better code when it just goes on.
    is_on_blank_line = not prefix.rpartition("\n")[2].strip()
    return _prefix(prefix, suffix) if is_on_blank_line else _fim_psm(prefix, suffix)


_FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

# The form a model knows with the most to go by comes first.
FORMS: dict[str, Form] = {
    "fim_psm": Form(_FIM_TOKENS, _fim_psm),
    "fim_in_line": Form(_FIM_TOKENS, _fim_in_line),
    "prefix": Form((), _prefix),
}
