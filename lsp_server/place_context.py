"""The repository's part of a prompt for a place in a file on disk: for the command line.

Indexes the repository as the server does, into the same file, and waits for it.
"""

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from engine.client import AsyncEngine, InProcessEngine
from engine.config import EngineConfig
from engine.errors import RequestError
from lsp_server.context_choice import Choice
from lsp_server.context_options import ContextOptions
from lsp_server.context_report import ContextReport
from lsp_server.places import input_at
from lsp_server.prompt import CompletionInput
from lsp_server.repository_context import RepositoryContext, Situation
from lsp_server.settings import Settings, merge
from lsp_server.workspace import CursorQuery, IndexOptions, WorkspaceIndex
from lsp_server.workspace.file_types import language_of

_POLL_S = 0.05


async def explain_place(
    path: Path,
    line: int,
    column: int,
    root: Path | None,
    settings_overrides: Mapping[str, Any],
    engine_config: EngineConfig,
) -> ContextReport:
    """What a completion at a place (both counted from 1) would be shown. Raises EngineError."""

    def refuse(message: str) -> None:
        raise RequestError(message)

    options = merge(Settings(), settings_overrides, refuse).context_options
    engine = InProcessEngine(engine_config)
    try:
        await engine.start()
        inp = input_at(path, line, column)
        return (await choose_for(engine, path, inp, root, options)).report
    finally:
        await engine.close()


async def choose_for(
    engine: AsyncEngine,
    path: Path,
    inp: CompletionInput,
    root: Path | None,
    options: ContextOptions,
) -> Choice:
    """Index the repository, then choose for the text around a place. Raises EngineError."""
    path = path.resolve()
    root = (root or repository_of(path)).resolve()
    if not path.is_relative_to(root):
        raise RequestError(f"{path} does not lie in {root}; name the repository it lies in")
    relative = path.relative_to(root).as_posix()
    query = CursorQuery(
        uri=path.as_uri(),
        text=inp.prefix + inp.suffix,
        offset=len(inp.prefix),
        language=language_of(relative),
    )
    index = WorkspaceIndex(IndexOptions())
    await index.start([root.as_uri()])
    try:
        await _built(index)

        async def present() -> AsyncEngine:
            return engine

        context = RepositoryContext(present, lambda: index, lambda: options)
        return await context.choose(Situation(query, relative, root.name))
    finally:
        await index.stop()


def repository_of(path: Path) -> Path:
    """The checkout a file lies in, or its folder."""
    try:
        command = ["git", "-C", str(path.parent), "rev-parse", "--show-toplevel"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return path.parent
    return Path(found.stdout.strip())


async def _built(index: WorkspaceIndex) -> None:
    with Console(stderr=True).status("indexing") as status:
        while (now := index.status()).is_building:
            status.update(f"indexing: {now.n_files} files, {now.fraction:.0%}")
            await asyncio.sleep(_POLL_S)
