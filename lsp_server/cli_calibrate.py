"""`flash-lsp calibrate`: how long a model's steps take on a GPU, measured anew and kept."""

import argparse

import msgspec
from rich.console import Console
from rich.table import Table

from engine.calibration import Calibration
from engine.engine import Engine
from lsp_server.cli_options import Commands, add_model_options, engine_config


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="measure how long a model's steps take on a GPU",
        description="Measures, within two seconds, what steps, drafts and prompts of a model take "
        "on a GPU, and keeps it: from then on it decides how much is drafted. A server does the "
        "same by itself when it first loads a model of that shape.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    add_model_options(parser)
    parser.set_defaults(run=run, backend="auto")


def run(args: argparse.Namespace) -> int:
    engine = Engine.load(engine_config(args))
    found = engine.calibrate()
    engine.close()
    if args.json:
        print(msgspec.json.encode({"calibration": describe(found)}).decode())
    elif found is None:
        print(f"{engine.info.backend}: steps are measured when a model is first loaded")
    else:
        show(found)
    return 0


def describe(found: Calibration | None) -> dict[str, object] | None:
    """A calibration with what follows from it."""
    if found is None:
        return None
    return {**msgspec.structs.asdict(found), "cheap_rows": found.cheap_rows}


def show(found: Calibration) -> None:
    table = Table(title=f"{found.model} on {found.device}")
    for name in ("", "rows", "ms"):
        table.add_column(name)
    kinds = {"step": found.step_ms, "block of drafts": found.draft_ms, "prompt": found.prefill_ms}
    for kind, times in kinds.items():
        for n_rows, ms in sorted(times.items()):
            table.add_row(kind, str(n_rows), f"{ms:.2f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(summary(found))


def summary(found: Calibration) -> str:
    """A line for people."""
    text = f"a step takes {found.step_ms[1]:.2f} ms, and at most a quarter more up to "
    return f"{text}{found.cheap_rows} rows (measured in {found.spent_s:.1f} s)"
