"""One completion, from the text around a cursor to what is offered there. Knows no editor."""

from collections.abc import Callable

import msgspec

from engine.client import AsyncEngine
from engine.config import SamplingConfig
from engine.request import GenerateRequest, GenerateResult, ModelInfo
from lsp_server.prompt import CompletionInput, StopRule, build_prompt, postprocess, should_offer


class CompletionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to complete. `document` groups requests in the engine: the newest of one wins."""

    max_tokens: int = 128
    sampling: SamplingConfig = SamplingConfig()
    prompt_chars: int = 2048
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
    if not should_offer(inp):
        return Completion(text="", skipped_reason="unfit-place")
    info = await engine.ready()
    prompt = build_prompt(inp, prompt_form(info), options.prompt_chars)
    request = GenerateRequest(
        prompt=prompt.parts,
        stop=prompt.stop,
        max_tokens=options.max_tokens,
        sampling=options.sampling,
        deadline_ms=options.deadline_ms,
        document=options.document,
        priority=options.priority,
    )
    result = await engine.generate(request, _until(StopRule(inp)))
    text = postprocess(inp, result.text, result.finish_reason)
    return Completion(text=text, skipped_reason=None if text else "no-use", result=result)


def _until(rule: StopRule) -> Callable[[str], bool]:
    return lambda piece: not rule.feed(piece)


def prompt_form(info: ModelInfo) -> str:
    """The prompt form a model knows, by its vocabulary."""
    return "fim_psm" if "<|fim_prefix|>" in info.special_tokens else "prefix"
