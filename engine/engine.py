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

from engine import catalogue
from engine.backends.cpu import isa_name
from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.decode import Decoded, DecodeLimits, HealingConstraint, OnText, decode
from engine.errors import ContextOverflowError, RequestError
from engine.gguf.reader import GgufFile
from engine.healing import heal
from engine.kv_blocks import BlockPool
from engine.loading import MOST_OUT_ROWS, LoadedModel, load_model
from engine.prefix_cache import PrefixCache
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


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids, and the bytes that generation must begin with."""

    ids: list[int]
    healed: bytes


class Engine:
    """A loaded model with its KV memory and prefix cache."""

    def __init__(
        self, info: ModelInfo, tokenizer: Tokenizer, loaded: LoadedModel, cache_bytes: int
    ):
        self.info = info
        self.tokenizer = tokenizer
        self._model = loaded.model
        self._kv = loaded.kv
        self._pool = BlockPool(loaded.n_blocks)
        self._cache = PrefixCache(self._pool, cache_bytes, loaded.block_bytes)
        self._pool.evict = self._cache.evict_one
        self._stats = EngineStats()

    @classmethod
    def load(cls, config: EngineConfig, on_progress: OnProgress | None = None) -> "Engine":
        """Loads the configured model.

        Raises ModelNotFoundError, ModelFormatError, UnsupportedModelError or DeviceMemoryError.
        """
        report = on_progress or _ignore
        started = monotonic()
        report(LoadProgress(0.0, f"opening {config.model}"))
        models_dir = Path(config.models_dir) if config.models_dir else None
        with GgufFile(catalogue.find(config.model, models_dir)) as file:
            report(LoadProgress(0.2, "preparing the weights"))
            loaded = load_model(file, config)
            report(LoadProgress(0.5, "reading the vocabulary"))
            tokenizer = Tokenizer.from_gguf(file)
            info = _describe(config, file, tokenizer, loaded, _ms_since(started))
        report(LoadProgress(1.0, "ready"))
        return cls(info, tokenizer, loaded, config.prefix_cache_bytes)

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
            # The model needs something to continue; an end token is where texts begin.
            ids = [min(tokenizer.end_ids, default=0)]
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
            deadline=None if request.deadline_ms is None else started + request.deadline_ms / 1000,
        )
        forget = cancel.on_cancel(lambda: self._model.set_cancelled(True))
        session = self.session()
        try:
            return self._run(session, prompt, sampler, limits, timings, started, on_text)
        finally:
            forget()  # from here on a late cancel cannot reach the next request
            self._model.set_cancelled(False)
            session.release()

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


def _describe(
    config: EngineConfig, file: GgufFile, tokenizer: Tokenizer, loaded: LoadedModel, load_ms: float
) -> ModelInfo:
    return ModelInfo(
        name=config.model,
        path=str(file.path),
        architecture=file.architecture,
        n_parameters=loaded.n_parameters,
        n_ctx=loaded.n_ctx,
        n_vocab=tokenizer.n_vocab,
        weight_bytes=loaded.weight_bytes,
        memory_bytes=loaded.memory_bytes,
        n_threads=loaded.n_threads,
        backend=f"cpu ({isa_name()})",
        load_ms=load_ms,
        special_tokens=tuple(tokenizer.special_tokens),
        chat_template=file.optional("tokenizer.chat_template", str),
        notices=tuple(loaded.notices),
    )


def _chunks(ids: Sequence[int], n: int) -> list[Sequence[int]]:
    return [ids[i : i + n] for i in range(0, len(ids), n)]


def _ms_since(started: float) -> float:
    return (monotonic() - started) * 1000


def _ignore(_: LoadProgress) -> None:
    pass
