"""The plain data the workspace index answers with, and what it is asked. Nothing here reads a file.

Lines count from zero. Paths are relative to their folder, with "/" between the parts, and begin
with the folder's name where several folders are open.
"""

from enum import StrEnum

import msgspec


class SkipReason(StrEnum):
    """Why a file is not in the index."""

    SECRET = "secret"
    BINARY = "binary"
    GENERATED = "generated"
    HUGE = "huge"
    DATA = "data"
    LINK = "link"
    EXCLUDED = "excluded"
    UNREADABLE = "unreadable"
    OVER_LIMIT = "over-limit"


class Chunk(msgspec.Struct, frozen=True):
    """Whole lines of a file, cut where a definition or paragraph begins.

    `text` has the file's own line ends; `content_hash` is the 16-byte BLAKE2b of it in UTF-8.
    """

    path: str
    uri: str
    first_line: int
    n_lines: int
    text: str
    content_hash: bytes
    language: str


class Candidate(msgspec.Struct, frozen=True):
    """A chunk that may help at the cursor, and in short words why."""

    chunk: Chunk
    score: float
    reasons: tuple[str, ...]


class CursorQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Where help is wanted: `offset` is the cursor's index in `text`, the whole document.

    `recent_uris` are the documents edited lately, newest first.
    """

    uri: str
    text: str
    offset: int
    language: str = ""
    open_uris: tuple[str, ...] = ()
    recent_uris: tuple[str, ...] = ()


class Signature(msgspec.Struct, frozen=True):
    """Where a name is defined, and the head of the definition."""

    name: str
    path: str
    line: int
    text: str


class SkippedFile(msgspec.Struct, frozen=True):
    path: str
    reason: SkipReason


class IndexedFile(msgspec.Struct, frozen=True):
    path: str
    language: str
    n_chunks: int


class IndexStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far the index is. `n_skipped` counts by reason; `fraction` is of the present build.

    `n_chunks_rehashed` counts chunks hashed since the start: unchanged files and unchanged chunks
    of an edited document add nothing to it. `warnings` say what went wrong and was worked around.
    """

    n_files: int = 0
    n_chunks: int = 0
    n_skipped: dict[str, int] = {}
    is_building: bool = False
    fraction: float = 1.0
    n_chunks_rehashed: int = 0
    bytes_on_disk: int = 0
    warnings: tuple[str, ...] = ()
