"""Which chunks may help at a cursor, best first: by names, by imports and by where people work.

Every part is bounded, so that a search takes a few milliseconds however large the folder is:
identifiers that thousands of chunks have are not searched for, since they tell none apart. A name
that the current document does not define is looked up among the definitions; one that it imports
is looked up in the very file. Full-text search (SQLite FTS5, "The bm25() function") finds what
else has the identifiers near the cursor.
"""

import math
import posixpath
from collections.abc import Iterable, Sequence

import msgspec

from lsp_server.workspace.file_types import family_of, language_of
from lsp_server.workspace.identifiers import is_telling, occurrences, terms_of_name
from lsp_server.workspace.imports import Import, imports_of
from lsp_server.workspace.ingest import text_of
from lsp_server.workspace.records import Candidate, Chunk, CursorQuery, Signature
from lsp_server.workspace.roots import Place, Root, locate
from lsp_server.workspace.store import CHUNK_BITS, Row, Store
from lsp_server.workspace.symbols import symbols_of

# How far around the cursor identifiers are read, and how fast they lose weight with distance.
_CHARS_BEFORE, _CHARS_AFTER = 3000, 1200
_HALF_CHARS = 500.0
_AFTER_WEIGHT = 0.7  # what follows the cursor tells a little less
_MOST_NAMES = 48
_DEFINED_HERE = 0.25
_WORD_WEIGHT = 0.3  # of a word of an identifier, next to the whole

_MOST_COUNTED = 24  # terms whose frequency is looked up
_MOST_TERMS = 10  # terms that are searched for
_MOST_ROWS = 150  # chunks a searched term may have
_LEAST_PREFIX_CHARS = 3
_MOST_PREFIXED = 12
_MOST_DEFINITIONS = 24  # of one name; more is no name to look up
_MOST_IMPORTS = 64
_MOST_FOLDER_FILES = 200
_MOST_OPENING_FILES = 6  # files of which the beginning is offered though nothing in it matched

# What a reason is worth. A definition of the name right at the cursor outweighs all but another.
_DEFINES, _IMPORTED_NAME, _IMPORTED_DEFINES = 3.0, 1.0, 1.6
_IMPORTED, _TEXT, _OPEN, _RECENT, _FOLDER = 0.4, 1.0, 0.35, 0.4, 0.15
_OTHER_LANGUAGE = 0.4
_AMBIGUOUS = 0.35  # of a definition when an imported file has another of the same name


class _Hit(msgspec.Struct):
    """What speaks for a chunk so far."""

    score: float = 0.0
    text_score: float = 0.0
    reasons: list[tuple[float, str]] = []

    def add(self, score: float, reason: str) -> None:
        self.score += score
        self.reasons.append((score, reason))


class _Cursor(msgspec.Struct, frozen=True):
    """What a query says, read once for all folders: weights of the names near the cursor, the word
    being typed, and what the document defines and imports."""

    names: dict[str, float]
    prefix: str
    defined: frozenset[str]
    imports: list[Import]
    family: str


def rank(
    shelves: Sequence[tuple[Root, Store]], query: CursorQuery, max_chunks: int
) -> list[Candidate]:
    """Find chunks of other files for a cursor, best first. Raises sqlite3.Error."""
    place = locate([root for root, _ in shelves], query.uri)
    cursor = _read(query, place.relative if place is not None else query.uri)
    hits: list[tuple[float, _Hit, int, int]] = []
    for n, (root, store) in enumerate(shelves):
        inside = place.relative if place is not None and place.root is root else None
        ranked = _Ranking(root, store, query, cursor, inside)
        hits += [(_total(hit), hit, n, chunk_id) for chunk_id, hit in ranked.hits().items()]
    hits.sort(key=lambda found: (-found[0], found[2], found[3]))
    return _candidates(shelves, hits, max_chunks)


def signatures(
    shelves: Sequence[tuple[Root, Store]], names: Iterable[str], exclude: Place | None
) -> list[Signature]:
    """Where names are defined, in the order of the names; up to a few places for each."""
    found: list[Signature] = []
    for name in dict.fromkeys(names):
        for root, store in shelves:
            rows = store.read(
                "select f.path, c.first_line + s.line, s.signature from symbols s"
                " join chunks c on c.id = s.chunk_id join files f on f.id = s.chunk_id >> ?"
                " where s.name = ? order by f.path, 2 limit ?",
                (CHUNK_BITS, name, _MOST_DEFINITIONS),
            )
            is_own = exclude is not None and exclude.root is root
            found += [
                Signature(name, root.prefix + path, line, text)
                for path, line, text in rows
                if not (is_own and exclude is not None and path == exclude.relative)
            ]
    return found


