"""`flash-lsp index`: what of a folder is indexed, what is not, and why."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from engine.errors import RequestError
from lsp_server.cli_options import Commands, positive
from lsp_server.workspace import IndexOptions, IndexStatus, WorkspaceIndex
from lsp_server.workspace.index import DEFAULT_MAX_FILES

_POLL_S = 0.05
_MOST_EXAMPLES = 5


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "index",
        help="index a folder and say what is left out and why",
        description="Indexes a folder as the server does, into the same file, and says what is "
        "indexed, what is not, and why. Ignored files are not even listed.",
    )
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="default: .")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="a .gitignore pattern more"
    )
    parser.add_argument("--max-files", type=positive, default=DEFAULT_MAX_FILES, metavar="N")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    if not folder.is_dir():
        raise RequestError(f"'{folder}' is no folder; name one, or none for the current one")
    options = IndexOptions(exclude=tuple(args.exclude), max_files=args.max_files)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True), disable=args.json) as progress:
        task = progress.add_task("indexing", total=1.0)

        def show_status(status: IndexStatus) -> None:
            description = f"indexing: {status.n_files} files"
            progress.update(task, completed=status.fraction, description=description)

        report = asyncio.run(examine(folder, options, show_status))
    if args.json:
        print(msgspec.json.encode(report).decode())
    else:
        show(report)
    return 0


async def examine(
    folder: Path, options: IndexOptions, on_status: Callable[[IndexStatus], None]
) -> dict[str, Any]:
    """Index a folder; returns the JSON that programs may rely on; keys are only ever added."""
    index = WorkspaceIndex(options)
    began_s = monotonic()
    await index.start([folder.resolve().as_uri()])
    try:
        while (status := index.status()).is_building:
            on_status(status)
            await asyncio.sleep(_POLL_S)
        elapsed_s = monotonic() - began_s
        files, skipped = index.files(), index.skipped()
    finally:
        await index.stop()
    return {
        "folder": str(folder.resolve()),
        "files": status.n_files,
        "chunks": status.n_chunks,
        "chunks_rehashed": status.n_chunks_rehashed,
        "bytes_on_disk": status.bytes_on_disk,
        "elapsed_s": round(elapsed_s, 3),
        "languages": dict(Counter(file.language for file in files).most_common()),
        "indexed": [msgspec.to_builtins(file) for file in files],
        "skipped": [{"path": file.path, "reason": file.reason.value} for file in skipped],
        "warnings": list(status.warnings),
    }


def show(report: dict[str, Any]) -> None:
    console = Console(highlight=False, markup=False)
    languages = Table("language", "files", "chunks")
    chunks: Counter[str] = Counter()
    for file in report["indexed"]:
        chunks[file["language"]] += file["n_chunks"]
    for language, n_files in report["languages"].items():
        languages.add_row(language, str(n_files), str(chunks[language]))
    console.print(languages)
    if report["skipped"]:
        console.print(_skipped_table(report["skipped"]))
    console.print(
        f"{report['files']} files in {report['chunks']} chunks, "
        f"{report['bytes_on_disk'] / 2**20:.1f} MiB on disk, {report['elapsed_s']:.1f} s; "
        f"{report['chunks_rehashed']} chunks were new"
    )
    for warning in report["warnings"]:
        console.print(f"warning: {warning}")


def _skipped_table(skipped: list[dict[str, str]]) -> Table:
    by_reason: dict[str, list[str]] = {}
    for file in skipped:
        by_reason.setdefault(file["reason"], []).append(file["path"])
    table = Table("not indexed", "files", "such as")
    for reason, paths in sorted(by_reason.items()):
        examples = paths[:_MOST_EXAMPLES] + (["..."] if len(paths) > _MOST_EXAMPLES else [])
        table.add_row(reason, str(len(paths)), "\n".join(examples))
    return table
