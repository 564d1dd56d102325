"""A replay capsule: what a completion came from, so that it can be made again to the same bytes.

A capsule holds hashes only, or with text everything that is needed. Its model is known by the hash
of its file. The text is the same on every machine with the same kernels' arithmetic
(ARCHITECTURE.md, "Batch invariance"); speculation, threads and caches never change it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.client import AsyncEngine
from engine.config import EngineConfig, KvCacheType
from engine.errors import RequestError
from engine.request import FinishReason, GenerateRequest, GenerateResult, ModelInfo
from lsp_server.completion import Completion, CompletionOptions
from lsp_server.prompt import CompletionInput, postprocess

FORMAT = 1


class Latest(msgspec.Struct, frozen=True):
    """A completion together with where it was asked for."""

    inp: CompletionInput
    completion: Completion


class CapsuleModel(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    sha256: str
    kv_type: KvCacheType
    n_ctx: int
    backend: str


class CapsuleText(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to make the completion again without the file it was made in."""

    inp: CompletionInput
    request: GenerateRequest
    prompt_tokens: list[int]
    tokens: list[int]
    raw: str
    shown: str


class Capsule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One completion. `options` are those it was asked with, `max_tokens` what it was allowed;
    hashes are SHA-256, of token ids as 32-bit little-endian numbers."""

    format: int
    flash_lsp: str
    model: CapsuleModel
    options: CompletionOptions
    prompt_sha256: str
    n_prompt_tokens: int
    n_tokens: int
    tokens_sha256: str
    raw_sha256: str
    shown_sha256: str
    finish_reason: FinishReason
    text: CapsuleText | None = None


class Difference(msgspec.Struct, frozen=True):
    """`what` was not as recorded. `is_cause` says that it may be why the text differs; otherwise
    it is the text that differs."""

    what: str
    recorded: str
    found: str
    is_cause: bool


def make_capsule(
    latest: Latest, info: ModelInfo, config: EngineConfig, version: str, *, with_text: bool
) -> Capsule:
    """Reads the whole model file to hash it. Raises RequestError if the model was not asked."""
    done = latest.completion
    if done.result is None or done.request is None or done.options is None:
        reason = done.skipped_reason or "there is none"
        raise RequestError(f"no completion to save: the model was not asked ({reason})")
    result = done.result
    text = CapsuleText(
        inp=latest.inp,
        request=done.request,
        prompt_tokens=result.prompt_tokens,
        tokens=result.tokens,
        raw=result.text,
        shown=done.text,
    )
    return Capsule(
        format=FORMAT,
        flash_lsp=version,
        model=CapsuleModel(
            name=info.name,
            sha256=file_sha256(Path(info.path)),
            kv_type=config.kv_type,
            n_ctx=info.n_ctx,
            backend=info.backend,
        ),
        options=msgspec.structs.replace(done.options, document=None),
        prompt_sha256=ids_sha256(result.prompt_tokens),
        n_prompt_tokens=len(result.prompt_tokens),
        n_tokens=len(result.tokens),
        tokens_sha256=ids_sha256(result.tokens),
        raw_sha256=text_sha256(result.text),
        shown_sha256=text_sha256(done.text),
        finish_reason=result.finish_reason,
        text=text if with_text else None,
    )


def read_capsule(path: Path) -> Capsule:
    """Raises RequestError for a file that is none."""
    try:
        capsule = msgspec.json.decode(path.read_bytes(), type=Capsule)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is no capsule: {error}") from None
    if capsule.format != FORMAT:
        raise RequestError(
            f"{path} is a capsule of format {capsule.format}, expected {FORMAT}; "
            f"it was written by flash-lsp {capsule.flash_lsp}"
        )
    return capsule


def write_capsule(capsule: Capsule, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(capsule), indent=1) + b"\n")


def causes(capsule: Capsule, info: ModelInfo, config: EngineConfig) -> list[Difference]:
    """What about the engine is not as recorded and could change the text."""
    recorded = capsule.model
    pairs = (
        ("model file (SHA-256)", recorded.sha256, file_sha256(Path(info.path))),
        ("type of the KV cache", recorded.kv_type, config.kv_type),
        ("kernels", _arithmetic(recorded.backend), _arithmetic(info.backend)),
    )
    return [Difference(what, a, b, True) for what, a, b in pairs if a != b]


async def replay(
    engine: AsyncEngine, capsule: Capsule, inp: CompletionInput, request: GenerateRequest
) -> list[Difference]:
    """Generate again and say what differs from the capsule; nothing means the same bytes.

    As many tokens are made as were recorded: where text stops being useful was decided beside the
    engine, which may by then have been a few tokens further.
    """
    n_tokens = capsule.n_tokens
    request = msgspec.structs.replace(
        request, max_tokens=max(1, n_tokens), deadline_ms=None, document=None
    )
    result = await engine.generate(request)
    found: list[Difference] = []
    if ids_sha256(result.prompt_tokens) != capsule.prompt_sha256:
        known = None if capsule.text is None else capsule.text.prompt_tokens
        found.append(_ids_differ("prompt", known, result.prompt_tokens, capsule.n_prompt_tokens))
    tokens = result.tokens[:n_tokens]
    if ids_sha256(tokens) != capsule.tokens_sha256:
        known = None if capsule.text is None else capsule.text.tokens
        found.append(_ids_differ("tokens", known, tokens, n_tokens))
    elif n_tokens:
        found += _texts_differ(capsule, inp, result)
    return found


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ids_sha256(ids: Sequence[int]) -> str:
    return hashlib.sha256(b"".join(id.to_bytes(4, "little") for id in ids)).hexdigest()


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _texts_differ(
    capsule: Capsule, inp: CompletionInput, result: GenerateResult
) -> list[Difference]:
    shown = postprocess(inp, result.text, capsule.finish_reason is FinishReason.STOP)
    found: list[Difference] = []
    for what, recorded, text in (
        ("text of the tokens", capsule.raw_sha256, result.text),
        ("offered text", capsule.shown_sha256, shown),
    ):
        if text_sha256(text) != recorded:
            found.append(Difference(what, recorded, text_sha256(text), False))
    return found


def _ids_differ(what: str, known: list[int] | None, found: list[int], n_known: int) -> Difference:
    is_cause = what == "prompt"
    if known is None:
        return Difference(what, f"{n_known} ids with another hash", f"{len(found)} ids", is_cause)
    n_same = next(
        (n for n, (a, b) in enumerate(zip(known, found, strict=False)) if a != b),
        min(len(known), len(found)),
    )
    return Difference(
        f"{what} from id {n_same}",
        f"{known[n_same : n_same + 8]}",
        f"{found[n_same : n_same + 8]}",
        is_cause,
    )


def _arithmetic(backend: str) -> str:
    """What kernels that agree bit for bit have in common (ARCHITECTURE.md, "Batch invariance")."""
    return "portable" if "portable" in backend else "vector"
