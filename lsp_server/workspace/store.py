"""One folder's index in one SQLite file: its schema, and how a broken, full or locked one is met.

The file is a cache: whatever is wrong with it, it is made anew, and where that fails the index
lives in memory. One thread writes; others read through `read`, which never waits for the writer
of a file (SQLite, "Write-Ahead Logging").

A chunk's id holds its file's in the upper bits, so that neither is looked up to find the other.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

# Counted up with the tables, and with anything that changes what is stored of the same text:
# deleting from the full-text table needs the very terms that were inserted.
SCHEMA_VERSION = 1
CHUNK_BITS = 20
_BUSY_TIMEOUT_S = 2.0

_SCHEMA = """
create table files (
    id integer primary key,
    path text not null unique,
    name text not null,      -- the path's last part
    tail text not null,      -- its last two parts
    folder text not null,
    n_bytes integer not null,
    mtime_ns integer not null,  -- -1: the text is an open document's, not the file's
    hash blob not null,
    language text not null,
    skipped text             -- why it has no chunks
);
create index files_name on files (name);
create index files_tail on files (tail);
create index files_folder on files (folder);
create table chunks (
    id integer primary key,  -- file id << 20 | number in the file, in no order
    first_line integer not null,
    n_lines integer not null,
    hash blob not null,
    text blob not null       -- UTF-8, deflated
);
create table symbols (
    name text not null,
    chunk_id integer not null,
    line integer not null,   -- in the chunk
    kind text not null,
    signature text not null,
    primary key (name, chunk_id, line)
) without rowid;
create index symbols_chunk on symbols (chunk_id);
create virtual table terms using fts5 (words, content='', tokenize="ascii tokenchars '_'");
"""

Row = tuple[Any, ...]


class Store:
    """The tables of one folder. `path` is None where they are in memory."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the file. Raises sqlite3.Error, OSError, filelock.Timeout."""
        self.path = path
        self._lock: FileLock | None = None
        self._reading = threading.RLock()
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)
            self._lock.acquire()
        try:
            self.writer = self._connect()
            self._reader = self.writer if path is None else self._connect()
        except BaseException:
            self._release()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path or ":memory:",
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Ask, from any thread. Raises sqlite3.Error."""
        with self._reading:
            return self._reader.execute(statement, values).fetchall()

    def write(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Ask or change, from the writing thread only. Raises sqlite3.Error."""
        if self._reader is not self.writer:
            return self.writer.execute(statement, values).fetchall()
        with self._reading:
            return self.writer.execute(statement, values).fetchall()

    def write_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Change with every one of `rows`, from the writing thread only. Raises sqlite3.Error."""
        if self._reader is not self.writer:
            self.writer.executemany(statement, rows)
            return
        with self._reading:
            self.writer.executemany(statement, rows)

    def begin(self) -> None:
        if not self.writer.in_transaction:
            self.write("begin")

    def commit(self) -> None:
        if self.writer.in_transaction:
            self.write("commit")

    def check(self) -> None:
        """Read through the whole file. Raises sqlite3.DatabaseError if it is damaged."""
        said = self.write("pragma quick_check(1)")
        if said != [("ok",)]:
            raise sqlite3.DatabaseError(f"quick_check says {said[0][0]}")

    @property
    def bytes_on_disk(self) -> int:
        if self.path is None:
            return 0
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        with self._reading:
            for connection in {self.writer, self._reader}:
                connection.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()


def open_store(path: Path | None, warn: Callable[[str], None]) -> Store:
    """Open a folder's index: a broken file is made anew, without a usable one it is in memory."""
    if path is None:
        return Store(None)
    try:
        try:
            return Store(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            warn(f"the workspace index was damaged and is made anew: {error}")
            remove(path)
            return Store(path)
    except Timeout:
        warn("another server has this folder's index open: this one keeps its own in memory")
    except (sqlite3.Error, OSError) as error:
        warn(f"the workspace index is kept in memory: {path}: {error}")
    return Store(None)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file's content is wrong; others are of its surroundings."""
    surroundings = (sqlite3.OperationalError, sqlite3.ProgrammingError)
    is_missing = str(error).startswith(("no such table", "no such column"))
    return is_missing or (
        isinstance(error, sqlite3.DatabaseError) and not isinstance(error, surroundings)
    )


def remove(path: Path) -> None:
    """Delete an index's files, if they are there. Raises OSError."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.executescript(
        """pragma journal_mode = wal; pragma synchronous = normal; pragma temp_store = memory;
        pragma cache_size = -16000; pragma mmap_size = 268435456; pragma secure_delete = off;
        pragma wal_autocheckpoint = 2000;"""
    )
    [(version,)] = connection.execute("pragma user_version").fetchall()
    if version != SCHEMA_VERSION:
        _make_tables(connection)
    # A file that is no database, or one that was cut short, says so here and not at a keystroke.
    for table in ("files", "chunks", "symbols", "terms"):
        connection.execute(
            f"select rowid from {table} limit 1"
            if table != "symbols"
            else "select name from symbols limit 1"
        ).fetchall()


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables in place of whatever another version left."""
    connection.execute("begin immediate")
    found = connection.execute("select type, name from sqlite_master").fetchall()
    for table in ("terms", "symbols", "chunks", "files"):
        if ("table", table) in found:
            connection.execute(f"drop table {table}")
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("insert into terms (terms, rank) values ('automerge', 8)")
    connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
    connection.execute("commit")


def forget_unused(folder: Path, older_than_s: float, now_s: float) -> None:
    """Delete indexes nobody has opened for long; what cannot be deleted stays."""
    for path in folder.glob("*.db"):
        try:
            if now_s - path.stat().st_mtime > older_than_s:
                with FileLock(f"{path}.lock", timeout=0):
                    remove(path)
                os.unlink(f"{path}.lock")
        except (OSError, Timeout) as error:
            log.debug("the old index %s stays: %s", path, error)
