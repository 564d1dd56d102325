"""Writes files into a store: what changed of them, and nothing else.

Runs on the one thread that writes. A chunk whose text is unchanged keeps its row, its terms and its
symbols, wherever its lines have moved.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from lsp_server.workspace.chunking import ChunkSpan, chunks_of, content_hash
from lsp_server.workspace.identifiers import terms_of_text
from lsp_server.workspace.records import SkipReason
from lsp_server.workspace.store import CHUNK_BITS, Row, Store
from lsp_server.workspace.symbols import symbols_of

_DEFLATE_LEVEL = 1
OVERLAID = -1  # mtime of a file whose text is an open document's


class FileState(msgspec.Struct, frozen=True):
    """What is known of a file on disk."""

    n_bytes: int
    mtime_ns: int
    hash: bytes = b""


class Counts:
    """How much a store holds, kept beside it so that nobody has to count. `n_hashed` only grows."""

    def __init__(self, store: Store) -> None:
        self.n_hashed = 0
        self.n_skipped: dict[str, int] = {}
        [(self.n_files,)] = store.read("select count(*) from files where skipped is null")
        [(self.n_chunks,)] = store.read("select count(*) from chunks")
        grouped = store.read(
            "select skipped, count(*) from files where skipped is not null group by 1"
        )
        self.n_skipped.update(grouped)

    def count_file(self, skipped: str | None, n: int) -> None:
        if skipped is None:
            self.n_files += n
        else:
            self.n_skipped[skipped] = self.n_skipped.get(skipped, 0) + n
            if not self.n_skipped[skipped]:
                del self.n_skipped[skipped]


class Ingest:
    """Changes one store, inside the caller's transactions. Everything may raise sqlite3.Error."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts = Counts(store)

    def known(self) -> dict[str, FileState]:
        """What the store holds of every file."""
        rows = self.store.write("select path, n_bytes, mtime_ns, hash from files")
        return {path: FileState(*rest) for path, *rest in rows}

    def known_of(self, paths: Sequence[str]) -> dict[str, FileState]:
        """What the store holds of these files; those it does not know are left out."""
        found: dict[str, FileState] = {}
        statement = "select n_bytes, mtime_ns, hash from files where path = ?"
        for path in paths:
            for row in self.store.write(statement, (path,)):
                found[path] = FileState(*row)
        return found

    def hashes_of(self, path: str) -> dict[str, bytes]:
        """The hashes of a known file's chunks by their texts."""
        file_id, row = self._file(path)
        first = file_id << CHUNK_BITS
        last = first | ((1 << CHUNK_BITS) - 1)
        statement = "select text, hash from chunks where id between ? and ?"
        rows = self.store.write(statement, (first, last)) if row is not None else []
        return {text_of(deflated): digest for deflated, digest in rows}

    def tidy(self) -> None:
        """Merge a little of what many insertions have left, so that searches stay quick."""
        self.store.write("insert into terms (terms, rank) values ('merge', 200)")

    def touch(self, path: str, state: FileState) -> None:
        """Note a file's new time: its content is what it was."""
        self.store.write(
            "update files set n_bytes = ?, mtime_ns = ? where path = ?",
            (state.n_bytes, state.mtime_ns, path),
        )

    def skip(self, path: str, state: FileState, reason: SkipReason) -> None:
        """Note a file that is not indexed, and drop what was."""
        file_id, row = self._file(path)
        if row is not None:
            self._delete_chunks(file_id, self._chunk_rows(file_id))
        self._put_file(file_id, row, path, state, "", reason.value)

    def put(
        self,
        path: str,
        state: FileState,
        text: str,
        language: str,
        known_hashes: dict[str, bytes] | None = None,
    ) -> dict[str, bytes]:
        """Index a text; chunks with texts in `known_hashes` are not hashed again.

        Returns the hashes of its chunks by their texts.
        """
        file_id, row = self._file(path)
        old = self._chunk_rows(file_id) if row is not None else []
        if row is not None and row[1] != language:  # other definitions in the same text
            self._delete_chunks(file_id, old)
            old = []
        hashes: dict[str, bytes] = {}
        spans = chunks_of(text)
        for span in spans:
            known = hashes.get(span.text) or (known_hashes or {}).get(span.text)
            if known is None:
                known = content_hash(span.text)
                self.counts.n_hashed += 1
            hashes[span.text] = known
        self._put_file(file_id, row, path, state, language, None)
        self._put_chunks(file_id, language, old, [(hashes[span.text], span) for span in spans])
        return hashes

    def delete(self, path: str) -> None:
        """Forget a file, if it is known."""
        file_id, row = self._file(path)
        if row is not None:
            self._delete_chunks(file_id, self._chunk_rows(file_id))
            self.store.write("delete from files where id = ?", (file_id,))
            self.counts.count_file(row[0], -1)

    def paths_under(self, folder: str) -> list[str]:
        """The known files inside a folder, whose path ends in "/"."""
        rows = self.store.write(
            "select path from files where path >= ? and path < ?", (folder, folder[:-1] + "0")
        )
        return [path for (path,) in rows]

    def _file(self, path: str) -> tuple[int, Row | None]:
        """A file's id, and why it is skipped and its language if it is known."""
        rows = self.store.write("select id, skipped, language from files where path = ?", (path,))
        if rows:
            return rows[0][0], rows[0][1:]
        [(last,)] = self.store.write("select max(id) from files")
        return (last or 0) + 1, None

    def _put_file(
        self,
        file_id: int,
        row: Row | None,
        path: str,
        state: FileState,
        language: str,
        skipped: str | None,
    ) -> None:
        folder, _, name = path.rpartition("/")
        tail = "/".join(path.split("/")[-2:])
        self.store.write(
            "insert or replace into files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(file_id, path, name, tail, folder),
                *(state.n_bytes, state.mtime_ns, state.hash, language, skipped),
            ),
        )
        if row is not None:
            self.counts.count_file(row[0], -1)
        self.counts.count_file(skipped, 1)

    def _chunk_rows(self, file_id: int) -> list[Row]:
        """Id, hash, first line and number of lines of a file's chunks, in order."""
        first = file_id << CHUNK_BITS
        return self.store.write(
            "select id, hash, first_line, n_lines from chunks where id between ? and ? order by 3",
            (first, first | ((1 << CHUNK_BITS) - 1)),
        )

    def _put_chunks(
        self,
        file_id: int,
        language: str,
        old: Sequence[Row],
        new: Sequence[tuple[bytes, ChunkSpan]],
    ) -> None:
        left: dict[bytes, list[Row]] = {}
        for row in reversed(old):
            left.setdefault(row[1], []).append(row)
        moved: list[tuple[int, int]] = []
        fresh: list[tuple[bytes, ChunkSpan]] = []
        for digest, span in new:
            if same := left.get(digest):
                row = same.pop()
                if row[2] != span.first_line:
                    moved.append((span.first_line, row[0]))
            else:
                fresh.append((digest, span))
        gone = [row for rows in left.values() for row in rows]
        if moved:
            self.store.write_many("update chunks set first_line = ? where id = ?", moved)
        taken = {row[0] for row in old} - {row[0] for row in gone}
        self._delete_chunks(file_id, gone)
        self._insert_chunks(file_id, language, taken, fresh)

    def _insert_chunks(
        self,
        file_id: int,
        language: str,
        taken: set[int],
        fresh: Sequence[tuple[bytes, ChunkSpan]],
    ) -> None:
        chunks: list[Row] = []
        terms: list[Row] = []
        symbols: list[Row] = []
        chunk_id = file_id << CHUNK_BITS
        for digest, span in fresh:
            while chunk_id in taken:
                chunk_id += 1
            deflated = zlib.compress(span.text.encode("utf-8", "surrogatepass"), _DEFLATE_LEVEL)
            chunks.append((chunk_id, span.first_line, span.n_lines, digest, deflated))
            terms.append((chunk_id, terms_of_text(span.text)))
            symbols += [
                (found.name, chunk_id, found.line, found.kind, found.signature)
                for found in symbols_of(span.text, language)
            ]
            chunk_id += 1
        if chunks:
            self.store.write_many("insert into chunks values (?, ?, ?, ?, ?)", chunks)
            self.store.write_many("insert into terms (rowid, words) values (?, ?)", terms)
        if symbols:
            statement = "insert or ignore into symbols values (?, ?, ?, ?, ?)"
            self.store.write_many(statement, symbols)
        self.counts.n_chunks += len(chunks)

    def _delete_chunks(self, file_id: int, rows: Sequence[Row]) -> None:
        for chunk_id, *_ in rows:
            [(deflated,)] = self.store.write("select text from chunks where id = ?", (chunk_id,))
            # A table without content is told what to take away.
            self.store.write(
                "insert into terms (terms, rowid, words) values ('delete', ?, ?)",
                (chunk_id, terms_of_text(text_of(deflated))),
            )
            self.store.write("delete from symbols where chunk_id = ?", (chunk_id,))
            self.store.write("delete from chunks where id = ?", (chunk_id,))
        self.counts.n_chunks -= len(rows)


def text_of(deflated: Any) -> str:
    """A chunk's text from what is stored of it."""
    return zlib.decompress(deflated).decode("utf-8", "surrogatepass")
