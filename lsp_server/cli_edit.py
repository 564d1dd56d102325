"""`flash-lsp edit`: rewrites lines of a file by an instruction and prints the difference."""

import argparse
import asyncio
import difflib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.syntax import Syntax

from engine.client import InProcessEngine
from engine.errors import RequestError
from engine.request import GenerateResult
from lsp_server.cli_complete import summary
from lsp_server.cli_options import Commands, add_model_options, engine_config
from lsp_server.diffs import split_lines
from lsp_server.edit import Edit, EditOptions, rewrite
from lsp_server.prompt.edit_output import EditRefusedError
from lsp_server.prompt.edit_prompt import EditInput


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "edit",
        help="rewrite lines of a file by an instruction",
        description="Rewrites lines of a file by an instruction and prints a unified diff.",
    )
    parser.add_argument("place", metavar="FILE:START-END", help="whole lines, counted from 1")
    parser.add_argument("instruction", help='what to do, such as "add type annotations"')
    parser.add_argument("--apply", action="store_true", help="change the file, too")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        return asyncio.run(_edit(args))
    except (OSError, UnicodeDecodeError) as error:
        print(f"flash-lsp edit: {error}", file=sys.stderr)
        return 1


def parse_lines(place: str) -> tuple[Path, int, int]:
    """Splits FILE:START-END or FILE:LINE; raises RequestError."""
    file, _, lines = place.rpartition(":")
    start, dash, end = lines.partition("-")
    end = end if dash else start
    if not file or not start.isdecimal() or not end.isdecimal() or not 0 < int(start) <= int(end):
        raise RequestError(
            f"'{place}' names no lines of a file, expected FILE:START-END counted from 1"
        )
    return Path(file), int(start), int(end)


def input_of(path: Path, start: int, end: int, instruction: str) -> EditInput:
    """The lines of a file and what surrounds them. Raises RequestError if it is shorter."""
    lines = split_lines(path.read_bytes().decode("utf-8"))
    if end > len(lines):
        raise RequestError(f"{path} has {len(lines)} lines, got line {end}")
    return EditInput(
        before="".join(lines[: start - 1]),
        selection="".join(lines[start - 1 : end]),
        after="".join(lines[end:]),
        instruction=instruction,
        path=str(path),
    )


async def _edit(args: argparse.Namespace) -> int:
    path, start, end = parse_lines(args.place)
    inp = input_of(path, start, end, args.instruction)
    engine = InProcessEngine(engine_config(args))
    try:
        await engine.start()
        info = await engine.ready()
        edit = await rewrite(engine, inp, EditOptions())
    except EditRefusedError as error:
        if args.json:
            print(_encoded({"refused": error.reason, "message": str(error)}))
        else:
            print(f"flash-lsp edit: nothing was changed: {error}", file=sys.stderr)
        return 1
    finally:
        await engine.close()
    diff = unified_diff(inp, edit.replacement)
    if args.json:
        print(_encoded(as_json(edit, info.name, diff)))
    else:
        _show(diff, edit.result)
    if args.apply:
        write_whole(path, inp.before + edit.replacement + inp.after)
    return 0


def unified_diff(inp: EditInput, replacement: str) -> str:
    """The change as `patch` reads it."""
    old = split_lines(inp.before + inp.selection + inp.after)
    new = split_lines(inp.before + replacement + inp.after)
    name = Path(inp.path).as_posix().lstrip("/")
    pieces: list[str] = []
    for line in difflib.unified_diff(old, new, f"a/{name}", f"b/{name}"):
        pieces.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(pieces)


def write_whole(path: Path, text: str) -> None:
    """Replace a file's content in one step: it is never seen half written."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        os.chmod(name, path.stat().st_mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def as_json(edit: Edit, model: str, diff: str) -> dict[str, Any]:
    """The JSON that programs may rely on; keys are only ever added."""
    result = edit.result
    return {
        "model": model,
        "diff": diff,
        "replacement": edit.replacement,
        "tokens": len(result.tokens),
        "finish_reason": result.finish_reason,
        "timings_ms": msgspec.to_builtins(result.timings_ms),
        "speculation": msgspec.to_builtins(result.speculation),
    }


def _show(diff: str, result: GenerateResult) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal:
        console.print(Syntax(diff, "diff", background_color="default"), end="")
    else:
        sys.stdout.write(diff)
    Console(stderr=True, highlight=False).print(f"[dim]{summary(result)[3:]}[/dim]")


def _encoded(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
