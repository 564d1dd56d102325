"""One completion, from the text around a cursor to what is offered there. Knows no editor."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from engine import catalogue
from engine.client import AsyncEngine
from engine.config import SamplingConfig
from engine.errors import ContextOverflowError
from engine.request import FinishReason, GenerateRequest, GenerateResult, ModelInfo
from lsp_server.prompt import (
    FORMS,
    CompletionInput,
    StopRule,
    build_prompt,
    postprocess,
    skip_reason,
)

_LEAST_PREFIX_CHARS = 64


class CompletionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to complete. `document` groups requests in the engine: the newest of one wins."""

    max_tokens: int = 128
    sampling: SamplingConfig = SamplingConfig()
    max_prefix_chars: int = 2048
    max_suffix_chars: int = 512
    deadline_ms: float | None = None
    document: str | None = None
    priority: int = 0


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is what to insert at the cursor, "" for nothing; `skipped_reason` says why the model
    was not even asked, or why its text is not offered."""

    text: str
    skipped_reason: str | None = None
    result: GenerateResult | None = None


async def complete(
    engine: AsyncEngine, inp: CompletionInput, options: CompletionOptions
) -> Completion:
    """Ask the engine for what belongs at the cursor. Raises EngineError."""
    if (reason := skip_reason(inp)) is not None:
        return Completion(text="", skipped_reason=reason)
    result = await _generate(engine, inp, options)
    text = postprocess(inp, result.text, result.finish_reason is FinishReason.STOP)
    return Completion(text=text, skipped_reason=None if text else "no-use", result=result)


async def _generate(
    engine: AsyncEngine, inp: CompletionInput, options: CompletionOptions
) -> GenerateResult:
    """Generate, with half the text around the cursor whenever it is too much for the context."""
    form = prompt_form(await engine.ready())
    n_prefix_chars, n_suffix_chars = options.max_prefix_chars, options.max_suffix_chars
    while True:
        prompt = build_prompt(inp, form, n_prefix_chars, n_suffix_chars)
        request = GenerateRequest(
            prompt=prompt.parts,
            stop=prompt.stop,
            max_tokens=options.max_tokens,
            sampling=options.sampling,
            deadline_ms=options.deadline_ms,
            document=options.document,
            priority=options.priority,
        )
        try:
            return await engine.generate(request, _until(StopRule(inp)))
        except ContextOverflowError:
            if n_prefix_chars <= _LEAST_PREFIX_CHARS:
                raise
            n_prefix_chars, n_suffix_chars = n_prefix_chars // 2, n_suffix_chars // 2


def _until(rule: StopRule) -> Callable[[str], bool]:
    return lambda piece: not rule.feed(piece)


def prompt_form(info: ModelInfo) -> str:
    """The form that was measured to suit the model, or the first one its vocabulary allows."""
    vocabulary = set(info.special_tokens)
    possible = [n for n, form in FORMS.items() if vocabulary.issuperset(form.special_tokens)]
    file_name = Path(info.path).name
    for entry in catalogue.entries():
        is_this = entry.name == info.name or entry.file_name == file_name
        if is_this and entry.prompt_form in possible:
            return entry.prompt_form
    return possible[0]
