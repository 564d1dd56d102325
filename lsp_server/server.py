"""The language server: one client, its documents, its settings and the engine that serves it.

pygls holds the registry of features and knows how to announce them; its input loop, dispatch and
document model are replaced by transport.py, jsonrpc.py and documents.py, which see to it that
every message is answered and no edit corrupts a text.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from engine.client import AsyncEngine, EngineClient, EngineState, EngineStatus, InProcessEngine
from engine.config import EngineConfig
from lsp_server import features, transport
from lsp_server.acceptance import Acceptance
from lsp_server.activity import Activity
from lsp_server.ahead import Ahead
from lsp_server.capsule import Latest
from lsp_server.completion import Completion
from lsp_server.convert import (
    ClientFeatures,
    copilot_status,
    flash_status,
    index_record,
    to_rpc_error,
    to_wire,
)
from lsp_server.documents import DocumentStore
from lsp_server.engine_owner import EngineFactory, EngineOwner
from lsp_server.features.workspace_did_change_watched_files import ask_to_watch
from lsp_server.folders import Folders
from lsp_server.index_owner import IndexOwner
from lsp_server.jobs import Jobs
from lsp_server.jsonrpc import Handler, Peer, RpcError
from lsp_server.next_edit import NextEdit
from lsp_server.pace import Pace
from lsp_server.progress import ProgressReport
from lsp_server.protocol import (
    COPILOT_DID_CHANGE_STATUS,
    FLASH_DID_CHANGE_STATUS,
    PARAMS,
    ExecuteCommandParams,
    FlashStatus,
)
from lsp_server.repository_context import RepositoryContext
from lsp_server.settings import SECTION, Settings, merge
from lsp_server.suggestion_cache import SuggestionCache
from lsp_server.version import own_version
from lsp_server.workspace import IndexOptions, IndexStatus

log = logging.getLogger(__name__)

NAME = "flash-lsp"

# A build of the index that takes longer than this is shown.
_SHOW_INDEXING_AFTER_S = 1.0
_BUSY = (EngineState.STARTING, EngineState.LOADING)


class FlashServer(LanguageServer):
    """Everything one client's session consists of. Features reach the session through it."""

    def __init__(
        self, engine_factory: EngineFactory, settings_overrides: Mapping[str, Any] | None = None
    ) -> None:
        cast("Any", super()).__init__(NAME, own_version())
        self._registry = cast("Any", self.protocol.fm)  # pygls leaves it untyped
        self.peer = Peer(lambda method: self.handlers.get(method), PARAMS, to_wire, to_rpc_error)
        self.client = ClientFeatures()
        self.documents = DocumentStore()
        self.folders = Folders()
        self.activity = Activity()
        self.acceptance = Acceptance(self.documents)
        self.suggestions = SuggestionCache()
        self.latest: Latest | None = None
        self.ahead = Ahead()
        self.pace = Pace()
        self.jobs: Jobs[list[Completion]] = Jobs()
        self.edits: Jobs[str] = Jobs()
        self.next_edits: Jobs[NextEdit | None] = Jobs()
        self.engine_owner = EngineOwner(engine_factory, self._on_engine_status)
        self.index_owner = IndexOwner(self._is_busy, self._on_index_status)
        self.repository = RepositoryContext(
            self.engine_owner.engine,
            lambda: self.index_owner.index,
            lambda: self.settings.context_options,
        )
        self.load_progress = ProgressReport(self.peer, "load")
        self.index_progress = ProgressReport(self.peer, "index")
        self._indexing_since_s: float | None = None
        self._is_watched: bool | None = None  # None: the client was not asked yet
        self._overrides = dict(settings_overrides or {})
        self._initial_settings = Settings()
        self.settings = merge(Settings(), self._overrides, log.warning)
        for register in features.REGISTER:
            register(self)

    # --- features ---

    def on(
        self, method: str, handler: Callable[["FlashServer", Any], Any], options: object = None
    ) -> None:
        """Register a feature: a plain function runs at once, a coroutine function as a task.

        pygls hands this server to handlers whose first parameter is named `ls`.
        """
        self._registry.feature(method, options)(handler)

    def on_command(
        self,
        name: str,
        handler: Callable[["FlashServer", ExecuteCommandParams], Coroutine[Any, Any, Any]],
    ) -> None:
        """Register a command a client may execute; what it returns is the answer."""
        self._registry.command(name)(handler)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What answers each method. What pygls itself would handle is not among them."""
        return self._registry.features

    @property
    def feature_options(self) -> dict[str, Any]:
        return self._registry.feature_options

    @property
    def commands(
        self,
    ) -> Mapping[str, Callable[[ExecuteCommandParams], Coroutine[Any, Any, Any]]]:
        return self._registry.commands

    # --- settings ---

    def configure(self, initial_options: object) -> None:
        """Take the options a client starts with; they stay in force under its later ones."""
        self._initial_settings = merge(Settings(), initial_options, log.warning)
        self.settings = merge(self._initial_settings, self._overrides, _say_nothing)

    async def reconfigure(self, chosen: object) -> None:
        """Take a client's present configuration, exchanging the engine if that calls for it."""
        was_enabled = self.settings.enabled
        merged = merge(self._initial_settings, chosen, log.warning)
        self.settings = merge(merged, self._overrides, _say_nothing)
        self.suggestions.clear()
        if self.settings.enabled != was_enabled:
            self._announce_status(self.status)
        await self.apply_settings()

    async def pull_configuration(self) -> None:
        """Ask the client for its configuration; one that gives none keeps what it started with."""
        ask = types.ConfigurationParams(items=[types.ConfigurationItem(section=SECTION)])
        chosen: object = None
        try:
            answer = await self.peer.ask(types.WORKSPACE_CONFIGURATION, ask, timeout_s=3.0)
            chosen = cast("list[object]", answer)[0] if isinstance(answer, list) else None
        except (RpcError, TimeoutError, IndexError) as error:
            log.warning("the client gave no configuration: %s", error)
        await self.reconfigure(chosen)

    async def apply_settings(self) -> None:
        """Have the engine and the index that the settings ask for."""
        self.ahead.clear()
        self.repository.clear()
        await self.engine_owner.apply(self.settings.engine_config, self.settings.in_process)
        await self.apply_index_settings()

    async def apply_index_settings(self) -> None:
        """Index the folders that are open now, if that is wanted."""
        options: IndexOptions | None = None
        if self.settings.index_enabled:
            if self._is_watched is None:
                self._is_watched = self.client.has_watched_files and await ask_to_watch(self)
            options = IndexOptions(
                exclude=self.settings.index_exclude,
                max_files=self.settings.index_max_files,
                is_watched=self._is_watched,
            )
        await self.index_owner.apply(options, self.folders, self.documents)
        if self.index_owner.index is None:
            self._end_indexing("")

    # --- status ---

    @property
    def status(self) -> FlashStatus:
        index = index_record(self.index_owner.status)
        is_enabled = self.settings.enabled
        return flash_status(self.engine_owner.status, is_enabled=is_enabled, index=index)

    def _on_engine_status(self, status: EngineStatus) -> None:
        if status.state in _BUSY:
            is_welcome = self.client.has_progress
            self.load_progress.update(status.message, status.fraction, is_welcome=is_welcome)
        else:
            self.load_progress.end(status.message)
        self._announce_status(self.status)
        if status.state is EngineState.FAILED:
            message = f"flash-lsp offers no completions: {status.message}"
            log.error("%s", message)
            self.show_message(types.MessageType.Error, message)
        elif status.state is EngineState.READY and status.fallback:
            self.show_message(types.MessageType.Warning, f"flash-lsp is slower: {status.message}")

    def _is_busy(self) -> bool:
        """Whether someone waits for the model, so that everything else should hold back."""
        return len(self.jobs) + len(self.edits) > 0

    def _on_index_status(self, status: IndexStatus) -> None:
        if not self.peer.is_open:
            return
        now_s = asyncio.get_running_loop().time()
        if not status.is_building:
            self._end_indexing(f"{status.n_files} files are indexed")
            self.peer.notify(FLASH_DID_CHANGE_STATUS, self.status)
        elif self._indexing_since_s is None:
            self._indexing_since_s = now_s
        elif now_s - self._indexing_since_s > _SHOW_INDEXING_AFTER_S:
            is_welcome = self.client.has_progress
            message = f"indexing: {status.n_files} files"
            self.index_progress.update(message, status.fraction, is_welcome=is_welcome)

    def _end_indexing(self, message: str) -> None:
        self._indexing_since_s = None
        self.index_progress.end(message)

    def _announce_status(self, status: FlashStatus) -> None:
        self.peer.notify(FLASH_DID_CHANGE_STATUS, status)
        self.peer.notify(COPILOT_DID_CHANGE_STATUS, copilot_status(status))

    def show_message(self, kind: types.MessageType, message: str) -> None:
        """Tell the user something they should act on."""
        self.peer.notify(
            types.WINDOW_SHOW_MESSAGE, types.ShowMessageParams(type=kind, message=message)
        )

    # --- running ---

    def hang_up(self) -> None:
        """End the session because the client is gone."""
        self.peer.exit(0 if self.peer.is_shut_down else 1)

    async def serve(self, wire: transport.Wire) -> int:
        """Serve the client at the other end of `wire`; returns the process's exit code."""
        conversation = transport.Conversation(wire, self.peer)
        with _forwarded_log(self.peer):
            try:
                return await conversation.run()
            finally:
                await self.close()

    async def close(self) -> None:
        """Let go of the engine and the index."""
        self.ahead.clear()
        self.repository.clear()
        await self.index_owner.close()
        await self.engine_owner.close()


