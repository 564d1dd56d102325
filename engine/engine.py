"""Engine: loads a model and generates text. Synchronous; one thread uses it.

Puts together what the other modules own: weights, Program, backend, sessions, prefix cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Literal

import numpy as np
import platformdirs
from numpy.typing import NDArray

from engine import catalogue
from engine.calibrating import Calibrating
from engine.calibration import Calibration
from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.decode import Decoded, DecodeLimits, HealingConstraint, OnText, decode
from engine.errors import ContextOverflowError, RequestError
from engine.fingerprint import fingerprint
from engine.gguf.reader import GgufFile
from engine.healing import heal
from engine.kv_blocks import BlockPool
from engine.loading import MOST_OUT_ROWS, LoadedModel, load_model
from engine.pflash.loading import load_pflash
from engine.pflash.pflash import PFlash
from engine.pflash.scorer import Scorer
from engine.prefix_cache import PrefixCache
from engine.prefix_store import PrefixStore
from engine.request import (
    EngineStats,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    LoadProgress,
    ModelInfo,
    PromptPart,
    Selection,
    SelectRequest,
    Timings,
)
from engine.sampling import Sampler
from engine.session import ROOT, Session, StepCancelled, Verified
from engine.speculation.costs import (
    CostFile,
    StepCosts,
    assumed_costs,
    guessed_costs,
    keep_corrected,
    measured_costs,
)
from engine.speculation.lookup import Lookup
from engine.speculation.speculator import LOOKUP_MODES, Speculation, Speculator
from engine.tokenizer import Tokenizer

# Counted up when a kernel change gives a state other numbers, so that old ones are not resumed.
_STATE_FORMAT = 1

OnProgress = Callable[[LoadProgress], None]


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids, and the bytes that generation must begin with.

    The generated text goes on after the first `cursor` ids; what follows them is context."""

    ids: list[int]
    healed: bytes
    cursor: int


@dataclass(frozen=True)
class _Generation:
    """What one request asks of the loop."""

    prompt: EncodedPrompt
    sampler: Sampler
    limits: DecodeLimits
    speculator: Speculator
    on_text: OnText | None
    is_kept: bool


