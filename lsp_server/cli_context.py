"""`flash-lsp context`: what of the repository the model is shown at a place, and why."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from lsp_server.cli_options import (
    Commands,
    add_model_options,
    bounded,
    engine_config,
    positive,
)
from lsp_server.context_html import html
from lsp_server.context_report import ContextReport
from lsp_server.context_view import as_json, terminal
from lsp_server.place_context import explain_place
from lsp_server.places import parse_place


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "context",
        help="show what of the repository the model sees at a place",
        description="Shows which parts of the repository would go into the prompt at a place in "
        "a file, with their scores, what was left out, and why.",
    )
    parser.add_argument("place", metavar="FILE:LINE:COL", help="both from 1, as editors show them")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON for programs")
    output.add_argument("--html", metavar="OUT", help="write a self-contained page")
    group = parser.add_argument_group("repository context")
    group.add_argument(
        "--pflash",
        choices=("auto", "always"),
        default="auto",
        help="auto shows nothing where nothing would help (default: auto)",
    )
    group.add_argument("--budget", type=positive, metavar="N", help="most tokens to show")
    group.add_argument(
        "--keep", type=bounded(0, 1), metavar="R", help="share of what was scored to show, in 0..1"
    )
    group.add_argument(
        "--root", metavar="DIR", help="the repository (default: the one the file lies in)"
    )
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        report = asyncio.run(_explain(args))
        _show(report, args)
    except OSError as error:
        print(f"flash-lsp context: {error}", file=sys.stderr)
        return 1
    return 0


async def _explain(args: argparse.Namespace) -> ContextReport:
    path, line, column = parse_place(args.place)
    root = None if args.root is None else Path(args.root)
    overrides = settings_overrides(args)
    return await explain_place(path, line, column, root, overrides, engine_config(args))


def settings_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, under the settings' wire names."""
    chosen = {
        "pflashMode": args.pflash,
        "pflashBudgetTokens": args.budget,
        "pflashKeepRatio": args.keep,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _show(report: ContextReport, args: argparse.Namespace) -> None:
    if args.json:
        # Escaped to ASCII, so that no name of a file acts on a terminal or fails to be encoded.
        print(json.dumps(as_json(report)))
    elif args.html is not None:
        Path(args.html).write_text(html(report, f"Context at {args.place}"), "utf-8")
        print(args.html)
    else:
        console = Console(highlight=False)
        console.print(terminal(report, console.width))
