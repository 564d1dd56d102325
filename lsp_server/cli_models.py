"""`flash-lsp models`: the known models, downloads, and where files lie."""

import argparse
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from engine import catalogue
from engine.errors import ModelNotFoundError
from lsp_server.cli_options import Commands


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser("models", help="list, fetch and locate models")
    parser.set_defaults(run=run_list, json=False, models_dir=None)
    actions = parser.add_subparsers(metavar="ACTION")
    for name, run, text in (
        ("list", run_list, "known models and whether they are here (default)"),
        ("fetch", run_fetch, "download a model; an interrupted download goes on where it stopped"),
        ("path", run_path, "print where a model's file lies"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        if run is run_list:
            action.add_argument("--json", action="store_true", help="print JSON for programs")
        else:
            default = catalogue.DEFAULT_MODEL
            action.add_argument("name", nargs="?", default=default, help="default: %(default)s")
        action.add_argument("--models-dir", metavar="DIR", help="where downloaded models lie")
        action.set_defaults(run=run)


def run_list(args: argparse.Namespace) -> int:
    rows = [describe(entry, _directory(args)) for entry in catalogue.entries()]
    if args.json:
        print(msgspec.json.encode({"models": rows}).decode())
        return 0
    table = Table("model", "size", "licence", "fill", Column("file", overflow="fold"))
    for row in rows:
        is_default = row["name"] == catalogue.DEFAULT_MODEL
        table.add_row(
            row["name"] + ("\n(default)" if is_default else ""),
            f"{row['bytes'] / 1e6:.0f} MB",
            row["licence"],
            "yes" if row["fim"] else "no",
            row["path"] or f"not here; run: flash-lsp models fetch {row['name']}",
        )
    Console().print(table)
    return 0


def run_fetch(args: argparse.Namespace) -> int:
    print(fetch(args.name, _directory(args)))
    return 0


def run_path(args: argparse.Namespace) -> int:
    print(catalogue.find(args.name, _directory(args)))
    return 0


def describe(entry: catalogue.CatalogueEntry, models_dir: Path | None) -> dict[str, Any]:
    """One model as `models --json` shows it."""
    try:
        path = str(catalogue.find(entry.name, models_dir))
    except ModelNotFoundError:
        path = None
    return {
        "name": entry.name,
        "path": path,
        "bytes": entry.n_bytes,
        "sha256": entry.sha256,
        "licence": entry.licence,
        "fim": entry.fim,
    }


def fetch(name: str, models_dir: Path | None) -> Path:
    """Downloads a model unless it is here, with a progress bar on stderr. Raises DownloadError."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"fetching {name}", total=None)

        def on_progress(n_done: int, n_total: int, what: str) -> None:
            progress.update(task, completed=n_done, total=n_total, description=what)

        return catalogue.fetch(name, models_dir, on_progress)


def _directory(args: argparse.Namespace) -> Path | None:
    return Path(args.models_dir) if args.models_dir else None
