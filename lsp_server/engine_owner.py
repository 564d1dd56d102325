"""The one engine a server owns: started from the settings, exchanged when they change."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from engine.client import AsyncEngine, EngineState, EngineStatus
from engine.config import EngineConfig
from engine.errors import EngineError

log = logging.getLogger(__name__)

EngineFactory = Callable[[EngineConfig, bool], AsyncEngine]


class EngineOwner:
    """Starts, exchanges and closes the engine; `on_status` hears of every change of its state.

    A model that cannot be loaded is a state with a message, never an exception out of here.
    """

    def __init__(self, factory: EngineFactory, on_status: Callable[[EngineStatus], None]) -> None:
        self._factory, self._on_status = factory, on_status
        self._engine: AsyncEngine | None = None
        self._chosen: tuple[EngineConfig, bool] | None = None
        self._there_is_one = asyncio.Event()
        self._is_closed = False
        self._exchanging = asyncio.Lock()

    async def engine(self) -> AsyncEngine:
        """The engine, whatever its state, as soon as there is one: after `initialized`."""
        while self._engine is None:
            await self._there_is_one.wait()
        return self._engine

    @property
    def status(self) -> EngineStatus:
        if self._engine is None:
            return EngineStatus(state=EngineState.STARTING, message="waiting for the client")
        return self._engine.status

    async def apply(self, config: EngineConfig, in_process: bool) -> None:
        """Have an engine with this configuration: the present one, or a new one in its place."""
        async with self._exchanging:
            if self._is_closed or self._chosen == (config, in_process):
                return
            await self._close_engine()
            self._chosen = (config, in_process)
            self._engine = engine = self._factory(config, in_process)
            engine.on_state = self._on_status
            self._there_is_one.set()
            await _tolerate(engine.start)

    async def restart(self) -> None:
        """Load the same model anew."""
        async with self._exchanging:
            if self._engine is not None and not self._is_closed:
                await _tolerate(self._engine.restart)

    async def close(self) -> None:
        self._is_closed = True
        async with self._exchanging:
            await self._close_engine()

    async def _close_engine(self) -> None:
        if self._engine is not None:
            engine, self._engine = self._engine, None
            self._there_is_one.clear()
            engine.on_state = None
            await engine.close()


async def _tolerate(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except EngineError as error:  # its status says so, too
        log.error("the engine did not start: %s", error)
