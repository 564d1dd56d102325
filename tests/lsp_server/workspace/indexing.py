"""Small workspaces on disk and indexes of them, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lsp_server.workspace import CursorQuery, IndexOptions, WorkspaceIndex

MARK = "‸"


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)


async def built(index: WorkspaceIndex) -> None:
    await until(lambda: not index.status().is_building)


@asynccontextmanager
async def indexed(*folders: Path, cache: Path, **options: Any) -> AsyncIterator[WorkspaceIndex]:
    """An index of these folders, built."""
    index = WorkspaceIndex(IndexOptions(cache_dir=cache, **options))
    await index.start([folder.as_uri() for folder in folders])
    try:
        await built(index)
        yield index
    finally:
        await index.stop()


def query_at(folder: Path, path: str, marked: str, **more: Any) -> CursorQuery:
    """A query where the mark stands in a document's text."""
    offset = marked.index(MARK)
    text = marked.replace(MARK, "")
    return CursorQuery(uri=(folder / path).as_uri(), text=text, offset=offset, **more)
