"""`flash-lsp complete`: one completion with its timings, without an editor."""

import argparse
import asyncio
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from engine.client import InProcessEngine
from engine.errors import RequestError
from engine.request import GenerateRequest, GenerateResult, PromptPart, SpeculationReport
from lsp_server.capsule import Latest, make_capsule, write_capsule
from lsp_server.cli_options import (
    Commands,
    add_model_options,
    add_sampling_options,
    engine_config,
    sampling_config,
)
from lsp_server.completion import Completion, CompletionOptions, complete
from lsp_server.documents import Document, Place, PositionEncoding
from lsp_server.prompt import CompletionInput
from lsp_server.version import own_version

_UTF32 = PositionEncoding.UTF32  # columns count characters, as editors show them


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "complete",
        help="print one completion",
        description="Prints what would be offered at a place in a file, with timings.",
    )
    parser.add_argument(
        "place", nargs="?", metavar="FILE:LINE:COL", help="both from 1, as editors show them"
    )
    parser.add_argument(
        "--prompt-file", metavar="F", help="continue this text as it is, without any prompt form"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--capsule", metavar="F", help="record what it came from, for: flash-lsp replay F"
    )
    parser.add_argument(
        "--with-text", action="store_true", help="the capsule holds the text, not only hashes"
    )
    add_model_options(parser)
    add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if (args.place is None) == (args.prompt_file is None):
        print("flash-lsp complete: give either FILE:LINE:COL or --prompt-file", file=sys.stderr)
        return 2
    if args.place is None and args.capsule is not None:
        print("flash-lsp complete: --capsule needs FILE:LINE:COL", file=sys.stderr)
        return 2
    try:
        return asyncio.run(_complete(args))
    except OSError as error:
        print(f"flash-lsp complete: {error}", file=sys.stderr)
        return 1


def parse_place(place: str) -> tuple[Path, int, int]:
    """Splits FILE:LINE:COL; raises RequestError."""
    file, _, rest = place.rpartition(":")
    file, _, line = file.rpartition(":")
    if not file or not line.isdecimal() or not rest.isdecimal() or 0 in (int(line), int(rest)):
        raise RequestError(
            f"'{place}' is no place in a file, expected FILE:LINE:COL counted from 1"
        )
    return Path(file), int(line), int(rest)


def input_at(path: Path, line: int, column: int) -> CompletionInput:
    """The text around a place. Raises RequestError if the file has no such place."""
    text = path.read_text("utf-8", errors="replace")
    document = Document(path.as_uri() if path.is_absolute() else str(path), "", 0, text, _UTF32)
    if line > document.n_lines:
        raise RequestError(f"{path} has {document.n_lines} lines, got line {line}")
    n_columns = len(document.line(line - 1)) + 1
    if column > n_columns:
        raise RequestError(f"line {line} of {path} has columns 1..{n_columns}, got {column}")
    window = document.window(Place(line - 1, column - 1), len(text), len(text))
    return CompletionInput(prefix=window.before, suffix=window.after, path=str(path))


async def _complete(args: argparse.Namespace) -> int:
    inp = None if args.place is None else input_at(*parse_place(args.place))
    raw = None if args.prompt_file is None else Path(args.prompt_file).read_text("utf-8")
    config = engine_config(args)
    engine = InProcessEngine(config)
    started = monotonic()
    try:
        await engine.start()
        info = await engine.ready()
        load_ms = (monotonic() - started) * 1000
        if inp is not None:
            options = CompletionOptions(max_tokens=args.max_tokens, sampling=sampling_config(args))
            done = await complete(engine, inp, options)
            if args.capsule is not None:
                latest = Latest(inp, done)
                capsule = make_capsule(
                    latest, info, config, own_version(), with_text=args.with_text
                )
                write_capsule(capsule, Path(args.capsule))
        else:
            request = GenerateRequest(
                prompt=(PromptPart(raw or ""),),
                max_tokens=args.max_tokens,
                sampling=sampling_config(args),
            )
            result = await engine.generate(request)
            done = Completion(text=result.text, result=result)
    finally:
        await engine.close()
    if args.json:
        print(msgspec.json.encode(as_json(done, info.name, load_ms)).decode())
    else:
        show(done, inp, load_ms)
    return 0


def as_json(done: Completion, model: str, load_ms: float) -> dict[str, Any]:
    """The JSON that programs may rely on (DESIGN.md 4); keys are only ever added."""
    result = done.result
    timings = {"load": load_ms, "context": 0.0, "prefill": 0.0, "decode": 0.0, "total": load_ms}
    if result is not None:
        timings |= {
            "prefill": result.timings_ms.prefill,
            "decode": result.timings_ms.decode,
            "total": load_ms + result.timings_ms.total,
        }
    n_prompt = len(result.prompt_tokens) if result else 0
    return {
        "model": model,
        "text": done.text,
        "skipped_reason": done.skipped_reason,
        "prompt_tokens": result.prompt_tokens if result else [],
        "tokens": result.tokens if result else [],
        "finish_reason": result.finish_reason if result else None,
        "timings_ms": timings,
        "speculation": msgspec.to_builtins(result.speculation if result else SpeculationReport()),
        "context": {"mode": "off", "kept_tokens": n_prompt, "total_tokens": n_prompt, "spans": []},
    }


def show(done: Completion, inp: CompletionInput | None, load_ms: float) -> None:
    """The current line with the completion behind it in colour, then one line of figures."""
    console = Console(highlight=False, soft_wrap=True)
    if inp is not None:
        console.print(Text(inp.prefix.rpartition("\n")[2], style="dim"), end="")
    console.print(Text(done.text, style="bold green"))
    if not done.text:
        console.print(f"[yellow]nothing offered: {done.skipped_reason}[/yellow]")
    figures = summary(done.result)
    Console(stderr=True, highlight=False).print(f"[dim]load {load_ms:.0f} ms{figures}[/dim]")


def summary(result: GenerateResult | None) -> str:
    if result is None:
        return ""
    timings, speculation = result.timings_ms, result.speculation
    speed = 1000 * len(result.tokens) / timings.decode if timings.decode else 0.0
    drafted = ""
    if speculation.steps and speculation.mode != "off":
        gain = speculation.plain_ms / timings.decode
        drafted = f", {speculation.acceptance_length:.2f} per step, {gain:.2f}x plain"
    return (
        f" · prompt {len(result.prompt_tokens)} tokens ({result.n_cached} cached)"
        f" in {timings.prefill:.0f} ms · {len(result.tokens)} tokens in {timings.decode:.0f} ms"
        f" ({speed:.0f} tok/s{drafted}) · {result.finish_reason}"
    )
