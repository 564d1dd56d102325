"""`flash-lsp complete`: one completion with its timings, without an editor."""

import argparse
import asyncio
import dataclasses
import sys
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from engine.client import InProcessEngine
from engine.request import GenerateRequest, GenerateResult, PromptPart, SpeculationReport
from lsp_server.capsule import Latest, make_capsule, write_capsule
from lsp_server.cli_options import (
    Commands,
    add_model_options,
    add_sampling_options,
    engine_config,
    positive,
    sampling_config,
)
from lsp_server.completion import Completion, CompletionOptions, complete
from lsp_server.context_options import ContextOptions, PflashMode
from lsp_server.context_report import ContextReport
from lsp_server.place_context import choose_for
from lsp_server.places import input_at, parse_place
from lsp_server.prompt import CompletionInput
from lsp_server.version import own_version


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
        "--pflash",
        choices=get_args(PflashMode),
        default="off",
        help="show the model what of the repository helps (default: off)",
    )
    parser.add_argument("--budget", type=positive, metavar="N", help="most tokens of it")
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


def _chosen(args: argparse.Namespace) -> ContextOptions:
    options = ContextOptions(mode=args.pflash)
    return options if args.budget is None else replace(options, budget_tokens=args.budget)


async def _complete(args: argparse.Namespace) -> int:
    inp = None if args.place is None else input_at(*parse_place(args.place))
    raw = None if args.prompt_file is None else Path(args.prompt_file).read_text("utf-8")
    config = engine_config(args)
    engine = InProcessEngine(config)
    report: ContextReport | None = None
    started = monotonic()
    try:
        await engine.start()
        info = await engine.ready()
        load_ms = (monotonic() - started) * 1000
        if inp is not None:
            if args.pflash != "off":
                path = parse_place(str(args.place))[0]
                choice = await choose_for(engine, path, inp, None, _chosen(args))
                report, inp = choice.report, dataclasses.replace(inp, repository=choice.block)
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
        print(msgspec.json.encode(as_json(done, info.name, load_ms, report)).decode())
    else:
        show(done, inp, load_ms)
    return 0


def as_json(
    done: Completion, model: str, load_ms: float, report: ContextReport | None = None
) -> dict[str, Any]:
    """The JSON that programs may rely on (DESIGN.md 4); keys are only ever added."""
    result = done.result
    context_ms = 0.0 if report is None else report.milliseconds.get("total", 0.0)
    timings = {
        "load": load_ms,
        "context": context_ms,
        "prefill": 0.0,
        "decode": 0.0,
        "total": load_ms,
    }
    if result is not None:
        timings |= {
            "prefill": result.timings_ms.prefill,
            "decode": result.timings_ms.decode,
            "total": load_ms + context_ms + result.timings_ms.total,
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
        "context": _context_json(report, n_prompt),
    }


def _context_json(report: ContextReport | None, n_prompt: int) -> dict[str, Any]:
    if report is None:
        return {"mode": "off", "kept_tokens": n_prompt, "total_tokens": n_prompt, "spans": []}
    return {
        "mode": report.mode,
        "kept_tokens": report.kept_tokens,
        "total_tokens": report.total_tokens,
        "abstained": report.abstained,
        "spans": [
            {"path": s.path, "first_line": s.first_line, "n_lines": s.n_lines, "score": s.score}
            for s in report.spans
            if s.is_kept
        ],
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
