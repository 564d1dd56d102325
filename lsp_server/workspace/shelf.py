"""One folder in the index: its listing, its store, and how its files get from one to the other.

All but `store` belongs to the thread that writes. Open documents win over what is on disk.
"""

import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

from lsp_server.workspace.file_types import language_of
from lsp_server.workspace.ingest import OVERLAID, FileState, Ingest
from lsp_server.workspace.listing import Listing
from lsp_server.workspace.records import SkipReason
from lsp_server.workspace.roots import Root
from lsp_server.workspace.screening import decode, screen_path, screen_text
from lsp_server.workspace.store import is_damage, open_store, remove

log = logging.getLogger(__name__)


class OpenText(msgspec.Struct):
    """An open document; `hashes` are those of its chunks, so that only changed ones are hashed."""

    text: str
    language: str
    hashes: dict[str, bytes] = {}


class Shelf:
    """The index of one folder."""

    def __init__(
        self,
        root: Root,
        path: Path | None,
        excluded: Sequence[str],
        most_files: int,
        warn: Callable[[str], None],
    ) -> None:
        self.root, self._path, self._warn = root, path, warn
        self._most_files = most_files
        self._inner: tuple[str, ...] = ()
        self._listing = Listing(root.path, excluded, warn)
        self._open: dict[str, OpenText] = {}
        self._n_hashed_before = 0
        self.store = open_store(path, warn)
        self._ingest = Ingest(self.store)

    @property
    def counts(self) -> tuple[int, int, dict[str, int], int]:
        """Files, chunks, skipped files by reason, and chunks hashed so far."""
        counts = self._ingest.counts
        n_hashed = self._n_hashed_before + counts.n_hashed
        return counts.n_files, counts.n_chunks, dict(counts.n_skipped), n_hashed

    def leave_to_others(self, inner: tuple[str, ...]) -> None:
        """Leave these parts out: they are folders of the workspace of their own."""
        self._inner = inner

    # --- all files ---

    def scan(self) -> Iterator[float]:
        """Bring the store in step with the disk; yields the fraction done after every file.

        Begins transactions and leaves them open: the caller commits.
        """
        paths = [path for path in self._listing.files() if not path.startswith(self._inner or "\0")]
        known = self._ingest.known()
        n_wanted = 0
        for n, path in enumerate(paths, start=1):
            self.store.begin()
            if path in self._open:
                known.pop(path, None)
                continue
            is_over = n_wanted >= self._most_files
            is_indexed = self._refresh(path, known.pop(path, None), is_over_limit=is_over)
            n_wanted += is_indexed
            yield n / len(paths)
        for path in known:  # neither listed nor open
            if path not in self._open:
                self.store.begin()
                self._ingest.delete(path)
                yield 1.0
        self.store.begin()
        self._ingest.tidy()
        self.store.commit()

    def _refresh(self, path: str, known: FileState | None, *, is_over_limit: bool = False) -> bool:
        """Index a file if it has changed; returns whether it counts as indexed."""
        try:
            found = os.lstat(self.root.path / path)
        except (OSError, ValueError):
            self._ingest.delete(path)
            return False
        state = FileState(found.st_size, found.st_mtime_ns)
        reason = self._reason_against(path, found, is_over_limit=is_over_limit)
        if reason is not None:
            if known is None or known.hash != reason.value.encode():
                marked = msgspec.structs.replace(state, hash=reason.value.encode())
                self._ingest.skip(path, marked, reason)
            return False
        is_same = known is not None and (known.n_bytes, known.mtime_ns) == (
            state.n_bytes,
            state.mtime_ns,
        )
        # A reason of the file's surroundings may be gone though the file is the same.
        if is_same and known is not None and known.hash not in _SURROUNDINGS:
            return True
        return self._read(path, state, known)

    def _reason_against(
        self, path: str, found: os.stat_result, *, is_over_limit: bool
    ) -> SkipReason | None:
        """Why a file is not even read. A secret is one whatever else it is."""
        if stat.S_ISLNK(found.st_mode):
            return SkipReason.LINK
        reason = screen_path(path, found.st_size)
        if reason is SkipReason.SECRET:
            return reason
        if self._listing.is_excluded(path):
            return SkipReason.EXCLUDED
        if not stat.S_ISREG(found.st_mode):
            return SkipReason.UNREADABLE
        if reason is None and is_over_limit:
            return SkipReason.OVER_LIMIT
        return reason

    def _read(self, path: str, state: FileState, known: FileState | None) -> bool:
        try:
            content = self._content(path)
        except OSError as error:
            log.info("'%s' is not indexed: %s", path, error)
            marked = msgspec.structs.replace(state, hash=SkipReason.UNREADABLE.value.encode())
            self._ingest.skip(path, marked, SkipReason.UNREADABLE)
            return False
        state = msgspec.structs.replace(state, hash=blake2b(content, digest_size=16).digest())
        if known is not None and known.hash == state.hash:
            self._ingest.touch(path, state)
            return True
        text = decode(content)
        reason = SkipReason.BINARY if text is None else screen_text(path, text)
        if text is None or reason is not None:
            self._ingest.skip(path, state, reason or SkipReason.BINARY)
            return True
        opened = self._open.get(path)
        hashes = opened.hashes if opened is not None else None
        self._ingest.put(path, state, text, language_of(path), hashes)
        return True

    def _content(self, path: str) -> bytes:
        """A file's bytes. Raises OSError, also for a file that links lead out of the folder to."""
        whole = self.root.path / path
        if not whole.parent.resolve().is_relative_to(self.root.path):
            raise OSError(f"'{path}' lies outside of the folder, behind a link")
        # A pipe that takes the file's place in this moment would make reading wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(whole, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            return file.read()

    # --- some files ---

    def refresh(self, paths: Sequence[str]) -> bool:
        """Follow changes of these files; returns whether the whole folder must be scanned."""
        wanted = [path for path in paths if path and path not in self._open]
        wanted = [path for path in wanted if not self._is_foreign(path)]
        known = self._ingest.known_of(wanted)
        new = [path for path in wanted if path not in known]
        ignored = self._listing.ignored(new) if new else set[str]()
        self.store.begin()
        needs_scan = False
        for path in wanted:
            whole = self.root.path / path
            if path in known:
                self._refresh(path, known[path], is_over_limit=False)
            elif whole.is_dir() and not whole.is_symlink():
                needs_scan = needs_scan or path not in ignored
            elif not whole.exists():
                for inner in self._ingest.paths_under(f"{path}/"):
                    self._refresh(inner, None)
            elif path not in ignored:
                is_over = self._ingest.counts.n_files >= self._most_files
                self._refresh(path, None, is_over_limit=is_over)
        self.store.commit()
        return needs_scan

    def overlay(self, path: str, text: str, language: str) -> None:
        """Index an open document instead of its file."""
        opened = self._open.get(path)
        if opened is None:
            opened = self._open[path] = OpenText("", language, self._ingest.hashes_of(path))
        opened.text, opened.language = text, language
        reason = screen_path(path, len(text))
        if reason is None and (self.root.path / path).is_symlink():
            reason = SkipReason.LINK
        is_new = not self._ingest.known_of([path])
        if reason is None and self._listing.is_excluded(path):
            reason = SkipReason.EXCLUDED
        reason = reason or screen_text(path, text)
        is_ignored = is_new and path in self._listing.ignored([path])
        if is_ignored or self._is_foreign(path):
            return
        state = FileState(len(text), OVERLAID)
        self.store.begin()
        if reason is not None:
            self._ingest.skip(path, state, reason)
        else:
            # An editor's id for a language we know by the file's name may be one we do not know.
            named = language_of(path)
            language = language if named == "plaintext" else named
            opened.hashes = self._ingest.put(path, state, text, language, opened.hashes)
        self.store.commit()

    def _is_foreign(self, path: str) -> bool:
        """Whether a file lies in another folder of the workspace, or out of this one by a link."""
        parent = (self.root.path / path).parent.resolve()
        return path.startswith(self._inner or "\0") or not parent.is_relative_to(self.root.path)

    def uncover(self, path: str) -> None:
        """Go back to the file: the document was closed."""
        if path in self._open:
            self.store.begin()
            for known_path, known in self._ingest.known_of([path]).items():
                self._refresh(known_path, known)
            self.store.commit()
            del self._open[path]

    # --- what goes wrong ---

    def recover(self, error: sqlite3.Error) -> None:
        """Have an empty store again, on disk only if it was damage that spoilt the present one."""
        self._n_hashed_before += self._ingest.counts.n_hashed
        path = self._path if is_damage(error) else None
        what = "was damaged and is made anew" if path else "is kept in memory"
        self._warn(f"the workspace index of {self.root.path} {what}: {error}")
        old = self.store
        self._path = None  # the next time it is in memory
        try:
            old.close()
            if path is not None:
                remove(path)
        except (sqlite3.Error, OSError) as problem:
            log.info("the damaged index could not be put away: %s", problem)
        self.store = open_store(path, self._warn)
        self._ingest = Ingest(self.store)
        for opened_path, opened in list(self._open.items()):
            self.overlay(opened_path, opened.text, opened.language)

    def close(self) -> None:
        try:
            self.store.commit()
        except sqlite3.Error as error:
            log.info("the last changes of the index are lost: %s", error)
        self.store.close()


_SURROUNDINGS = frozenset(
    reason.value.encode()
    for reason in (
        SkipReason.LINK,
        SkipReason.EXCLUDED,
        SkipReason.UNREADABLE,
        SkipReason.OVER_LIMIT,
    )
)
