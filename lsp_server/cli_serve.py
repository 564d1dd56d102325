"""`flash-lsp serve`: the language server."""

import argparse
from typing import Any

from lsp_server.cli_options import Commands, add_model_options


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the language server (stdio by default)",
        description="Runs the language server. Options given here win over the editor's settings.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--stdio", action="store_true", help="talk on stdin and stdout (default)")
    where.add_argument("--tcp", type=int, metavar="PORT", help="wait for one client on loopback")
    add_model_options(parser)
    # The settings decide what is not given.
    parser.set_defaults(model=None, kv_type=None, speculation=None, backend=None)
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run the model inside the server's process, for debugging",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from lsp_server.server import run_stdio, run_tcp  # slow to import; other commands do without

    overrides = settings_overrides(args)
    return run_stdio(overrides) if args.tcp is None else run_tcp(args.tcp, overrides)


def settings_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Only what was given, by the settings' wire names."""
    given = {
        "model": args.model,
        "modelsDir": args.models_dir,
        "threads": args.threads,
        "contextTokens": args.context,
        "kvType": args.kv_type,
        "backend": args.backend,
        "speculation": args.speculation,
        "treeBudget": args.tree_budget,
        "drafter": args.drafter,
        "inProcess": args.in_process or None,
    }
    return {name: value for name, value in given.items() if value is not None}
