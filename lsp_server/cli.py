"""The command line: parses, dispatches to one `cli_<command>` module, turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from engine.errors import EngineError
from lsp_server import (
    cli_bench,
    cli_calibrate,
    cli_complete,
    cli_context,
    cli_demo,
    cli_doctor,
    cli_edit,
    cli_index,
    cli_models,
    cli_replay,
    cli_serve,
    cli_train_drafter,
)
from lsp_server.version import own_version

_COMMANDS = (
    cli_serve,
    cli_complete,
    cli_replay,
    cli_edit,
    cli_context,
    cli_index,
    cli_demo,
    cli_models,
    cli_doctor,
    cli_calibrate,
    cli_bench,
    cli_train_drafter,
)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns the process's exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except EngineError as error:
        print(f"flash-lsp: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flash-lsp",
        description="A language server that carries its own LLM engine.",
        epilog="Start with: flash-lsp demo",
    )
    parser.add_argument("--version", action="version", version=f"flash-lsp {own_version()}")
    parser.set_defaults(run=partial(_show_help, parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _show_help(parser: argparse.ArgumentParser, _: argparse.Namespace) -> int:
    parser.print_help(sys.stderr)
    return 2
