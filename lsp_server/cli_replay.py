"""`flash-lsp replay`: makes a recorded completion again and says whether it is the same."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from engine.client import AsyncEngine, InProcessEngine
from engine.config import EngineConfig
from engine.errors import RequestError
from engine.request import GenerateRequest
from lsp_server.capsule import Capsule, Difference, causes, read_capsule, replay
from lsp_server.cli_options import Commands, positive
from lsp_server.completion import completion_request
from lsp_server.places import input_at, parse_place
from lsp_server.prompt import CompletionInput


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "replay",
        help="make a recorded completion again",
        description="Makes a recorded completion again and says what differs, if anything does. "
        "Exit code 0 means the same bytes.",
    )
    parser.add_argument("capsule", metavar="FILE", help="from: flash-lsp complete --capsule FILE")
    parser.add_argument(
        "--at", metavar="FILE:LINE:COL", help="the place, for a capsule without text"
    )
    parser.add_argument("--model", help="known name or GGUF file (default: the capsule's)")
    parser.add_argument("--models-dir", metavar="DIR", help="where downloaded models lie")
    parser.add_argument("--threads", type=positive, metavar="N")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        return asyncio.run(_replay(args))
    except OSError as error:
        print(f"flash-lsp replay: {error}", file=sys.stderr)
        return 1


async def _replay(args: argparse.Namespace) -> int:
    capsule = read_capsule(Path(args.capsule))
    if capsule.text is None and args.at is None:
        raise RequestError("the capsule holds no text; say where it was made with --at")
    config = EngineConfig(
        model=args.model or capsule.model.name,
        n_threads=args.threads,
        n_ctx=capsule.model.n_ctx,
        kv_type=capsule.model.kv_type,
        models_dir=args.models_dir,
    )
    engine = InProcessEngine(config)
    try:
        await engine.start()
        info = await engine.ready()
        inp, request = await _asked(engine, capsule, args.at)
        differences = causes(capsule, info, config)
        differences += await replay(engine, capsule, inp, request)
    finally:
        await engine.close()
    is_same = all(difference.is_cause for difference in differences)
    if args.json:
        print(msgspec.json.encode(as_json(is_same, differences)).decode())
    else:
        show(is_same, differences, capsule)
    return 0 if is_same else 1


async def _asked(
    engine: AsyncEngine, capsule: Capsule, at: str | None
) -> tuple[CompletionInput, GenerateRequest]:
    """What the model was asked: from the capsule, or built anew at a place of a file."""
    if at is None:
        assert capsule.text is not None
        return capsule.text.inp, capsule.text.request
    inp = input_at(*parse_place(at))
    return inp, completion_request(await engine.ready(), inp, capsule.options)


def as_json(is_same: bool, differences: list[Difference]) -> dict[str, Any]:
    return {"same": is_same, "differences": msgspec.to_builtins(differences)}


def show(is_same: bool, differences: list[Difference], capsule: Capsule) -> None:
    console = Console(highlight=False)
    if is_same:
        console.print(f"[green]the same[/green]: {capsule.n_tokens} tokens, the same text")
    if differences:
        table = Table("differs", "recorded", "found")
        for difference in differences:
            table.add_row(difference.what, difference.recorded, difference.found)
        console.print(table)
