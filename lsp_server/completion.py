"""One completion, from the text around a cursor to what is offered there. Knows no editor."""

import time
from collections.abc import Callable

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
# Other texts than the likeliest: warm enough to differ, cool enough to stay sensible.
_VARIED_TEMPERATURE = 0.8
_TRIES_PER_CANDIDATE = 2


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
    was not even asked, or why its text is not offered. `result` is the answer to `request`,
    which came from `options`: those asked for, with less text if that was too much."""

    text: str
    skipped_reason: str | None = None
    result: GenerateResult | None = None
    request: GenerateRequest | None = None
    options: CompletionOptions | None = None


async def complete(
    engine: AsyncEngine,
    inp: CompletionInput,
    options: CompletionOptions,
    on_text: Callable[[str], None] | None = None,
) -> Completion:
    """Ask the engine for what belongs at the cursor; `on_text` hears of raw text as it is made.
    Raises EngineError."""
    if (reason := skip_reason(inp)) is not None:
        return Completion(text="", skipped_reason=reason)
    done = await _generate(engine, inp, options, on_text)
    assert done.result is not None
    text = postprocess(inp, done.text, done.result.finish_reason is FinishReason.STOP)
    return msgspec.structs.replace(done, text=text, skipped_reason=None if text else "no-use")


async def complete_variously(
    engine: AsyncEngine,
    inp: CompletionInput,
    options: CompletionOptions,
    n_most: int,
    on_text: Callable[[str], None] | None = None,
) -> list[Completion]:
    """The completion that `complete` makes, then up to `n_most` - 1 others with a text of their
    own, sampled with fixed seeds. Raises EngineError.

    The others are not begun after half the deadline.
    """
    began = time.monotonic()
    found = [await complete(engine, inp, options, on_text)]
    if found[0].result is None:
        return found
    temperature = max(options.sampling.temperature, _VARIED_TEMPERATURE)
    for n in range(_TRIES_PER_CANDIDATE * (n_most - 1)):
        spent_ms = 1e3 * (time.monotonic() - began)
        is_late = options.deadline_ms is not None and spent_ms > options.deadline_ms / 2
        if len(found) >= n_most or is_late:
            break
        seed = options.sampling.seed + 1 + n
        sampling = msgspec.structs.replace(options.sampling, temperature=temperature, seed=seed)
        another = await complete(engine, inp, msgspec.structs.replace(options, sampling=sampling))
        if another.text and all(another.text != known.text for known in found):
            found.append(another)
    return found


async def _generate(
    engine: AsyncEngine,
    inp: CompletionInput,
    options: CompletionOptions,
    on_text: Callable[[str], None] | None,
) -> Completion:
    """Generate raw text, from half of what surrounds the cursor while that is too much."""
    info = await engine.ready()
    while True:
        request = completion_request(info, inp, options)
        try:
            result = await engine.generate(request, _until(StopRule(inp), on_text))
            return Completion(text=result.text, result=result, request=request, options=options)
        except ContextOverflowError:
            if options.max_prefix_chars <= _LEAST_PREFIX_CHARS:
                raise
            options = msgspec.structs.replace(
                options,
                max_prefix_chars=options.max_prefix_chars // 2,
                max_suffix_chars=options.max_suffix_chars // 2,
            )


def completion_request(
    info: ModelInfo, inp: CompletionInput, options: CompletionOptions
) -> GenerateRequest:
    """What the model is asked for a completion."""
    prompt = build_prompt(
        inp,
        prompt_form(info),
        options.max_prefix_chars,
        options.max_suffix_chars,
        info.special_tokens,
    )
    return GenerateRequest(
        prompt=prompt.parts,
        stop=prompt.stop,
        max_tokens=options.max_tokens,
        sampling=options.sampling,
        deadline_ms=options.deadline_ms,
        document=options.document,
        priority=options.priority,
    )


def _until(rule: StopRule, on_text: Callable[[str], None] | None) -> Callable[[str], bool]:
    def is_wanted(piece: str) -> bool:
        if on_text is not None:
            on_text(piece)
        return not rule.feed(piece)

    return is_wanted


def prompt_form(info: ModelInfo) -> str:
    """The form that was measured to suit the model, or the first one its vocabulary allows."""
    vocabulary = set(info.special_tokens)
    possible = [n for n, form in FORMS.items() if vocabulary.issuperset(form.special_tokens)]
    entry = catalogue.entry_like(info.name, info.path)
    if entry is not None and entry.prompt_form in possible:
        return entry.prompt_form
    return possible[0]