def create_server(
    engine_factory: EngineFactory | None = None,
    settings_overrides: Mapping[str, Any] | None = None,
) -> FlashServer:
    """Build a server that has talked to nobody yet. Overrides use the settings' wire names."""
    return FlashServer(engine_factory or default_engine, settings_overrides)


def default_engine(config: EngineConfig, in_process: bool) -> AsyncEngine:
    return InProcessEngine(config) if in_process else EngineClient(config)


def run_stdio(
    settings_overrides: Mapping[str, Any] | None = None,
    engine_factory: EngineFactory | None = None,
) -> int:
    """Serve the client on stdin and stdout until it ends; returns the process's exit code."""
    in_fd, out_fd = transport.take_over_stdio()

    async def serve() -> int:
        server = create_server(engine_factory, settings_overrides)
        return await server.serve(transport.StdioWire(in_fd, out_fd, server.hang_up))

    return _run(serve())


def run_tcp(
    port: int,
    settings_overrides: Mapping[str, Any] | None = None,
    engine_factory: EngineFactory | None = None,
    on_listening: Callable[[int], None] = lambda port: log.warning("listening on port %d", port),
) -> int:
    """Serve one client on a loopback port (0: any free one) until it ends; returns the code."""

    async def serve() -> int:
        server = create_server(engine_factory, settings_overrides)
        return await server.serve(await transport.accept_one(port, on_listening, server.hang_up))

    return _run(serve())


def _run(serving: Coroutine[Any, Any, int]) -> int:
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        return asyncio.run(serving)
    except KeyboardInterrupt:
        return 130


class _ClientLog(logging.Handler):
    """Shows warnings and errors in the client's log, without tracebacks."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(logging.WARNING)
        self._peer, self._loop = peer, asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        is_error = record.levelno >= logging.ERROR
        kind = types.MessageType.Error if is_error else types.MessageType.Warning
        params = types.LogMessageParams(type=kind, message=record.getMessage())
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, params)

    def _send(self, params: types.LogMessageParams) -> None:
        if self._peer.is_open:
            self._peer.notify(types.WINDOW_LOG_MESSAGE, params)


@contextmanager
def _forwarded_log(peer: Peer) -> Generator[None]:
    handler = _ClientLog(peer)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _say_nothing(message: str) -> None:
    """Drop a warning that was given before."""