def _read(query: CursorQuery, path: str) -> _Cursor:
    language = query.language
    if (named := language_of(path)) != "plaintext":
        language = named
    text, offset = query.text, min(max(query.offset, 0), len(query.text))
    start = offset
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    prefix = text[start:offset]
    names: dict[str, float] = {}
    for found in occurrences(text, max(0, offset - _CHARS_BEFORE), offset + _CHARS_AFTER):
        if found.start == start and prefix:
            continue  # half a word
        distance = offset - found.start if found.start < offset else found.start - offset
        weight = 0.5 ** (distance / _HALF_CHARS) * (1.0 if found.start < offset else _AFTER_WEIGHT)
        names[found.name] = max(names.get(found.name, 0.0), weight)
    defined = frozenset(symbol.name for symbol in symbols_of(text, language))
    for name in names:
        if name in defined:
            names[name] *= _DEFINED_HERE
    near = sorted(names, key=lambda name: -names[name])[:_MOST_NAMES]
    return _Cursor(
        names={name: names[name] for name in near},
        prefix=prefix if len(prefix) >= _LEAST_PREFIX_CHARS else "",
        defined=defined,
        imports=imports_of(text, language, path)[:_MOST_IMPORTS],
        family=family_of(language),
    )


class _Ranking:
    """One search in one folder; `inside` is the document's path if it lies there."""

    def __init__(
        self, root: Root, store: Store, query: CursorQuery, cursor: _Cursor, inside: str | None
    ) -> None:
        self._root, self._store, self._query, self._cursor = root, store, query, cursor
        self._inside = inside
        self._hits: dict[int, _Hit] = {}
        self._own = self._file_id(inside) if inside is not None else None
        self._imported: dict[int, set[str]] = {}

    def hits(self) -> dict[int, _Hit]:
        self._find_imported()
        self._find_definitions()
        self._find_text()
        self._weigh_files()
        return self._hits

    def _hit(self, chunk_id: int) -> _Hit | None:
        """The chunk's entry; none for the document itself, which is shown anyway."""
        if chunk_id >> CHUNK_BITS == self._own:
            return None
        if (hit := self._hits.get(chunk_id)) is None:
            hit = self._hits[chunk_id] = _Hit(reasons=[])
        return hit

    def _file_id(self, path: str) -> int | None:
        rows = self._store.read("select id from files where path = ? and skipped is null", (path,))
        return rows[0][0] if rows else None

    # --- imports ---

    def _find_imported(self) -> None:
        for one in self._cursor.imports:
            for file_id in self._resolve(one):
                self._imported.setdefault(file_id, set()).update(one.names)
        self._imported.pop(self._own or 0, None)

    def _resolve(self, one: Import) -> list[int]:
        """The files an import means: of the first path that any file has."""
        for path in one.paths:
            rows = self._files_at(path, is_exact=one.is_exact)
            if path.endswith("/*") or path == "*":
                if rows:
                    return [file_id for file_id, _ in rows]
            elif rows:
                return [max(rows, key=lambda row: (self._nearness(row[1]), -len(row[1])))[0]]
        return []

    def _files_at(self, path: str, *, is_exact: bool) -> list[tuple[int, str]]:
        folder, _, name = path.rpartition("/")
        select = "select id, path from files where skipped is null and "
        if name == "*":
            if is_exact:
                statement, values = "folder = ? limit ?", (folder, _MOST_FOLDER_FILES)
            else:
                last = folder.rpartition("/")[2]
                statement = "tail >= ? and tail < ? limit ?"
                values = (f"{last}/", f"{last}0", _MOST_FOLDER_FILES)
        elif is_exact:
            statement, values = "path = ?", (path,)
        elif folder:
            tail = "/".join(path.split("/")[-2:])
            statement, values = "tail = ? limit ?", (tail, _MOST_FOLDER_FILES)
        else:
            statement, values = "name = ? limit ?", (name, _MOST_FOLDER_FILES)
        rows = [(row[0], row[1]) for row in self._store.read(select + statement, values)]
        if is_exact:
            return rows
        if name == "*":
            return [row for row in rows if f"/{posixpath.dirname(row[1])}".endswith(f"/{folder}")]
        return [row for row in rows if f"/{row[1]}".endswith(f"/{path}")]

    def _nearness(self, path: str) -> int:
        """How many folders a file shares with the document."""
        mine = (self._inside or "").split("/")[:-1]
        theirs = path.split("/")[:-1]
        return next(
            (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b),
            min(len(mine), len(theirs)),
        )

    # --- definitions ---

    def _find_definitions(self) -> None:
        wanted = {n: w for n, w in self._cursor.names.items() if n not in self._cursor.defined}
        for names in self._imported.values():
            for name in names:
                wanted[name] = max(wanted.get(name, 0.0), 0.02)
        for name, weight in wanted.items():
            rows = self._store.read(
                "select chunk_id from symbols where name = ? limit ?", (name, _MOST_DEFINITIONS + 1)
            )
            if len(rows) <= _MOST_DEFINITIONS:
                self._score_definitions(name, weight, [chunk_id for (chunk_id,) in rows])
            else:
                self._score_definitions(name, weight, self._in_imported(name))
        if self._cursor.prefix:
            self._find_prefixed()

    def _in_imported(self, name: str) -> list[int]:
        statement = "select chunk_id from symbols where name = ? and chunk_id between ? and ?"
        return [
            chunk_id
            for file_id in self._imported
            for (chunk_id,) in self._store.read(
                statement, (name, file_id << CHUNK_BITS, ((file_id + 1) << CHUNK_BITS) - 1)
            )
        ]

    def _score_definitions(self, name: str, weight: float, chunk_ids: Sequence[int]) -> None:
        in_imported = {id for id in chunk_ids if id >> CHUNK_BITS in self._imported}
        rarity = 1.0 / math.sqrt(max(len(in_imported) or len(chunk_ids), 1))
        for chunk_id in dict.fromkeys(chunk_ids):
            if (hit := self._hit(chunk_id)) is None:
                continue
            score = _DEFINES * weight * rarity
            if chunk_id in in_imported:
                score *= _IMPORTED_DEFINES
                if name in self._imported[chunk_id >> CHUNK_BITS]:
                    score += _IMPORTED_NAME
            elif in_imported:
                score *= _AMBIGUOUS
            hit.add(score, f"defines {name}")

    def _find_prefixed(self) -> None:
        prefix = self._cursor.prefix
        rows = self._store.read(
            "select distinct name, chunk_id from symbols where name >= ? and name < ? limit ?",
            (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1), _MOST_PREFIXED),
        )
        for name, chunk_id in rows:
            self._score_definitions(name, 1.0 / math.sqrt(len(rows)), [chunk_id])

    # --- text ---

    def _find_text(self) -> None:
        weights: dict[str, tuple[float, str]] = {}
        for name, weight in self._cursor.names.items():
            for n, term in enumerate(terms_of_name(name)):
                scaled = weight if n == 0 else weight * _WORD_WEIGHT
                if is_telling(term) and scaled > weights.get(term, (0.0, ""))[0]:
                    weights[term] = (scaled, name)
        likely = sorted(weights, key=lambda term: -weights[term][0])[:_MOST_COUNTED]
        counted = {term: self._count(term) for term in likely}
        rare = [term for term in likely if 0 < counted[term] <= _MOST_ROWS]
        rare.sort(key=lambda term: -weights[term][0] / math.log2(2 + counted[term]))
        for term in rare[:_MOST_TERMS]:
            weight, name = weights[term]
            rows = self._store.read(
                "select rowid, bm25(terms) from terms where terms match ?", (f'"{term}"',)
            )
            for chunk_id, bm25 in rows:
                if (hit := self._hit(chunk_id)) is not None:
                    share = weight * -bm25
                    hit.text_score += share
                    hit.reasons.append((share * 0.05, f"mentions {name}"))

    def _count(self, term: str) -> int:
        """How many chunks have a term, as far as it matters."""
        statement = "select count(*) from (select 1 from terms where terms match ? limit ?)"
        return self._store.read(statement, (f'"{term}"', _MOST_ROWS + 1))[0][0]

    # --- where people work ---

    def _weigh_files(self) -> None:
        """Raise what lies in files that are imported, open, edited lately or near."""
        bonuses: dict[int, list[tuple[float, str]]] = {}
        opening: list[int] = []
        for n, uri in enumerate(self._query.recent_uris[:8]):
            if (file_id := self._id_of_uri(uri)) is not None:
                bonuses.setdefault(file_id, []).append((_RECENT * 0.8**n, "recent edit"))
                opening.append(file_id)
        for uri in self._query.open_uris[:32]:
            if (file_id := self._id_of_uri(uri)) is not None:
                bonuses.setdefault(file_id, []).append((_OPEN, "open tab"))
                opening.append(file_id)
        for file_id in self._imported:
            bonuses.setdefault(file_id, []).append((_IMPORTED, "imported"))
            opening.append(file_id)
        if self._inside is not None:
            rows = self._store.read(
                "select id from files where folder = ? and skipped is null limit ?",
                (posixpath.dirname(self._inside), _MOST_FOLDER_FILES),
            )
            for (file_id,) in rows:
                bonuses.setdefault(file_id, []).append((_FOLDER, "same folder"))
                opening.append(file_id)
        self._open_files(dict.fromkeys(opening))
        for chunk_id, hit in self._hits.items():
            for score, reason in bonuses.get(chunk_id >> CHUNK_BITS, ()):
                hit.add(score, reason)
        self._weigh_languages()

    def _open_files(self, file_ids: Iterable[int]) -> None:
        """Take in the beginnings of files in which nothing has matched."""
        matched = {chunk_id >> CHUNK_BITS for chunk_id in self._hits}
        fresh = [file_id for file_id in file_ids if file_id not in matched]
        for file_id in fresh[:_MOST_OPENING_FILES]:
            rows = self._store.read(
                "select id from chunks where id between ? and ? order by first_line limit 1",
                (file_id << CHUNK_BITS, ((file_id + 1) << CHUNK_BITS) - 1),
            )
            for (chunk_id,) in rows:
                self._hit(chunk_id)

    def _id_of_uri(self, uri: str) -> int | None:
        place = locate([self._root], uri) if uri != self._query.uri else None
        return self._file_id(place.relative) if place is not None else None

    def _weigh_languages(self) -> None:
        """Lower what is written in another language than the document."""
        file_ids = {chunk_id >> CHUNK_BITS for chunk_id in self._hits}
        marks = ",".join("?" * len(file_ids))
        statement = f"select id, language from files where id in ({marks})"
        language_of_file = dict(self._store.read(statement, tuple(file_ids)))
        for chunk_id, hit in self._hits.items():
            language = language_of_file.get(chunk_id >> CHUNK_BITS, "")
            if family_of(language) != self._cursor.family:
                hit.score *= _OTHER_LANGUAGE
                hit.text_score *= _OTHER_LANGUAGE


