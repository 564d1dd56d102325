"""`flash-lsp bench`: how fast the engine is, next to llama.cpp on the same file in the same run.

The two take turns, so that a drifting machine slows both, and each figure is a median.
"""

import argparse
import platform
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from engine.config import SamplingConfig
from engine.decode import HealingConstraint, choose
from engine.engine import Engine
from engine.gguf.reader import GgufFile
from engine.machine import cpu_name
from engine.sampling import Sampler
from lsp_server.cli_bench_decode import DecodeBench, add_decode_options
from lsp_server.cli_bench_machine import OtherUse, read_bytes_per_s
from lsp_server.cli_bench_peer import LlamaCpp, PeerError, find_python
from lsp_server.cli_bench_rows import Measurement, row, take_turns
from lsp_server.cli_bench_tables import is_speculation, show_speculation
from lsp_server.cli_bench_verify import (
    CONTEXT_TOKENS,
    VERIFY_ROWS,
    VERIFY_STEPS,
    VerifySteps,
    python_share_row,
    show_costs,
    with_costs,
)
from lsp_server.cli_options import Commands, add_model_options, engine_config, positive

DECODE_PROMPT_TOKENS, DECODE_TOKENS = 256, 64
SAMPLED = SamplingConfig(temperature=0.8)
PREFILL_TOKENS = (512, 2048)
BUSY_SHARE = 0.05  # above it, the report warns that others were using the machine


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed next to llama.cpp",
        description="Tokens per second of the engine and of llama.cpp, taking turns.",
    )
    parser.add_argument("what", choices=("decode", "edit", "prefill", "verify", "all"))
    parser.add_argument("--runs", type=positive, default=5, metavar="N", help="default: 5")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--llama-cpp-python",
        metavar="PYTHON",
        help="an interpreter that has llama_cpp (default: this one, if it does)",
    )
    add_decode_options(parser)
    add_model_options(parser)
    parser.set_defaults(run=run, speculation=None)


