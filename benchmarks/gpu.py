"""A model on a GPU: speed beside llama.cpp's, agreement with the processor, losslessness.

    python -m benchmarks.gpu --model qwen2.5-coder-0.5b --backend cuda --llama-bench PATH --json

llama.cpp's own `llama-bench` runs twice on the same file and machine, its flash attention on, so
that its spread is seen. Decoding is 128 tokens from an empty context on both sides, and
prefill whole prompts. `modes` are greedy texts after function stems of real files, as
benchmarks.lossless cuts them, in every speculation mode: the tokens must be those of plain
decoding. `agreement` compares the likeliest token with the processor's engine. `kernels` times
each launch of a decode step alone, 20 in a row.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fim_probe import code_files
from benchmarks.lossless import prompt_of, roots, sample_cases
from engine import catalogue
from engine.backends.gpu.model import GpuModel
from engine.cancel import CancelToken
from engine.engine import Engine
from engine.request import GenerateRequest, GenerateResult
from engine.session import ROOT
from lsp_server.cli_options import add_model_options, engine_config, positive

N_DECODE, PREFILLS, WIDTHS = 128, (2048, 8100, 16384), (1, 2, 4, 8, 16, 24, 32)
VERIFY_PAST, N_RUNS, N_REPEATED = 1024, 5, 20


def text_tokens(engine: Engine, n: int) -> list[int]:
    """Tokens of real code, over again if there is not enough."""
    files = sorted(Path(json.__file__).parent.parent.glob("*.py"))
    text = "".join(path.read_text("utf-8", "replace") for path in files[:40])
    ids = engine.tokenizer.encode(text[: 6 * n])
    return (ids * (n // len(ids) + 1))[:n]


def seconds(work: Callable[[], object]) -> float:
    work()
    times: list[float] = []
    for _ in range(N_RUNS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return median(times)


def speeds(engine: Engine) -> dict[str, float]:
    """Tokens per second, by llama-bench's names."""
    found = {f"tg{N_DECODE}": _decode_speed(engine)}
    ids = text_tokens(engine, max(PREFILLS))
    session = engine.session()

    def prefill(n: int) -> int:
        session.truncate(0)
        return session.append(ids[:n]).argmax[0]

    for n in PREFILLS:
        if n <= engine.info.n_ctx:
            found[f"pp{n}"] = n / seconds(partial(prefill, n))
    session.release()
    return found


def _decode_speed(engine: Engine) -> float:
    """Steps of one row from an empty context, each with its own token chosen."""
    session = engine.session()

    def run() -> None:
        session.truncate(0)
        token = 1
        for _ in range(N_DECODE):
            token = session.append([token]).argmax[0]

    found = N_DECODE / seconds(run)
    session.release()
    return found


def step_costs(engine: Engine) -> dict[int, float]:
    """Milliseconds of a step by its rows, after VERIFY_PAST tokens."""
    ids = text_tokens(engine, VERIFY_PAST + max(WIDTHS))
    session = engine.session()
    session.append(ids[:VERIFY_PAST])
    found: dict[int, float] = {}
    for n in WIDTHS:

        def step(n: int = n) -> None:
            for _ in range(N_REPEATED):
                session.verify(ids[VERIFY_PAST : VERIFY_PAST + n], range(ROOT, n - 1))

        found[n] = 1e3 * seconds(step) / N_REPEATED
    session.release()
    return found


def agreement(engine: Engine, cpu: Engine, n: int) -> dict[str, float]:
    """The share of positions with the same likeliest token, all and where the processor's leads
    its next by 0.3 nats."""
    ids = text_tokens(engine, n)
    ours, theirs = engine.logits(ids), cpu.logits(ids)
    is_same = ours.argmax(1) == theirs.argmax(1)
    top = np.sort(np.partition(theirs, -2, axis=1)[:, -2:], axis=1)
    is_clear = top[:, 1] - top[:, 0] >= 0.3
    return {"same": float(is_same.mean()), "same_where_clear": float(is_same[is_clear].mean())}