def _total(hit: _Hit) -> float:
    # Text alone never outweighs a definition: it grows towards its worth, not beyond.
    return hit.score + _TEXT * hit.text_score / (hit.text_score + 8.0)


def _candidates(
    shelves: Sequence[tuple[Root, Store]],
    hits: Sequence[tuple[float, _Hit, int, int]],
    max_chunks: int,
) -> list[Candidate]:
    """Read the best chunks; of several with the same text, the first."""
    found: list[Candidate] = []
    seen: set[bytes] = set()
    for score, hit, n, chunk_id in hits:
        if len(found) >= max_chunks:
            break
        root, store = shelves[n]
        rows = store.read(f"{_CHUNKS} where c.id = ?", (CHUNK_BITS, chunk_id))
        for chunk in (_chunk(root, row) for row in rows):
            if chunk.content_hash not in seen:
                seen.add(chunk.content_hash)
                found.append(Candidate(chunk, score, _reasons(hit)))
    return found


def chunks_of_files(
    shelves: Sequence[tuple[Root, Store]], paths: Iterable[str], max_chunks: int
) -> list[Chunk]:
    """The chunks of files named by their paths, in that order and by line. Raises sqlite3.Error."""
    found: list[Chunk] = []
    for path in paths:
        for root, store in shelves:
            if len(found) >= max_chunks or not path.startswith(root.prefix):
                continue
            rows = store.read(
                f"{_CHUNKS} where f.path = ? and c.id between f.id << ? and"
                " ((f.id + 1) << ?) - 1 order by c.first_line limit ?",
                (
                    *(CHUNK_BITS, path.removeprefix(root.prefix)),
                    *(CHUNK_BITS, CHUNK_BITS, max_chunks - len(found)),
                ),
            )
            found += [_chunk(root, row) for row in rows]
    return found


_CHUNKS = (
    "select f.path, f.language, c.first_line, c.n_lines, c.hash, c.text"
    " from chunks c join files f on f.id = c.id >> ?"
)


def _chunk(root: Root, row: Row) -> Chunk:
    path, language, first_line, n_lines, digest, deflated = row
    return Chunk(
        path=root.prefix + path,
        uri=root.uri_of(path),
        first_line=first_line,
        n_lines=n_lines,
        text=text_of(deflated),
        content_hash=digest,
        language=language,
    )


def _reasons(hit: _Hit) -> tuple[str, ...]:
    best = sorted(hit.reasons, key=lambda reason: -reason[0])
    return tuple(dict.fromkeys(reason for _, reason in best))[:6]