class Engine:
    """A loaded model with its KV memory and prefix cache."""

    def __init__(
        self,
        info: ModelInfo,
        tokenizer: Tokenizer,
        loaded: LoadedModel,
        pflash: PFlash,
        config: EngineConfig,
    ):
        self.info = info
        self.tokenizer = tokenizer
        self._model = loaded.model
        self._drafter = loaded.drafter
        self._pflash = pflash
        self._kv = loaded.kv
        self._pool = BlockPool(loaded.n_blocks)
        self._cache = PrefixCache(self._pool, config.prefix_cache_bytes, loaded.block_bytes)
        self._pool.evict = self._cache.evict_one
        self._store = _prefix_store(info, config)
        self._stats = EngineStats()
        self._cost_file = CostFile(Path(info.path), loaded.backend.identity())
        self._costs = self._step_costs(config, loaded.backend.tree_budget)
        self._speculation = Speculation(
            config.speculation, self._costs, loaded.drafter, config.tree_budget
        )
        self._is_prepared = False
        self._calibrating: Calibrating | None = None
        if loaded.backend.tree_budget is not None:
            self._calibrating = Calibrating(
                loaded.backend,
                loaded.model,
                loaded.drafter,
                partial(Session, loaded.model, loaded.kv, self._pool, info.n_ctx),
                self._speculation,
                name=Path(info.name).name,
                is_wanted=config.speculation != "off",
            )
        self._separators = sorted({*tokenizer.special_tokens.values(), *tokenizer.end_ids})

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
            pflash = load_pflash(config, file, tokenizer, loaded.backend)
            info = _describe(config, file, tokenizer, loaded, _ms_since(started))
        report(LoadProgress(0.8, "measuring how long steps take"))
        engine = cls(info, tokenizer, loaded, pflash, config)
        report(LoadProgress(1.0, "ready"))
        return engine

    def stats(self) -> EngineStats:
        self._stats.cache_bytes = self._cache.n_bytes
        self._stats.cache_entries = len(self._cache)
        return self._stats

    @property
    def scorer(self) -> Scorer:
        """Who judges what matters; for tests and benchmarks."""
        return self._pflash.scorer

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
        healed, cursor = b"", None
        for part in parts:
            if part.is_special:
                ids.append(tokenizer.encode_special(part.text))
                continue
            encoded = tokenizer.encode(part.text)
            if part.heal:
                encoded, healed = heal(tokenizer, encoded)
            ids += encoded
            cursor = len(ids) if part.heal else cursor
        if not ids:
            # The model needs something to continue; an end token is where texts begin.
            ids = [min(tokenizer.end_ids, default=0)]
        return EncodedPrompt(ids, healed, len(ids) if cursor is None else cursor)

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
        mode = self._speculation.mode_of(request.speculation)
        lookup = self._lookup(request, prompt, limits.max_tokens) if mode in LOOKUP_MODES else None
        speculator = self._speculation.begin(mode, lookup)
        generation = _Generation(prompt, sampler, limits, speculator, on_text, request.keep)
        forget = cancel.on_cancel(lambda: self._set_cancelled(True))
        session = self.session()
        try:
            return self._run(session, generation, timings, started)
        finally:
            forget()  # from here on a late cancel cannot reach the next request
            self._set_cancelled(False)
            session.release()

    def select(self, request: SelectRequest, cancel: CancelToken) -> Selection:
        """Which lines of the request's segments are worth a place in the prompt.

        What was computed before a cancellation is kept; asking again goes on from there.
        """
        forget = cancel.on_cancel(lambda: self._set_cancelled(True))
        try:
            return self._pflash.select(request)
        except StepCancelled:
            return Selection(spans=[], is_cancelled=True)
        finally:
            forget()
            self._set_cancelled(False)

    def prepare_some(self) -> bool:
        """Uses a moment in which nothing is asked for: makes ready what healing and steps on a GPU
        need, then measures a model of a shape that is new here. False once there is nothing to do.
        Raises NativeError."""
        if self._is_prepared:  # who is asked between requests should not look for it again
            return False
        measuring = self._calibrating
        found = self._make_ready() or (measuring is not None and measuring.run_some())
        self._is_prepared = not found
        return found

    def calibrate(self, clock: Callable[[], float] = perf_counter) -> Calibration | None:
        """Makes ready what steps need and measures anew, whatever is kept, within two seconds. None
        on the processor, where steps are measured when a model is first loaded."""
        if self._calibrating is None:
            return None
        while self._make_ready():
            pass
        self._is_prepared = False  # prompts may be read in steps of another size now
        return self._calibrating.run(clock)

    def _make_ready(self) -> bool:
        """One more of what need not be measured; False once there is nothing."""
        self.tokenizer.prepare()
        models = [self._model, *([] if self._drafter is None else [self._drafter.model])]
        return any(model.prepare_some(self._kv) for model in models)

    def close(self) -> None:
        """Drops the cache; the memory goes with the object."""
        self._cache.clear()
        if self._calibrating is None:
            keep_corrected(self._costs, self._cost_file)

    def _set_cancelled(self, is_cancelled: bool) -> None:
        self._model.set_cancelled(is_cancelled)
        self._pflash.scorer.set_cancelled(is_cancelled)
        if self._drafter is not None:
            self._drafter.set_cancelled(is_cancelled)

    def _run(
        self, session: Session, generation: _Generation, timings: Timings, started: float
    ) -> GenerateResult:
        prompt, speculator = generation.prompt, generation.speculator
        n_cached = self._resume(session, prompt.ids)
        prefill_started = monotonic()
        first = self._prefill(session, prompt.ids[n_cached:])
        timings.prefill = _ms_since(prefill_started)
        if first is not None and generation.is_kept:
            self._store.save(session.tokens, session.state)
        decode_started = monotonic()
        decoded = Decoded(FinishReason.CANCELLED)
        if first is not None:
            healing = HealingConstraint(self.tokenizer, prompt.healed)
            decoded = decode(
                session,
                first,
                generation.sampler,
                self.tokenizer,
                generation.limits,
                healing,
                generation.on_text,
                speculator,
            )
        self._cache.insert(session.tokens, session.table)
        timings.decode = _ms_since(decode_started)
        timings.total = _ms_since(started)
        result = GenerateResult(
            text=decoded.text,
            prompt_tokens=prompt.ids,
            tokens=decoded.tokens,
            finish_reason=decoded.finish_reason,
            timings_ms=timings,
            n_cached=n_cached,
            n_steps=decoded.n_steps,
            speculation=speculator.report(len(decoded.tokens), timings.decode),
        )
        self._count(result)
        return result

    def _lookup(self, request: GenerateRequest, prompt: EncodedPrompt, max_tokens: int) -> Lookup:
        """What the request may be drafted from without a model."""
        return Lookup(
            prompt.ids,
            cursor=prompt.cursor,
            room=max_tokens,
            separators=self._separators,
            references=[self.tokenizer.encode(text) for text in request.references],
            rates=self._speculation.lookup_rates,
        )

    def _step_costs(self, config: EngineConfig, tree_budget: int | None) -> StepCosts:
        if config.speculation == "off":
            return guessed_costs()
        if tree_budget is not None:
            return assumed_costs(tree_budget)
        session = self.session()

        def step(n_rows: int) -> None:
            session.verify([0] * n_rows, range(ROOT, n_rows - 1))

        try:
            return measured_costs(step, self.info.n_ctx, self._cost_file)
        finally:
            session.release()

    def _resume(self, session: Session, ids: list[int]) -> int:
        """Takes the longest cached prefix; leaves at least one token to compute logits from."""
        match = self._cache.longest_prefix(ids)
        n_common = min(match.n_common, len(ids) - 1)
        if match.entry is not None and n_common > 0:
            session.resume(ids[:n_common], match.entry.table)
        n_stored = self._store.longest(ids, len(ids) - 1)
        if n_stored > n_common:
            state = self._store.load(ids[:n_stored], session.state_bytes(n_stored))
            if state is not None:
                session.fill(ids[:n_stored], state)
                n_common = n_stored
        return n_common

    def _prefill(self, session: Session, ids: list[int]) -> Verified | None:
        """None if it was cancelled; what was done by then stays in the session."""
        try:
            return session.append(ids)
        except StepCancelled:
            return None

    def _count(self, result: GenerateResult) -> None:
        stats, speculation = self._stats, result.speculation
        stats.n_requests += 1
        stats.n_cancelled += result.finish_reason is FinishReason.CANCELLED
        stats.n_prompt_tokens += len(result.prompt_tokens)
        stats.n_cached_tokens += result.n_cached
        stats.n_tokens += len(result.tokens)
        stats.n_steps += speculation.steps
        stats.n_drafts += _weighted_sum(speculation.tree_sizes)
        stats.n_drafts_accepted += _weighted_sum(speculation.accepted_lengths)
        stats.prefill_ms += result.timings_ms.prefill
        stats.decode_ms += result.timings_ms.decode
        stats.draft_ms += speculation.draft_ms
        stats.verify_ms += speculation.verify_ms
        stats.plain_ms += speculation.plain_ms


