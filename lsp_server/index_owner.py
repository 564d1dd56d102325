"""The one workspace index a server owns: started from the settings, exchanged when they change."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from lsp_server.documents import Document
from lsp_server.workspace import IndexOptions, IndexStatus, WorkspaceIndex

log = logging.getLogger(__name__)

# Where the client reports no changed files, saving and coming back look for them this often.
LEAST_RESCAN_S = 20.0


class IndexOwner:
    """Starts, exchanges and stops the index, and tells it what the editor does.

    `is_busy` tells whether completions run; `on_status` hears in the event loop of the building.
    """

    def __init__(
        self, is_busy: Callable[[], bool], on_status: Callable[[IndexStatus], None]
    ) -> None:
        self._is_busy, self._on_status = is_busy, on_status
        self.index: WorkspaceIndex | None = None
        self._chosen: tuple[IndexOptions | None, tuple[str, ...]] = (None, ())
        self._exchanging = asyncio.Lock()
        self._is_closed = False
        self._rescanned_s = float("-inf")

    @property
    def status(self) -> IndexStatus | None:
        """None where nothing is indexed."""
        return None if self.index is None else self.index.status()

    async def apply(
        self, options: IndexOptions | None, folders: Iterable[str], documents: Iterable[Document]
    ) -> None:
        """Have an index of these folders; without options or folders there is none."""
        chosen = (options, tuple(folders))
        async with self._exchanging:
            if self._is_closed or self._chosen == chosen:
                return
            await self._stop()
            self._chosen = chosen
            if options is None or not chosen[1]:
                return
            loop = asyncio.get_running_loop()

            def tell(status: IndexStatus) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._hear, status)

            self.index = WorkspaceIndex(options, self._is_busy, tell)
            await self.index.start(chosen[1])
            for document in documents:
                self.document_changed(document)

    def document_changed(self, document: Document) -> None:
        if self.index is not None:
            self.index.update_document(document.uri, document.text, document.language_id)

    def document_closed(self, uri: str) -> None:
        if self.index is not None:
            self.index.close_document(uri)

    def files_changed(self, uris: Iterable[str]) -> None:
        if self.index is not None:
            self.index.files_changed(uris)

    def rescan_if_unwatched(self) -> None:
        """Look for changed files now and then, where the client does not report them."""
        options, now_s = self._chosen[0], asyncio.get_running_loop().time()
        if self.index is None or options is None or options.is_watched:
            return
        if now_s - self._rescanned_s >= LEAST_RESCAN_S:
            self._rescanned_s = now_s
            self.index.rescan()

    async def close(self) -> None:
        self._is_closed = True
        async with self._exchanging:
            await self._stop()

    def _hear(self, status: IndexStatus) -> None:
        if self.index is not None:
            self._on_status(status)

    async def _stop(self) -> None:
        if self.index is not None:
            index, self.index = self.index, None
            await index.stop()