def modes(engine: Engine, n_prompts: int, names: Sequence[str]) -> dict[str, Any]:
    """Speed and differences from plain decoding by speculation mode."""
    cases = sample_cases(code_files(roots()), n_prompts, seed=1)
    results: dict[str, list[GenerateResult]] = {name: [] for name in ("off", *names)}
    for i, case in enumerate(cases):
        for name in results:
            request = GenerateRequest(
                prompt=prompt_of(case, "prefix"),
                max_tokens=N_DECODE,
                speculation=name,  # type: ignore[arg-type]
            )
            results[name].append(engine.generate(request, CancelToken()))
        print(f"\r{i + 1}/{len(cases)} prompts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    found: dict[str, Any] = {}
    for name, done in results.items():
        decode_s = sum(result.timings_ms.decode for result in done) / 1e3
        n_tokens = sum(len(result.tokens) for result in done)
        pairs = zip(done, results["off"], strict=True)
        found[name] = {
            "tokens_per_s": n_tokens / decode_s,
            "tokens_per_step": n_tokens / sum(result.n_steps for result in done),
            "prompts": len(done),
            "different": sum(a.tokens != b.tokens for a, b in pairs),
        }
    return found


def llama_bench(program: str, model: Path, names: Sequence[str]) -> dict[str, float]:
    """Tokens per second by llama-bench's names."""
    prompts = ",".join(name[2:] for name in names if name.startswith("pp"))
    command = [program, "-m", str(model), "-ngl", "99", "-fa", "1", "-p", prompts]
    command += ["-n", str(N_DECODE), "-r", "3", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = {}
    for row in json.loads(done.stdout[done.stdout.index("[") :]):
        name = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        found[name] = row["avg_ts"]
    return found


def kernels(engine: Engine) -> list[dict[str, Any]]:
    """Launches of a step of one row after VERIFY_PAST tokens: how many of each kind, the
    microseconds of one among N_REPEATED alike."""
    session = engine.session()
    session.append(text_tokens(engine, VERIFY_PAST))
    session.append([1])
    model = engine._model
    assert isinstance(model, GpuModel)
    rows = model.launch_times(engine._kv, 1, VERIFY_PAST, N_REPEATED)
    session.release()
    kinds: dict[tuple[str, tuple[int, int, int]], list[float]] = {}
    for name, grid, microseconds in rows:
        kinds.setdefault((name, grid), []).append(microseconds)
    found = [
        {"kernel": name, "grid": grid, "n": len(times), "us": median(times)}
        for (name, grid), times in kinds.items()
    ]
    return sorted(found, key=lambda row: -row["n"] * row["us"])


def show(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['model']} on {report['backend']}")
    for name in ("", "ours", "llama.cpp", "ratio"):
        table.add_column(name)
    peer = report["llama_cpp"]
    for name, value in report["speeds"].items():
        other = max((run[name] for run in peer), default=None)
        ratio = "" if other is None else f"{value / other:.2f}"
        table.add_row(name, f"{value:.0f}", "" if other is None else f"{other:.0f}", ratio)
    plain = max((run[f"tg{N_DECODE}"] for run in peer), default=None)
    for name, entry in report["modes"].items():
        speed = entry["tokens_per_s"]
        table.add_row(
            f"{name}: {entry['tokens_per_step']:.2f} a step, {entry['different']} of "
            f"{entry['prompts']} differ",
            f"{speed:.0f}",
            "" if plain is None else f"{plain:.0f}",
            "" if plain is None else f"{speed / plain:.2f}",
        )
    console = Console(width=110)
    console.print(table)
    one = report["step_ms"][1]
    console.print("  ".join(f"{n} rows {ms / one:.2f}" for n, ms in report["step_ms"].items()))
    for row in report["kernels"][:12]:
        console.print(f"{row['n']:4} x {row['us']:7.2f} us  {row['kernel']} {row['grid']}")
    console.print(report["agreement"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama-bench", metavar="PATH", help="llama.cpp's program")
    parser.add_argument("--prompts", type=positive, default=200, help="of the speculation modes")
    parser.add_argument("--modes", nargs="*", default=["lookup", "dflash", "auto"])
    parser.add_argument("--context-tokens", type=positive, default=16448)
    parser.add_argument("--agreement-tokens", type=positive, default=2048)
    parser.add_argument("--json", action="store_true")
    add_model_options(parser)
    parser.set_defaults(backend="cuda")
    args = parser.parse_args()
    config = msgspec.structs.replace(engine_config(args), n_ctx=args.context_tokens)
    engine = Engine.load(config)
    report: dict[str, Any] = {
        "model": args.model,
        "backend": engine.info.backend,
        "llama_cpp": [],
        "speeds": speeds(engine),
        "step_ms": step_costs(engine),
        "kernels": kernels(engine),
        "modes": modes(engine, args.prompts, args.modes),
    }
    if args.llama_bench:
        path = catalogue.find(args.model, None)
        names = list(report["speeds"])
        report["llama_cpp"] = [llama_bench(args.llama_bench, path, names) for _ in range(2)]
    cpu = Engine.load(msgspec.structs.replace(config, backend="cpu", speculation="off"))
    report["agreement"] = agreement(engine, cpu, args.agreement_tokens)
    if args.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
