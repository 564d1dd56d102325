"""The thread that keeps the index in step with disk and editor, a little at a time.

It alone writes. Between two files it looks whether it should stop, whether an open document is due
and whether completions run, for which it makes room; it never holds the interpreter for long.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from lsp_server.workspace.listing import is_ignore_file
from lsp_server.workspace.records import IndexStatus
from lsp_server.workspace.roots import inner_prefixes, locate
from lsp_server.workspace.shelf import Shelf

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.15
RESCAN_DELAY_S = 0.5
_MOST_DELAY_S = 1.0
_COMMIT_S = 0.5
_TELL_S = 0.25
# While completions run, one file gets its turn after this long: a build ends, an edit is found.
_MOST_PAUSE_S = 0.25
_PAUSE_S = 0.02
_MOST_SINGLE_CHANGES = 500  # of more, a scan is cheaper
_SLICE_S = 0.01  # work this long, then let go of the interpreter
_REST_S = 0.001


class _Pending(msgspec.Struct):
    """A document's newest text, None once it is closed, and when it is to be indexed."""

    text: str | None
    language: str
    since_s: float
    due_s: float


class StoppedError(Exception):
    """The thread is to end."""


class Builder:
    """Runs shelves on a thread of its own. `is_busy` tells whether completions run;
    `on_change` hears from the thread how far things are."""

    def __init__(
        self,
        make_shelves: Callable[[Callable[[str], None]], list[Shelf]],
        is_busy: Callable[[], bool],
        on_change: Callable[[IndexStatus], None],
        rescan_every_s: float | None,
    ) -> None:
        self._make_shelves, self._is_busy, self._on_change = make_shelves, is_busy, on_change
        self._rescan_every_s = rescan_every_s
        self.shelves: list[Shelf] = []
        self._documents: dict[str, _Pending] = {}
        self._changed: set[str] = set()
        self._rescan_due_s: float | None = 0.0
        self._is_stopping = self._is_damaged = False
        self._wake = threading.Condition()
        self._warnings: list[str] = []
        self._is_building, self._fraction = True, 0.0
        self._told_s = self._committed_s = self._rested_s = 0.0
        self._thread = threading.Thread(target=self._run, name="workspace index", daemon=True)

    # --- from any thread ---

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; the stores are closed then."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def update_document(self, uri: str, text: str | None, language: str) -> None:
        """Index a document's text soon, or its file again where `text` is None."""
        with self._wake:
            now_s = time.monotonic()
            waiting = self._documents.get(uri)
            since_s = now_s if waiting is None else waiting.since_s
            # Who types without a pause is followed all the same.
            due_s = min(now_s + DEBOUNCE_S, since_s + _MOST_DELAY_S) if text is not None else now_s
            self._documents[uri] = _Pending(text, language, since_s, due_s)
            self._wake.notify()

    def files_changed(self, uris: Iterable[str]) -> None:
        with self._wake:
            self._changed.update(uris)
            self._wake.notify()

    def rescan(self) -> None:
        """Compare all files with the index soon."""
        with self._wake:
            if self._rescan_due_s is None:
                self._rescan_due_s = time.monotonic() + RESCAN_DELAY_S
            self._wake.notify()

    def report_damage(self) -> None:
        """A search found a store damaged: all of them are checked and, if need be, made anew."""
        with self._wake:
            self._is_damaged = True
            self._wake.notify()

    def status(self) -> IndexStatus:
        n_files = n_chunks = n_hashed = n_bytes = 0
        n_skipped: dict[str, int] = {}
        for shelf in list(self.shelves):
            files, chunks, skipped, hashed = shelf.counts
            n_files, n_chunks, n_hashed = n_files + files, n_chunks + chunks, n_hashed + hashed
            n_bytes += shelf.store.bytes_on_disk
            for reason, n in skipped.items():
                n_skipped[reason] = n_skipped.get(reason, 0) + n
        return IndexStatus(
            n_files=n_files,
            n_chunks=n_chunks,
            n_skipped=n_skipped,
            is_building=self._is_building,
            fraction=self._fraction,
            n_chunks_rehashed=n_hashed,
            bytes_on_disk=n_bytes,
            warnings=tuple(self._warnings),
        )

    # --- on the thread ---

    def _run(self) -> None:
        try:
            self.shelves = self._make_shelves(self._warn)
            while True:
                self._turn()
        except StoppedError:
            log.debug("the workspace index is closed")
        except Exception as error:  # a bug of ours must not leave the server without a word
            log.exception("the workspace index has failed")
            self._warn(f"the workspace index has failed: {error}")
        finally:
            for shelf in self.shelves:
                shelf.close()
            self._is_building = False
            self._tell()

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.append(message)
            log.warning("%s", message)

    def _turn(self) -> None:
        """Wait for something to do and do it. Raises StoppedError."""
        self._wait()
        self._take_documents()
        self._take_changes()
        self._mend()
        with self._wake:
            is_due = self._rescan_due_s is not None and self._rescan_due_s <= time.monotonic()
            if is_due:
                self._rescan_due_s = None
        if is_due:
            self._scan()

    def _wait(self) -> None:
        with self._wake:
            while not self._is_stopping:
                now_s = time.monotonic()
                due = [pending.due_s for pending in self._documents.values()]
                if self._rescan_due_s is not None:
                    due.append(self._rescan_due_s)
                if self._is_damaged or self._changed or (due and min(due) <= now_s):
                    return
                timeout = min(due) - now_s if due else self._rescan_every_s
                if not self._wake.wait(timeout) and not due and self._rescan_every_s:
                    self._rescan_due_s = now_s
        raise StoppedError

    def _mend(self) -> None:
        """Make those stores anew that a search has found damaged."""
        if not self._is_damaged:
            return
        self._is_damaged = False
        for shelf in self.shelves:
            self._guarded(shelf, shelf.store.check)

    def _scan(self) -> None:
        self._is_building, self._fraction = True, 0.0
        self._tell()
        roots = [shelf.root for shelf in self.shelves]
        for n, shelf in enumerate(self.shelves):
            shelf.leave_to_others(inner_prefixes(shelf.root, roots))
            # Damage is met once by a new file, and whatever follows by memory.
            for _ in range(3):
                try:
                    self._scan_one(shelf, n)
                    break
                except sqlite3.Error as error:
                    shelf.recover(error)
        self._is_building, self._fraction = False, 1.0
        self._tell()

    def _scan_one(self, shelf: Shelf, n_before: int) -> None:
        self._committed_s = time.monotonic()
        for fraction in shelf.scan():
            self._fraction = (n_before + fraction) / len(self.shelves)
            self._breathe(shelf)

    def _breathe(self, shelf: Shelf) -> None:
        """Between two files: commit, make room, follow the editor. Raises StoppedError."""
        now_s = time.monotonic()
        if self._is_stopping:
            raise StoppedError
        if now_s - self._committed_s > _COMMIT_S:
            shelf.store.commit()
            self._committed_s = now_s
        if now_s - self._told_s > _TELL_S:
            self._tell()
        if self._documents:
            self._take_documents()
        if self._is_busy():
            shelf.store.commit()
            self._make_room()
        elif now_s - self._rested_s > _SLICE_S:
            time.sleep(_REST_S)
            self._rested_s = time.monotonic()

    def _make_room(self) -> None:
        """Let completions that run go first, for a while."""
        end_s = time.monotonic() + _MOST_PAUSE_S
        while self._is_busy() and time.monotonic() < end_s and not self._is_stopping:
            time.sleep(_PAUSE_S)

    def _tell(self) -> None:
        self._told_s = time.monotonic()
        self._on_change(self.status())

    def _take_documents(self) -> None:
        now_s = time.monotonic()
        with self._wake:
            due = [uri for uri, pending in self._documents.items() if pending.due_s <= now_s]
            taken = [(uri, self._documents.pop(uri)) for uri in due]
        for uri, pending in taken:
            self._make_room()
            if (found := self._locate(uri)) is not None:
                self._guarded(found[0], lambda f=found, p=pending: _follow(f[0], f[1], p))

    def _take_changes(self) -> None:
        with self._wake:
            uris, self._changed = self._changed, set()
        if not uris:
            return
        by_shelf: dict[int, list[str]] = {}
        for uri in sorted(uris):
            if (found := self._locate(uri)) is not None:
                by_shelf.setdefault(self.shelves.index(found[0]), []).append(found[1])
        needs_scan = False
        for n, paths in by_shelf.items():
            self._make_room()
            shelf = self.shelves[n]
            if len(paths) > _MOST_SINGLE_CHANGES or any(map(is_ignore_file, paths)):
                needs_scan = True
                continue
            inside = [path for path in paths if not path.startswith(".git/")]
            needs_scan |= bool(self._guarded(shelf, lambda s=shelf, p=inside: s.refresh(p)))
        if needs_scan:
            self.rescan()

    def _locate(self, uri: str) -> tuple[Shelf, str] | None:
        place = locate([shelf.root for shelf in self.shelves], uri)
        if place is None:
            return None
        return next((s, place.relative) for s in self.shelves if s.root is place.root)

    def _guarded(self, shelf: Shelf, work: Callable[[], bool | None]) -> bool | None:
        """Do some work; if the store fails, have a new one and scan again."""
        try:
            return work()
        except sqlite3.Error as error:
            shelf.recover(error)
            self.rescan()
            return None


def _follow(shelf: Shelf, path: str, pending: _Pending) -> None:
    if pending.text is None:
        shelf.uncover(path)
    else:
        shelf.overlay(path, pending.text, pending.language)
