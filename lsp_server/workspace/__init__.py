"""What lies in the workspace's folders: an index of chunks and definitions, asked at a cursor."""

from lsp_server.workspace.index import IndexOptions, WorkspaceIndex
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

__all__ = [
    "Candidate",
    "Chunk",
    "CursorQuery",
    "IndexOptions",
    "IndexStatus",
    "IndexedFile",
    "Signature",
    "SkipReason",
    "SkippedFile",
    "WorkspaceIndex",
]