def run(args: argparse.Namespace) -> int:
    try:
        with ExitStack() as open_things:
            report = _bench(args, open_things)
    except PeerError as error:
        print(f"flash-lsp bench: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(msgspec.json.encode(report).decode())
    else:
        show(report)
    return 0


def _bench(args: argparse.Namespace, open_things: ExitStack) -> dict[str, Any]:
    peer_python = find_python(args.llama_cpp_python)
    config = replace(engine_config(args), speculation="off")
    engine = Engine.load(config)
    open_things.callback(engine.close)
    info = engine.info
    decoding = DecodeBench(args, config, engine)
    peer = None
    if peer_python is not None:
        n_ctx = min(info.n_ctx, max(_most_tokens(), decoding.most_tokens))
        peer = open_things.enter_context(LlamaCpp(peer_python, info.path, info.n_threads, n_ctx))
    bandwidth = read_bytes_per_s(info.n_threads)
    children = [] if peer is None else [peer.pid]
    others = OtherUse(children)
    status = open_things.enter_context(Console(stderr=True).status("warming up"))
    rows: list[dict[str, Any]] = []
    for measurement in _measurements(args.what, engine, peer):
        (speeds,) = take_turns([measurement], args.runs, status.update)
        rows.append(row(measurement.name, info.name, speeds))
    if args.what in ("verify", "all"):
        if info.n_ctx >= CONTEXT_TOKENS + max(VERIFY_ROWS):
            rows += _verify_rows(engine, peer, args.runs, status.update)
        status.update("python share of a decode step")
        rows.append(python_share_row(engine, args.runs))
    rows += decoding.rows(peer, children, open_things, status.update)
    versions = [*([] if peer is None else [peer.version]), *decoding.peer_versions]
    return {
        "machine": {
            "cpu": cpu_name(),
            "system": platform.platform(),
            "backend": info.backend,
            "threads": info.n_threads,
            "read_gb_per_s": bandwidth / 1e9,
            "weight_gb_per_token": _bytes_per_token(Path(info.path), info.weight_bytes) / 1e9,
            "busy_share_of_others": others.share(),
            "baseline_version": ", ".join(versions) or None,
        },
        "rows": rows,
        "remarks": decoding.remarks,
    }


def _measurements(what: str, engine: Engine, peer: LlamaCpp | None) -> list[Measurement]:
    ids = _code_tokens(engine)
    measurements: list[Measurement] = []
    if what in ("decode", "all"):
        prompt = ids[:DECODE_PROMPT_TOKENS]
        measurements.append(
            Measurement(
                "decode",
                DECODE_TOKENS,
                lambda: decode_ms(engine, prompt, DECODE_TOKENS),
                peer and (lambda: peer.decode_ms(prompt, DECODE_TOKENS)),
            )
        )
        measurements.append(
            Measurement(
                "decode sampled",
                DECODE_TOKENS,
                lambda: decode_ms(engine, prompt, DECODE_TOKENS, SAMPLED),
                None,
            )
        )
    if what in ("prefill", "all"):
        for n_tokens in (n for n in PREFILL_TOKENS if n <= engine.info.n_ctx):
            measurements.append(_prefill_measurement(engine, peer, ids[:n_tokens]))
    return measurements


def _prefill_measurement(engine: Engine, peer: LlamaCpp | None, ids: list[int]) -> Measurement:
    return Measurement(
        f"prefill {len(ids)}",
        len(ids),
        lambda: prefill_ms(engine, ids),
        peer and (lambda: peer.prefill_ms(ids)),
    )


def _verify_rows(
    engine: Engine, peer: LlamaCpp | None, n_runs: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Steps of 1 to 32 rows after 1,024 tokens, all by turns: their ratios are of one minute."""
    ids = _code_tokens(engine)
    context, rows = ids[:CONTEXT_TOKENS], ids[CONTEXT_TOKENS : CONTEXT_TOKENS + max(VERIFY_ROWS)]
    session = engine.session()
    steps = VerifySteps(session, context)
    measurements = [
        Measurement(
            f"verify {n}",
            n,
            partial(steps.ms, rows[:n]),
            peer and partial(peer.verify_ms, context, rows[:n], VERIFY_STEPS),
        )
        for n in VERIFY_ROWS
    ]
    try:
        speeds = take_turns(measurements, n_runs, say)
    finally:
        session.release()
    return with_costs(
        [row(m.name, engine.info.name, s) for m, s in zip(measurements, speeds, strict=True)]
    )


def prefill_ms(engine: Engine, ids: list[int]) -> float:
    """Time to compute a prompt from nothing, with the logits of its last token."""
    session = engine.session()
    try:
        start_s = perf_counter()
        session.append(ids)
        return (perf_counter() - start_s) * 1e3
    finally:
        session.release()


def decode_ms(
    engine: Engine, ids: list[int], n_tokens: int, sampling: SamplingConfig | None = None
) -> float:
    """Time to decode after a prompt, by default greedily, the prompt's own time not counted."""
    session = engine.session()
    sampler = Sampler(sampling or SamplingConfig())
    healing = HealingConstraint(engine.tokenizer, b"")
    try:
        token = choose(session.append(ids), 0, sampler, healing)
        start_s = perf_counter()
        for _ in range(n_tokens):
            token = choose(session.append([token]), 0, sampler, healing)
        return (perf_counter() - start_s) * 1e3
    finally:
        session.release()


def show(report: dict[str, Any]) -> None:
    """The report as tables, and what a reader must know to trust it."""
    machine, rows = report["machine"], report["rows"]
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if rows:
        model = Path(rows[0]["model"]).name
        console.print(
            f"{model} · {machine['threads']} threads · {machine['backend']} · {machine['cpu']}"
        )
    _show_speeds(console, [entry for entry in rows if not is_speculation(entry)])
    show_costs(console, rows)
    show_speculation(console, rows)
    if rows:
        console.print(f"Medians of {rows[0]['runs']} runs taken by turns; (least - most).")
    for line in [*_remarks(machine, rows), *report["remarks"]]:
        console.print(line)


def _show_speeds(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table("", "flash-lsp tok/s", "llama.cpp tok/s", "ratio")
    for entry in rows:
        ours = "-"
        if entry["value"] is not None:
            ours = _spread(entry["value"], entry["min"], entry["max"])
        if entry["unit"] != "tok/s":
            ours += f" {entry['unit']}"
        peer, ratio = "-", "-"
        if entry["baseline"] is not None:
            peer = _spread(entry["baseline_value"], entry["baseline_min"], entry["baseline_max"])
            ratio = f"{entry['ratio']:.2f}"
        table.add_row(entry["name"], ours, peer, ratio)
    console.print(table)


def _remarks(machine: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    read, per_token = machine["read_gb_per_s"], machine["weight_gb_per_token"]
    for speed in [entry["value"] for entry in rows if entry["name"] == "decode"]:
        lines.append(
            f"NumPy reads memory at {read:.1f} GB/s: at most {read / per_token:.0f} tok/s when "
            f"each token reads all weights; decode reaches {speed * per_token / read:.0%} of that."
        )
    if machine["baseline_version"] is None:
        lines.append(
            "No baseline: llama_cpp is not installed. Install the extra `bench` "
            "(pip install 'flash-lsp[bench]'), or name an interpreter with --llama-cpp-python."
        )
    busy = machine["busy_share_of_others"]
    if busy is not None and busy > BUSY_SHARE:
        lines.append(f"Other processes used {busy:.0%} of the processors: measure again when idle.")
    return lines


def _spread(middle: float, least: float, most: float) -> str:
    return f"{middle:.1f} ({least:.1f} - {most:.1f})"


def _most_tokens() -> int:
    return max(*PREFILL_TOKENS, DECODE_PROMPT_TOKENS + DECODE_TOKENS)


def _code_tokens(engine: Engine) -> list[int]:
    """Real code that every installation has: the source of argparse."""
    ids = engine.tokenizer.encode(Path(argparse.__file__).read_text("utf-8"))
    return ids[: _most_tokens()]


def _bytes_per_token(path: Path, weight_bytes: int) -> int:
    """Weights that decoding reads: all of them, but of an untied embedding only one row."""
    with GgufFile(path) as file:
        is_tied = "output.weight" not in file.tensors
        return weight_bytes - (0 if is_tied else file.tensors["token_embd.weight"].n_bytes)
