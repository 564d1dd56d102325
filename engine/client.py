"""The parent's side of the engine: one async interface over a supervised child or a thread."""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import msgspec

from engine.config import EngineConfig
from engine.errors import DeviceLostError, EngineDiedError, EngineError
from engine.fallback import DeviceFallback
from engine.frames import (
    Accepted,
    Cancel,
    Done,
    ErrorInfo,
    Failed,
    Generate,
    GetStats,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Select,
    Selected,
    Stats,
    StopText,
    Text,
    ToParent,
)
from engine.links import ChildLink, Link, ThreadLink
from engine.request import (
    EngineStats,
    GenerateRequest,
    GenerateResult,
    ModelInfo,
    Selection,
    SelectRequest,
)
from engine.worker import DEFAULT_ENGINE

_T = TypeVar("_T")
_log = logging.getLogger("flash_lsp.engine")


class EngineState(StrEnum):
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"  # and stays so until `restart`
    CLOSED = "closed"


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`fraction` is the progress of loading, in 0..1; `info` is there when READY.

    `fallback` says why the engine is on the processor although a GPU was asked for; it is empty
    otherwise.
    """

    state: EngineState
    message: str
    fraction: float = 0.0
    info: ModelInfo | None = None
    fallback: str = ""


class AsyncEngine(Protocol):
    """The engine as the server sees it; used from one event loop."""

    on_state: Callable[[EngineStatus], None] | None

    @property
    def status(self) -> EngineStatus: ...
    @property
    def state(self) -> EngineState: ...

    async def start(self) -> None:
        """Begin to load, without waiting for it."""
        ...

    async def ready(self) -> ModelInfo:
        """Wait until the model is loaded; raises what prevents it."""
        ...

    async def generate(
        self, request: GenerateRequest, on_text: Callable[[str], bool] | None = None
    ) -> GenerateResult:
        """Generate, waiting for the model if need be.

        `on_text` gets new text and returns False to end with STOP; the result's text may go a
        little further than what it saw. Cancelling the awaiting task cancels the request.
        Raises EngineError; EngineDiedError if the engine ended meanwhile.
        """
        ...

    async def select(self, request: SelectRequest) -> Selection:
        """Choose lines of the request's segments; waits, is cancelled and fails as `generate`."""
        ...

    async def stats(self) -> EngineStats:
        """Counters as of the last request that ended."""
        ...

    async def restart(self) -> None:
        """Begin anew, in particular after FAILED; pending requests fail."""
        ...

    async def close(self) -> None:
        """Cancel everything and end; calling it again does nothing."""
        ...


class RestartPolicy:
    """How soon an engine that died is started again, if at all.

    Dying `max_deaths` times within `window_s` before the model was loaded is final. Other deaths
    are followed by a restart: at once for the first few, then after growing pauses.
    """

    LONGEST_PAUSE_S = 30.0

    def __init__(self, max_deaths: int = 3, window_s: float = 60.0) -> None:
        self.max_deaths, self.window_s = max_deaths, window_s
        self._deaths: deque[tuple[float, bool]] = deque()  # when, and whether it was loading

    def pause_s(self, now_s: float, *, was_loading: bool) -> float | None:
        """Note a death and say how long to wait before the next life; None gives up."""
        self._deaths.append((now_s, was_loading))
        while self._deaths[0][0] <= now_s - self.window_s:
            self._deaths.popleft()
        if sum(loading for _, loading in self._deaths) >= self.max_deaths:
            return None
        n_extra = len(self._deaths) - self.max_deaths
        return 0.0 if n_extra <= 0 else min(2.0 ** (n_extra - 1), self.LONGEST_PAUSE_S)


@dataclass(slots=True)
class _Pending:
    """A request on its way; its answer is what its kind of request is answered with."""

    result: asyncio.Future[Any]
    on_text: Callable[[str], bool] | None = None
    is_text_enough: bool = False
    is_accepted: bool = False


class _NotDelivered(Exception):
    """The engine died before it had the request: nobody noticed, so the next life gets it."""


