"""Engine: loads a model and generates text. Synchronous; one thread uses it.

Puts together what the other modules own: weights, Program, backend, sessions, prefix cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine import catalogue, memory, weights
from engine.backends.cpu import (
    KV_BLOCK_TOKENS,
    CpuModel,
    KvCache,
    isa_name,
    native_type,
)
from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.decode import Decoded, DecodeLimits, HealingConstraint, OnText, decode
from engine.errors import ContextOverflowError, RequestError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.healing import heal
from engine.kv_blocks import BlockPool
from engine.models import ARCHITECTURES
from engine.prefix_cache import PrefixCache
from engine.program import Program
from engine.request import (
    EngineStats,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    LoadProgress,
    ModelInfo,
    PromptPart,
    Timings,
)
from engine.sampling import Sampler
from engine.session import Session, StepCancelled, Verified
from engine.tokenizer import Tokenizer

OnProgress = Callable[[LoadProgress], None]

# Rows per prefill step: enough to pay for unpacking the weights, few enough to stay in the cache.
PREFILL_ROWS = 128
MOST_OUT_ROWS = 64
DEFAULT_CTX = 8192


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids, and the bytes that generation must begin with."""

    ids: list[int]
    healed: bytes


class Engine:
    """A loaded model with its KV memory and prefix cache."""

    def __init__(
        self,
        info: ModelInfo,
        tokenizer: Tokenizer,
        model: CpuModel,
        kv: KvCache,
        pool: BlockPool,
        cache: PrefixCache,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self._model = model
        self._kv = kv
        self._pool = pool
        self._cache = cache
        self._stats = EngineStats()

    @classmethod
    def load(cls, config: EngineConfig, on_progress: OnProgress | None = None) -> "Engine":
        """Loads the configured model.

        Raises ModelNotFoundError, ModelFormatError, UnsupportedModelError or DeviceMemoryError.
        """
        report = on_progress or _ignore
        started = monotonic()
        report(LoadProgress(0.0, f"opening {config.model}"))
        path = catalogue.find(
            config.model, Path(config.models_dir) if config.models_dir else None
        )
        with GgufFile(path) as file:
            return _load(cls, config, file, report, started)

    def stats(self) -> EngineStats:
        self._stats.cache_bytes = self._cache.n_bytes
        self._stats.cache_entries = len(self._cache)
        return self._stats

    def session(self) -> Session:
        """A fresh sequence; release it when done."""
        return Session(self._model, self._kv, self._pool, self.info.n_ctx)

    def logits(
        self, token_ids: Sequence[int], rows: Literal["all", "last"] = "all"
    ) -> NDArray[np.float32]:
        """Next-token logits (T, V), or (1, V) for "last", of a fresh sequence."""
        session = self.session()
        try:
            if rows == "last":
                return session.append(token_ids).logits.copy()
            chunks = [
                session.append(chunk, n_logits=len(chunk)).logits.copy()
                for chunk in _chunks(token_ids, MOST_OUT_ROWS)
            ]
            return np.concatenate(chunks)
        finally:
            session.release()

    def encode_prompt(self, parts: Sequence[PromptPart]) -> EncodedPrompt:
        """Raises RequestError for an unknown special token or a second healed part."""
        tokenizer = self.tokenizer
        ids: list[int] = []
        if tokenizer.add_bos and tokenizer.bos_id is not None:
            ids.append(tokenizer.bos_id)
        if sum(part.heal for part in parts) > 1:
            raise RequestError("more than one prompt part asks for healing, expected at most one")
        healed = b""
        for part in parts:
            if part.is_special:
                ids.append(tokenizer.encode_special(part.text))
                continue
            encoded = tokenizer.encode(part.text)
            if part.heal:
                encoded, healed = heal(tokenizer, encoded)
            ids += encoded
        if not ids:
            ids = [next(iter(sorted(tokenizer.end_ids)))]  # an empty prompt: start of a text
        return EncodedPrompt(ids, healed)

    def generate(
        self, request: GenerateRequest, cancel: CancelToken, on_text: OnText | None = None
    ) -> GenerateResult:
        """Generates until a limit, an end token, or `on_text` returns False.

        Raises RequestError or ContextOverflowError before any work is done.
        """
        started = monotonic()
        sampler = Sampler(request.sampling)
        prompt = self.encode_prompt(request.prompt)
        n_room = self.info.n_ctx - len(prompt.ids)
        if n_room < 1 or request.max_tokens < 1:
            if request.max_tokens < 1:
                raise RequestError(f"max_tokens is {request.max_tokens}, expected at least 1")
            raise ContextOverflowError(len(prompt.ids) + 1, self.info.n_ctx)
        timings = Timings(tokenize=_ms_since(started))
        limits = DecodeLimits(
            max_tokens=min(request.max_tokens, n_room),
            stop=request.stop,
            deadline=None
            if request.deadline_ms is None
            else started + request.deadline_ms / 1000,
        )
        self._model.set_cancelled(False)
        cancel.on_cancel(lambda: self._model.set_cancelled(True))
        session = self.session()
        try:
            return self._run(session, prompt, sampler, limits, timings, started, on_text)
        finally:
            session.release()
            self._model.set_cancelled(False)

    def close(self) -> None:
        """Drops the cache; the memory goes with the object."""
        self._cache.clear()

    def _run(
        self,
        session: Session,
        prompt: EncodedPrompt,
        sampler: Sampler,
        limits: DecodeLimits,
        timings: Timings,
        started: float,
        on_text: OnText | None,
    ) -> GenerateResult:
        n_cached = self._resume(session, prompt.ids)
        prefill_started = monotonic()
        first = self._prefill(session, prompt.ids[n_cached:])
        timings.prefill = _ms_since(prefill_started)
        decode_started = monotonic()
        decoded = Decoded(FinishReason.CANCELLED)
        if first is not None:
            healing = HealingConstraint(self.tokenizer, prompt.healed)
            decoded = decode(session, first, sampler, self.tokenizer, limits, healing, on_text)
        self._cache.insert(session.tokens, session.table)
        timings.decode = _ms_since(decode_started)
        timings.total = _ms_since(started)
        self._count(len(prompt.ids), n_cached, decoded, timings)
        return GenerateResult(
            text=decoded.text,
            prompt_tokens=prompt.ids,
            tokens=decoded.tokens,
            finish_reason=decoded.finish_reason,
            timings_ms=timings,
            n_cached=n_cached,
            n_steps=decoded.n_steps,
        )

    def _resume(self, session: Session, ids: list[int]) -> int:
        """Takes the longest cached prefix; leaves at least one token to compute logits from."""
        match = self._cache.longest_prefix(ids)
        n_common = min(match.n_common, len(ids) - 1)
        if match.entry is not None and n_common > 0:
            session.resume(ids[:n_common], match.entry.table)
        return n_common

    def _prefill(self, session: Session, ids: list[int]) -> Verified | None:
        """None if it was cancelled; what was done by then stays in the session."""
        try:
            return session.append(ids)
        except StepCancelled:
            return None

    def _count(self, n_prompt: int, n_cached: int, decoded: Decoded, timings: Timings) -> None:
        stats = self._stats
        stats.n_requests += 1
        stats.n_cancelled += decoded.finish_reason is FinishReason.CANCELLED
        stats.n_prompt_tokens += n_prompt
        stats.n_cached_tokens += n_cached
        stats.n_tokens += len(decoded.tokens)
        stats.prefill_ms += timings.prefill
        stats.decode_ms += timings.decode


def _load(
    cls: type[Engine], config: EngineConfig, file: GgufFile, report: OnProgress, started: float
) -> Engine:
    build = ARCHITECTURES.get(file.architecture)
    if build is None:
        raise UnsupportedModelError("architecture", file.architecture, sorted(ARCHITECTURES))
    described = weights.describe(file, native_type)
    program = Program(str(file.path), described.infos)
    build(program, file)
    report(LoadProgress(0.2, "reading the vocabulary"))
    tokenizer = Tokenizer.from_gguf(file)
    n_ctx = _choose_ctx(config, file)
    n_threads = config.n_threads or memory.usable_cores()
    report(LoadProgress(0.5, "planning memory"))
    block_bytes = KvCache.bytes_per_block(program)
    # One full context for the running sequence, and what the cache may hold beside it.
    n_blocks = -(-n_ctx // KV_BLOCK_TOKENS) + 2 + config.prefix_cache_bytes // block_bytes
    used = program.weights_used()
    converted_bytes = sum(
        file.tensors[w.name].n_bytes for w in used if int(file.tensors[w.name].ggml_type) != w.type_id
    )
    weights_bytes = sum(file.tensors[w.name].n_bytes for w in used)
    plan = memory.MemoryPlan(weights_bytes, converted_bytes * 2, 0, n_blocks * block_bytes)
    plan.check(memory.available_bytes())
    model = CpuModel(
        program,
        {w.name: weights.load(file, w) for w in used},
        n_threads=n_threads,
        max_rows=PREFILL_ROWS,
        max_out_rows=MOST_OUT_ROWS,
    )
    kv = KvCache(program, n_blocks)
    pool = BlockPool(n_blocks)
    cache = PrefixCache(pool, config.prefix_cache_bytes, block_bytes)
    pool.evict = cache.evict_one
    info = ModelInfo(
        name=config.model,
        path=str(file.path),
        architecture=file.architecture,
        n_parameters=sum(w.n_out * w.n_cols for w in used),
        n_ctx=n_ctx,
        n_vocab=tokenizer.n_vocab,
        weight_bytes=weights_bytes,
        memory_bytes=plan.total_bytes + model.arena_bytes,
        n_threads=n_threads,
        backend=f"cpu ({isa_name()})",
        load_ms=_ms_since(started),
        special_tokens=tuple(tokenizer.special_tokens),
        chat_template=file.optional("tokenizer.chat_template", str),
        notices=tuple(described.notices),
    )
    report(LoadProgress(1.0, "ready"))
    return cls(info, tokenizer, model, kv, pool, cache)


def _choose_ctx(config: EngineConfig, file: GgufFile) -> int:
    trained = file.require(file.key("context_length"), int)
    if config.n_ctx is None:
        return min(trained, DEFAULT_CTX)
    if not 1 <= config.n_ctx <= trained:
        raise RequestError(f"context of {config.n_ctx} tokens, expected 1..{trained} for this model")
    return config.n_ctx


def _chunks(ids: Sequence[int], n: int) -> list[Sequence[int]]:
    return [ids[i : i + n] for i in range(0, len(ids), n)]


def _ms_since(started: float) -> float:
    return (monotonic() - started) * 1000


def _ignore(_: LoadProgress) -> None:
    pass
