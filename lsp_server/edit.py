"""One edit, from lines and an instruction to the lines that replace them. Knows no editor."""

from collections.abc import Callable

import msgspec

from engine.client import AsyncEngine
from engine.config import SamplingConfig
from engine.errors import ContextOverflowError
from engine.request import GenerateRequest, GenerateResult
from lsp_server.prompt.edit_output import clean_edit
from lsp_server.prompt.edit_prompt import EditInput, build_edit_prompt

# An answer may be longer than the code it replaces: so many tokens more, and so many per character.
_MORE_TOKENS, _TOKENS_PER_CHAR = 320, 0.5
_LEAST_CONTEXT_CHARS = 64


class EditOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to edit. `document` groups edits in the engine: the newest of one wins."""

    max_context_chars: int = 3000
    deadline_ms: float | None = 120_000.0
    document: str | None = None
    sampling: SamplingConfig = SamplingConfig()
    priority: int = 1  # after completions, which somebody waits for between two keys


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """`replacement` is what goes in place of the input's selection."""

    replacement: str
    result: GenerateResult


async def rewrite(
    engine: AsyncEngine,
    inp: EditInput,
    options: EditOptions,
    on_text: Callable[[str], None] = lambda piece: None,
) -> Edit:
    """Have the model rewrite the selection; `on_text` hears its answer as it comes, with the
    selection's indentation, for display only.

    Raises EditRefusedError for an answer that is not applied, EngineError.
    """
    info = await engine.ready()
    preview = _Preview(inp.indent, on_text)
    n_context_chars = options.max_context_chars
    while True:
        prompt = build_edit_prompt(info, inp, n_context_chars)
        request = GenerateRequest(
            prompt=prompt.parts,
            stop=prompt.stop,
            max_tokens=_MORE_TOKENS + int(len(inp.bare) * _TOKENS_PER_CHAR),
            sampling=options.sampling,
            references=prompt.references,
            deadline_ms=options.deadline_ms,
            document=options.document,
            priority=options.priority,
        )
        try:
            result = await engine.generate(request, preview.feed)
            break
        except ContextOverflowError:
            if n_context_chars <= _LEAST_CONTEXT_CHARS:
                raise
            n_context_chars //= 2
    return Edit(replacement=clean_edit(inp, result.text, result.finish_reason), result=result)


class _Preview:
    """Indents text as it comes."""

    def __init__(self, indent: str, show: Callable[[str], None]) -> None:
        self._indent, self._show = indent, show
        self._is_line_start = True

    def feed(self, piece: str) -> bool:
        shown = ""
        for line in piece.splitlines(keepends=True):
            if self._is_line_start and line.strip():
                shown += self._indent
            shown += line
            self._is_line_start = line.endswith("\n")
        self._show(shown)
        return True