def _prefix_store(info: ModelInfo, config: EngineConfig) -> PrefixStore:
    """Whatever the numbers of a state depend on names its folder."""
    more = f"{info.backend} {config.kv_type} {config.is_exact} {info.drafter} {_STATE_FORMAT}"
    folder = Path(platformdirs.user_cache_dir("flash-lsp")) / "prefixes"
    return PrefixStore(folder, fingerprint(Path(info.path), more), config.prefix_disk_bytes)


def _describe(
    config: EngineConfig, file: GgufFile, tokenizer: Tokenizer, loaded: LoadedModel, load_ms: float
) -> ModelInfo:
    names = {token: name for name, token in tokenizer.special_tokens.items()}
    bos_id = None if tokenizer.add_bos else tokenizer.bos_id
    return ModelInfo(
        name=config.model,
        path=str(file.path),
        architecture=file.architecture,
        n_parameters=loaded.n_parameters,
        n_ctx=loaded.n_ctx,
        n_vocab=tokenizer.n_vocab,
        weight_bytes=loaded.weight_bytes,
        memory_bytes=loaded.memory_bytes,
        n_threads=loaded.backend.n_threads,
        backend=loaded.backend.name,
        load_ms=load_ms,
        special_tokens=tuple(tokenizer.special_tokens),
        chat_template=file.optional("tokenizer.chat_template", str),
        notices=tuple(loaded.notices),
        drafter=None if loaded.drafter is None else str(loaded.drafter.path),
        bos_token=None if bos_id is None else names.get(bos_id),
        eos_token=None if tokenizer.eos_id is None else names.get(tokenizer.eos_id),
    )


def _chunks(ids: Sequence[int], n: int) -> list[Sequence[int]]:
    return [ids[i : i + n] for i in range(0, len(ids), n)]


def _weighted_sum(histogram: Sequence[int]) -> int:
    return sum(value * count for value, count in enumerate(histogram))


def _ms_since(started: float) -> float:
    return (monotonic() - started) * 1000


def _ignore(_: LoadProgress) -> None:
    pass
