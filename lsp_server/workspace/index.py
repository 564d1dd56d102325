"""The index of a workspace as others use it: start it, tell it what changed, ask it at a cursor.

Nothing here waits for the index to be built: it answers with what there is.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import msgspec
import platformdirs
from pathspec import GitIgnoreSpec

from lsp_server.workspace import ranking
from lsp_server.workspace.builder import Builder
from lsp_server.workspace.records import (
    Candidate,
    Chunk,
    CursorQuery,
    IndexedFile,
    IndexStatus,
    Signature,
    SkippedFile,
    SkipReason,
)
from lsp_server.workspace.roots import Root, locate, roots_of
from lsp_server.workspace.shelf import Shelf
from lsp_server.workspace.store import CHUNK_BITS, Row, Store, forget_unused, is_damage

T = TypeVar("T")

log = logging.getLogger(__name__)

DEFAULT_MAX_FILES = 50_000
RESCAN_EVERY_S = 300.0
_UNUSED_S = 60 * 86_400.0


class IndexOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to index. `exclude` are gitignore patterns; `cache_dir` None means the user's cache
    folder; `is_watched` says that the client reports changed files, else they are looked for
    every few minutes."""

    exclude: tuple[str, ...] = ()
    max_files: int = DEFAULT_MAX_FILES
    cache_dir: Path | None = None
    is_watched: bool = False


class WorkspaceIndex:
    """What is in some folders. `is_busy` tells whether completions run, which then go first;
    `on_change` hears of the building from another thread."""

    def __init__(
        self,
        options: IndexOptions | None = None,
        is_busy: Callable[[], bool] = lambda: False,
        on_change: Callable[[IndexStatus], None] = lambda status: None,
    ) -> None:
        self._options = options or IndexOptions()
        self._is_busy, self._on_change = is_busy, on_change
        self._builder: Builder | None = None

    async def start(self, folders: Iterable[str]) -> None:
        """Index folders, named by their URIs, in place of those indexed before."""
        await self.stop()
        uris = list(folders)

        def make_shelves(warn: Callable[[str], None]) -> list[Shelf]:
            forget_unused(self._cache_dir, _UNUSED_S, time.time())
            roots, warnings = roots_of(uris)
            for warning in warnings:
                warn(warning)
            return [self._make_shelf(root, warn) for root in roots]

        rescan_every_s = None if self._options.is_watched else RESCAN_EVERY_S
        self._builder = Builder(make_shelves, self._is_busy, self._on_change, rescan_every_s)
        self._builder.start()

    async def stop(self) -> None:
        """Let go of everything; waits for the file being indexed."""
        if self._builder is not None:
            builder, self._builder = self._builder, None
            await asyncio.to_thread(builder.stop)

    @property
    def _cache_dir(self) -> Path:
        return self._options.cache_dir or Path(platformdirs.user_cache_dir("flash-lsp")) / "index"

    def _make_shelf(self, root: Root, warn: Callable[[str], None]) -> Shelf:
        name = blake2b(str(root.path).encode("utf-8", "surrogateescape"), digest_size=16)
        path = self._cache_dir / f"{name.hexdigest()}.db"
        return Shelf(root, path, self._options.exclude, self._options.max_files, warn)

    # --- what changed ---

    def update_document(self, uri: str, text: str, language: str) -> None:
        """Index an open document's text in place of its file, soon."""
        if self._builder is not None:
            self._builder.update_document(uri, text, language)

    def close_document(self, uri: str) -> None:
        """Go back to a document's file."""
        if self._builder is not None:
            self._builder.update_document(uri, None, "")

    def files_changed(self, uris: Iterable[str]) -> None:
        """Look at these files or folders again: made, changed or deleted."""
        if self._builder is not None:
            self._builder.files_changed(uris)

    def rescan(self) -> None:
        """Look for changes of all files soon."""
        if self._builder is not None:
            self._builder.rescan()

    # --- what there is ---

    def candidates(self, query: CursorQuery, max_chunks: int = 64) -> list[Candidate]:
        """Chunks of other files that may help at a cursor, best first. From any thread, in
        milliseconds; while the index is being built, of what is in it. Never raises."""
        return self._asked(lambda shelves: ranking.rank(shelves, query, max_chunks))

    def chunks_like(self, spec: GitIgnoreSpec, max_chunks: int) -> list[Chunk]:
        """The chunks of the files whose paths match, by path and line. From any thread."""
        wanted = [file.path for file in self.files() if spec.match_file(file.path)]
        return self._asked(lambda shelves: ranking.chunks_of_files(shelves, wanted, max_chunks))

    def signatures(self, names: Iterable[str], exclude_uri: str | None = None) -> list[Signature]:
        """Where names are defined outside of one document. From any thread; never raises."""

        def ask(shelves: Sequence[tuple[Root, Store]]) -> list[Signature]:
            roots = [root for root, _ in shelves]
            exclude = locate(roots, exclude_uri) if exclude_uri is not None else None
            return ranking.signatures(shelves, names, exclude)

        return self._asked(ask)

    def status(self) -> IndexStatus:
        return self._builder.status() if self._builder is not None else IndexStatus()

    def skipped(self) -> list[SkippedFile]:
        """The files that are not indexed, and why; ignored ones are not even listed."""
        rows = self._rows("select path, skipped from files where skipped is not null order by 1")
        return [SkippedFile(path, SkipReason(reason)) for path, reason in rows]

    def files(self) -> list[IndexedFile]:
        """The files that are indexed."""
        rows = self._rows(
            "select f.path, f.language, (select count(*) from chunks c where c.id between"
            f" f.id << {CHUNK_BITS} and ((f.id + 1) << {CHUNK_BITS}) - 1)"
            " from files f where f.skipped is null order by 1"
        )
        return [IndexedFile(*row) for row in rows]

    def _rows(self, statement: str) -> list[Row]:
        """The rows of all folders; the first column is a path."""
        return self._asked(
            lambda shelves: [
                (root.prefix + path, *rest)
                for root, store in shelves
                for path, *rest in store.read(statement)
            ]
        )

    def _asked(self, ask: Callable[[Sequence[tuple[Root, Store]]], list[T]]) -> list[T]:
        shelves = list(self._builder.shelves) if self._builder is not None else []
        try:
            return ask([(shelf.root, shelf.store) for shelf in shelves])
        except sqlite3.ProgrammingError as error:  # closed meanwhile, or exchanged for a new one
            log.debug("the workspace index was closed during a search: %s", error)
        except sqlite3.Error as error:
            log.warning("a search of the workspace index failed: %s", error)
            if self._builder is not None and is_damage(error):
                self._builder.report_damage()
        return []
