"""`flash-lsp train-drafter`: collects code and trains a drafter for a model. Needs PyTorch.

On several GPUs: `torchrun --nproc-per-node N -m lsp_server train-drafter run ...`
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from engine import catalogue
from engine.catalogue import DEFAULT_MODEL
from engine.errors import RequestError
from lsp_server.cli_options import Commands, positive


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "train-drafter",
        help="train a drafter for a model",
        description="Collect permissively licensed code, let the model continue it, and train a "
        "drafter on what it says. Install flash-lsp[train] first; a GPU is all but needed.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    collect = actions.add_parser("collect", help="make a training folder from packages")
    collect.add_argument(
        "paths",
        nargs="+",
        type=Path,
        help="wheels, npm tarballs, Debian packages and sources, or folders of them",
    )
    collect.add_argument(
        "--held-out",
        nargs="*",
        default=[],
        metavar="PATTERN",
        help="packages never to train on, for evaluation",
    )
    collect.add_argument(
        "--chars-per-language", type=positive, default=14_000_000, metavar="N", help="at most"
    )
    collect.set_defaults(run=run_collect)
    train = actions.add_parser("run", help="train, evaluate and write the drafter")
    train.add_argument("folder", type=Path, help="a training folder")
    train.add_argument("--seconds", type=positive, default=1200, metavar="S", help="to train")
    train.add_argument("--layers", type=positive, default=4, metavar="N")
    train.add_argument("--feed-forward", type=positive, default=2048, metavar="N", help="width")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.set_defaults(run=run_train)
    for action in (collect, train):
        action.add_argument("--out", type=Path, required=True, metavar="DIR")
        action.add_argument(
            "--model", default=DEFAULT_MODEL, help="known name or GGUF file (default: %(default)s)"
        )
        action.add_argument("--models-dir", metavar="DIR", help="where downloaded models lie")


def run_collect(args: argparse.Namespace) -> int:
    _require_torch()
    from engine.train.collect import collect

    with _progress() as progress:
        task = progress.add_task("reading")

        def on_progress(what: str, n_done: int, n_all: int) -> None:
            progress.update(task, description=what, completed=n_done, total=n_all)

        try:
            n_tokens = collect(
                args.paths,
                _model(args),
                args.out,
                args.chars_per_language,
                args.held_out,
                on_progress,
            )
        except ValueError as error:
            raise RequestError(str(error)) from error
    for language, n in n_tokens.most_common():
        print(f"{language:12} {n:>12,} tokens")
    return 0


def run_train(args: argparse.Namespace) -> int:
    _require_torch()
    from engine.train.run import Options, run

    options = Options(
        model=_model(args),
        folder=args.folder,
        out=args.out,
        seconds=args.seconds,
        name=f"{args.model} DFlash",
        n_layer=args.layers,
        n_ff=args.feed_forward,
        resume=args.resume,
    )
    is_first = os.environ.get("RANK", "0") == "0"  # torchrun numbers its processes
    with _progress(is_shown=is_first) as progress:
        task = progress.add_task("starting", total=args.seconds)

        def say(what: str, row: dict[str, float]) -> None:
            if "loss" in row:
                text = f"step {row['step']:.0f}, loss {row['loss']:.3f}"
                progress.update(task, description=text, completed=row["seconds"])
            elif row and what != "text":
                figures = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
                progress.console.print(f"{what}: {figures}")

        run(options, say)
    if is_first:
        print(args.out / "drafter.q4_0.gguf")
    return 0


def _require_torch() -> None:
    missing = [name for name in ("torch", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise RequestError(
            f"training needs {' and '.join(missing)}; install: pip install 'flash-lsp[train]'"
        )


def _model(args: argparse.Namespace) -> Path:
    return catalogue.find(args.model, Path(args.models_dir) if args.models_dir else None)


def _progress(*, is_shown: bool = True) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn())
    columns += (TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(file=sys.stderr), disable=not is_shown)