class _SupervisedEngine(AsyncEngine):
    """Keeps a link alive and gives every request its answer, whatever happens to the link."""

    def __init__(self, config: EngineConfig, new_link: Callable[[], Link]) -> None:
        self.on_state = None
        self._device = DeviceFallback(config)
        self._new_link = new_link
        self._link: Link | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._restarts = RestartPolicy()
        self._status = EngineStatus(state=EngineState.STARTING, message="not started")
        self._failure: ErrorInfo | None = None
        self._is_settled = asyncio.Event()  # ready, failed or closed: nothing to wait for
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._stats: dict[int, asyncio.Future[EngineStats]] = {}

    @property
    def status(self) -> EngineStatus:
        return self._status

    @property
    def state(self) -> EngineState:
        return self._status.state

    async def start(self) -> None:
        if self._supervisor is None and self.state is not EngineState.CLOSED:
            self._supervisor = asyncio.create_task(self._supervise())

    async def ready(self) -> ModelInfo:
        while True:
            await self._is_settled.wait()
            # Waking up takes a turn of the loop, in which the engine may have died again.
            if self._status.info is not None:
                return self._status.info
            if self.state is EngineState.CLOSED:
                raise _closed_error()
            if self._failure is not None:
                raise self._failure.to_error()

    async def generate(
        self, request: GenerateRequest, on_text: Callable[[str], bool] | None = None
    ) -> GenerateResult:
        return await self._ask(lambda id: Generate(id, request), on_text)

    async def select(self, request: SelectRequest) -> Selection:
        return await self._ask(lambda id: Select(id, request))

    async def _ask(
        self,
        frame: Callable[[int], Generate | Select],
        on_text: Callable[[str], bool] | None = None,
    ) -> Any:
        while True:
            await self.ready()
            try:
                return await self._attempt(frame, on_text)
            except _NotDelivered:
                continue

    async def _attempt(
        self, frame: Callable[[int], Generate | Select], on_text: Callable[[str], bool] | None
    ) -> Any:
        id = next(self._ids)
        pending = _Pending(asyncio.get_running_loop().create_future(), on_text)
        self._pending[id] = pending
        try:
            self._send(frame(id))
            return await pending.result
        except asyncio.CancelledError:
            self._send(Cancel(id))
            raise
        finally:
            del self._pending[id]

    async def stats(self) -> EngineStats:
        await self.ready()
        id = next(self._ids)
        answer = self._stats[id] = asyncio.get_running_loop().create_future()
        try:
            self._send(GetStats(id))
            return await answer
        finally:
            del self._stats[id]

    async def restart(self) -> None:
        if self.state is EngineState.CLOSED:
            raise _closed_error()
        await self._end_life()
        self._abandon_requests(EngineDiedError("restarted on request"))
        self._restarts = RestartPolicy()
        self._device.reset()
        self._set_status(EngineState.STARTING, "restarting")
        await self.start()

    async def close(self) -> None:
        self._set_status(EngineState.CLOSED, "closed")
        self._abandon_requests(_closed_error())
        await self._end_life()

    async def _end_life(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if self._link is not None:
            await self._link.close()  # again, as cancelling may have cut the first time short
            self._link = None

    async def _supervise(self) -> None:
        """Live, and live again after every death, until that is hopeless."""
        try:
            while (pause_s := await self._live()) is not None:
                await asyncio.sleep(pause_s)
        except Exception as error:
            _log.exception("the engine's supervisor failed")
            self._fail(ErrorInfo.of(error))

    async def _live(self) -> float | None:
        """Live one life; returns how long to wait before the next one, None if there is none."""
        self._set_status(EngineState.STARTING, "starting the engine")
        link = self._link = self._new_link()
        why_ended, is_turned_away, was_loading = None, False, True
        try:
            await link.open()
            link.send(Load(self._device.config))
            while self.state is not EngineState.FAILED and (frame := await link.receive()):
                if isinstance(frame, LoadFailed) and self._turns_away(frame.error):
                    is_turned_away = True
                    break
                self._take(frame)
                was_loading = was_loading and not isinstance(frame, Loaded)
                if isinstance(frame, Failed) and frame.error.kind == DeviceLostError.__name__:
                    why_ended = frame.error.message
                    break
        except EngineDiedError as error:
            why_ended = error.detail
        finally:
            if self.state is not EngineState.FAILED:
                self._set_status(EngineState.STARTING, "the engine ended")
            how = await link.close()
        # Closing the link may swallow the cancellation that `close` sent; the state still tells.
        if self.state in (EngineState.FAILED, EngineState.CLOSED):
            return None
        if is_turned_away:
            return 0.0
        return self._mourn(why_ended or how, was_loading=was_loading)

    def _turns_away(self, error: ErrorInfo) -> bool:
        """Whether a load failed for the device's sake, so that the next life gets another."""
        is_turned_away = self._device.note_failed_load(error.to_error())
        if is_turned_away:
            _log.error("%s", self._device.reason)
        return is_turned_away

    def _mourn(self, how: str, *, was_loading: bool) -> float | None:
        """Tell everyone of a death; returns how long to wait before the next life, if any."""
        error = EngineDiedError(how)
        _log.error("%s", error)
        for pending in self._pending.values():
            if not pending.is_accepted:
                _answer(pending.result, _NotDelivered())
        self._abandon_requests(error)
        now_s = time.monotonic()
        if self._device.note_end(now_s, how):
            _log.error("%s", self._device.reason)
            self._restarts = RestartPolicy()  # deaths on a GPU say nothing about the processor
        pause_s = self._restarts.pause_s(now_s, was_loading=was_loading)
        if pause_s is None:
            message = (
                f"the engine ended {self._restarts.max_deaths} times within "
                f"{self._restarts.window_s:.0f} s while loading, the last time with: {how}; "
                "solve that and restart it"
            )
            self._fail(ErrorInfo(type(error).__name__, message, {"detail": how}))
        else:
            self._set_status(EngineState.STARTING, str(error))
        return pause_s

    def _take(self, frame: ToParent) -> None:
        match frame:
            case Progress():
                self._set_status(
                    EngineState.LOADING, frame.progress.message, fraction=frame.progress.fraction
                )
            case Loaded():
                self._device.note_loaded(frame.info.backend)
                reason = self._device.reason
                message = f"{frame.info.name} on the processor: {reason}" if reason else ""
                message = message or frame.info.name
                self._set_status(EngineState.READY, message, fraction=1, info=frame.info)
            case LoadFailed():
                self._fail(frame.error)
            case Accepted():
                if pending := self._pending.get(frame.id):
                    pending.is_accepted = True
            case Text():
                self._take_text(frame)
            case Done():
                if pending := self._pending.get(frame.id):
                    _answer(pending.result, frame.result)
            case Selected():
                if pending := self._pending.get(frame.id):
                    _answer(pending.result, frame.selection)
            case Failed():
                if pending := self._pending.get(frame.id):
                    _answer(pending.result, frame.error.to_error())
            case Stats():
                if answer := self._stats.get(frame.id):
                    _answer(answer, frame.stats)

    def _take_text(self, frame: Text) -> None:
        pending = self._pending.get(frame.id)
        if pending is None or pending.on_text is None or pending.is_text_enough:
            return
        try:
            pending.is_text_enough = not pending.on_text(frame.text)
        except Exception as error:
            pending.is_text_enough = True
            _answer(pending.result, error)
            self._send(Cancel(frame.id))
            return
        if pending.is_text_enough:
            self._send(StopText(frame.id))

    def _send(self, frame: Generate | Select | Cancel | StopText | GetStats) -> None:
        if self._link is not None:
            self._link.send(frame)

    def _abandon_requests(self, error: EngineError) -> None:
        info = ErrorInfo.of(error)
        for pending in self._pending.values():
            _answer(pending.result, info.to_error())
        for answer in self._stats.values():
            _answer(answer, info.to_error())

    def _fail(self, failure: ErrorInfo) -> None:
        self._failure = failure
        self._abandon_requests(failure.to_error())
        self._set_status(EngineState.FAILED, failure.message)

    def _set_status(
        self,
        state: EngineState,
        message: str,
        *,
        fraction: float = 0.0,
        info: ModelInfo | None = None,
    ) -> None:
        if self.state is EngineState.CLOSED:
            return
        if state is not EngineState.FAILED:
            self._failure = None
        self._status = EngineStatus(
            state=state,
            message=message,
            fraction=fraction,
            info=info,
            fallback="" if state is EngineState.CLOSED else self._device.reason,
        )
        if state in (EngineState.READY, EngineState.FAILED, EngineState.CLOSED):
            self._is_settled.set()
        else:
            self._is_settled.clear()
        if self.on_state is not None:
            try:
                self.on_state(self._status)
            except Exception:
                _log.exception("on_state failed")


def _answer(future: asyncio.Future[_T], answer: _T | Exception) -> None:
    """Settle `future` unless its owner has gone."""
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _closed_error() -> EngineError:
    return EngineError("the engine is closed")


class EngineClient(_SupervisedEngine):
    """The engine in a child process: a crash there costs one clear error and a restart."""

    def __init__(self, config: EngineConfig, *, engine: str = DEFAULT_ENGINE) -> None:
        super().__init__(config, lambda: ChildLink(engine))

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._link.pid if isinstance(self._link, ChildLink) else None


class InProcessEngine(_SupervisedEngine):
    """The engine on a thread of this process, for debugging and the command line."""

    def __init__(self, config: EngineConfig, *, engine: str = DEFAULT_ENGINE) -> None:
        super().__init__(config, lambda: ThreadLink(engine))
