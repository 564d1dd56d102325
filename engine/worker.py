"""The one thread that touches the model, and what other threads may ask of it.

Speaks in the frames of `frames.py` but does not know how they travel: `host.py` runs it in a child
process, `InProcessEngine` on a thread.
"""

import dataclasses
import importlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.errors import DeviceLostError, EngineError
from engine.frames import (
    Accepted,
    Cancel,
    Done,
    ErrorInfo,
    Failed,
    Generate,
    GetStats,
    Loaded,
    LoadFailed,
    Progress,
    Select,
    Selected,
    Stats,
    StopText,
    Text,
    ToChild,
    ToParent,
)
from engine.request import (
    EngineStats,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    LoadProgress,
    ModelInfo,
    Selection,
    SelectRequest,
    Timings,
)
from engine.scheduler import Scheduler

DEFAULT_ENGINE = "engine.engine:Engine"
_log = logging.getLogger("flash_lsp.engine")


class LoadedEngine(Protocol):
    """A model in memory. Used from one thread; only the CancelToken is touched by others."""

    @property
    def info(self) -> ModelInfo: ...
    def stats(self) -> EngineStats: ...
    def generate(
        self,
        request: GenerateRequest,
        cancel: CancelToken,
        on_text: Callable[[str], bool] | None = None,
    ) -> GenerateResult: ...
    def select(self, request: SelectRequest, cancel: CancelToken) -> Selection: ...
    def prepare_some(self) -> bool:
        """Uses a moment in which nothing is asked for; False once there is nothing to do."""
        ...

    def close(self) -> None: ...


class EngineFactory(Protocol):
    """Something that loads models: the class `Engine`, or a test's stand-in."""

    def load(
        self, config: EngineConfig, on_progress: Callable[[LoadProgress], None] | None = None
    ) -> LoadedEngine: ...


@dataclass(slots=True)
class Job:
    """A request on its way; what the scheduler orders."""

    id: int
    request: GenerateRequest | SelectRequest
    cancel: CancelToken = field(default_factory=CancelToken)
    arrived_s: float = field(default_factory=time.monotonic)
    is_text_enough: bool = False

    @property
    def document(self) -> str | None:
        return self.request.document

    @property
    def priority(self) -> int:
        return self.request.priority

    @property
    def waited_ms(self) -> float:
        return (time.monotonic() - self.arrived_s) * 1000


class Worker:
    """Loads the engine and runs requests one by one. `send` is called from any thread."""

    def __init__(
        self, engine: str, send: Callable[[ToParent], None], max_waiting: int = 64
    ) -> None:
        self._engine = engine
        self._send = send
        self._scheduler: Scheduler[Job] = Scheduler(max_waiting)
        self._stats_lock = threading.Lock()
        self._stats = EngineStats()
        self._unrun = EngineStats()  # requests that ended before the engine saw them

    def run(self, config: EngineConfig) -> None:
        """Load and serve on this thread until `close`, a failed load or a lost device."""
        engine = self._load(config)
        if engine is None:
            return
        try:
            self._note_stats(engine)
            self._send(Loaded(engine.info))
            while (job := self._next(engine)) is not None:
                self._run_job(engine, job)
        finally:
            engine.close()

    def _next(self, engine: LoadedEngine) -> Job | None:
        """The next job; until there is one the engine prepares for it."""
        try:
            while self._scheduler.is_idle and engine.prepare_some():
                pass
        except DeviceLostError:
            raise
        except EngineError as error:
            _log.warning("preparing for requests failed: %s", error)
        return self._scheduler.next()

    def handle(self, frame: ToChild) -> None:
        """Act on a frame at once, on the caller's thread."""
        match frame:
            case Generate() | Select():
                self._send(Accepted(frame.id))
                self._submit(Job(frame.id, frame.request))
            case Cancel():
                if job := self._scheduler.cancel(frame.id):
                    self._finish_unrun(job, FinishReason.CANCELLED)
            case StopText():
                running = self._scheduler.running
                if running is not None and running.id == frame.id:
                    running.is_text_enough = True
            case GetStats():
                self._send(Stats(frame.id, self._current_stats()))
            case _:
                raise EngineError(f"{type(frame).__name__} frame, expected a request")

    def close(self) -> None:
        """Cancel everything and let `run` return; from any thread."""
        for job in self._scheduler.close():
            self._finish_unrun(job, FinishReason.CANCELLED)

    def _load(self, config: EngineConfig) -> LoadedEngine | None:
        try:
            factory = _import_factory(self._engine)
            return factory.load(config, lambda progress: self._send(Progress(progress)))
        except Exception as error:
            _log_unexpected("loading failed", error)
            self._send(LoadFailed(ErrorInfo.of(error)))
            return None

    def _submit(self, job: Job) -> None:
        try:
            superseded = self._scheduler.submit(job)
        except EngineError as error:
            self._send(Failed(job.id, ErrorInfo.of(error)))
            return
        for older in superseded:
            self._finish_unrun(older, FinishReason.CANCELLED)

    def _run_job(self, engine: LoadedEngine, job: Job) -> None:
        try:
            if isinstance(job.request, SelectRequest):
                self._select(engine, job, job.request)
            else:
                self._generate(engine, job, job.request)
        except Exception as error:
            _log_unexpected(f"request {job.id} failed", error)
            self._send(Failed(job.id, ErrorInfo.of(error)))
            if isinstance(error, DeviceLostError):
                raise

    def _select(self, engine: LoadedEngine, job: Job, request: SelectRequest) -> None:
        selection = engine.select(request, job.cancel)
        if not (selection.is_cancelled and self._put_back(job)):
            self._send(Selected(job.id, selection))

    def _put_back(self, job: Job) -> bool:
        return self._scheduler.put_back(dataclasses.replace(job, cancel=CancelToken()))

    def _generate(self, engine: LoadedEngine, job: Job, request: GenerateRequest) -> None:
        waited_ms = job.waited_ms
        if request.deadline_ms is not None:
            left_ms = request.deadline_ms - waited_ms
            if left_ms <= 0:
                self._finish_unrun(job, FinishReason.DEADLINE)
                return
            request = msgspec.structs.replace(request, deadline_ms=left_ms)

        def on_text(text: str) -> bool:
            self._send(Text(job.id, text))
            return not job.is_text_enough

        result = engine.generate(request, job.cancel, on_text)
        result.timings_ms.queue = waited_ms
        result.timings_ms.total += waited_ms
        self._note_stats(engine)
        is_cancelled = result.finish_reason is FinishReason.CANCELLED
        if not (is_cancelled and self._put_back(job)):
            self._send(Done(job.id, result))

    def _finish_unrun(self, job: Job, reason: FinishReason) -> None:
        if isinstance(job.request, SelectRequest):
            self._send(Selected(job.id, Selection(spans=[], is_cancelled=True)))
            return
        with self._stats_lock:
            self._unrun.n_requests += 1
            self._unrun.n_cancelled += reason is FinishReason.CANCELLED
        waited_ms = job.waited_ms
        result = GenerateResult(
            text="",
            prompt_tokens=[],
            tokens=[],
            finish_reason=reason,
            timings_ms=Timings(queue=waited_ms, total=waited_ms),
        )
        self._send(Done(job.id, result))

    def _note_stats(self, engine: LoadedEngine) -> None:
        stats = msgspec.structs.replace(engine.stats())  # the engine may go on counting in its own
        with self._stats_lock:
            self._stats = stats

    def _current_stats(self) -> EngineStats:
        """The engine's counters as of its last finished request: only `run` may ask the engine."""
        with self._stats_lock:
            return msgspec.structs.replace(
                self._stats,
                n_requests=self._stats.n_requests + self._unrun.n_requests,
                n_cancelled=self._stats.n_cancelled + self._unrun.n_cancelled,
            )


def _import_factory(name: str) -> EngineFactory:
    """Import "module:attribute"."""
    module_name, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


def _log_unexpected(what: str, error: Exception) -> None:
    """Leave a traceback in the log for what is a bug of ours, one line for what is not."""
    if isinstance(error, EngineError):
        _log.info("%s: %s", what, error)
    else:
        _log.error("%s", what, exc_info=error)
