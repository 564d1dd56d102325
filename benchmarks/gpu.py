"""A model on a GPU: speed beside llama.cpp's, agreement with the processor, losslessness.

    python -m benchmarks.gpu --model qwen2.5-coder-0.5b --backend cuda --llama-bench PATH

Prints the README's tables; `--json` everything that was found, which benchmarks.gpu_tables turns
into the same tables and benchmarks.strix_halo takes the kernels' efficiencies from.

llama.cpp's own `llama-bench` runs twice on the same file and machine, its flash attention on, so
that its spread is seen. Decoding is 128 tokens from an empty context on both sides, and
prefill whole prompts; llama.cpp's steps of several rows are prompts of so many tokens after 1,024
others. `modes` are greedy texts after function stems of real files, as benchmarks.lossless cuts
them, in every speculation mode: the tokens must be those of plain decoding. `agreement` compares
the likeliest token with the processor's engine. `launches` are the kinds of launches of steps of
one, of many and of a prompt's rows, each kind's one after another; `copy_gb_per_s` is what the
device's own copies of 1 GiB move.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from benchmarks.fim_probe import code_files
from benchmarks.gpu_tables import markdown
from benchmarks.lossless import prompt_of, roots, sample_cases
from engine import catalogue
from engine.backends.gpu.driver import Driver
from engine.backends.gpu.model import GpuModel
from engine.cancel import CancelToken
from engine.engine import Engine
from engine.request import GenerateRequest, GenerateResult
from engine.session import ROOT
from lsp_server.cli_bench import SAMPLED, decode_ms
from lsp_server.cli_options import add_model_options, engine_config, positive

N_DECODE, PREFILLS, WIDTHS = 128, (2048, 8100, 16384), (1, 2, 4, 8, 16, 24, 32)
VERIFY_PAST, N_RUNS, N_REPEATED = 1024, 5, 20
# Steps whose launches are timed: rows, tokens before them, rows whose logits are wanted.
LAUNCH_STEPS = ((1, 1024, 1), (8, 1024, 8), (16, 1024, 16), (32, 1024, 32), (512, 1024, 1))
LONG_STEP = (512, 15360, 1)
COPIED_BYTES = 2**30


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


def step_costs(engine: Engine) -> dict[str, float]:
    """Milliseconds of a step by its rows, after VERIFY_PAST tokens."""
    ids = text_tokens(engine, VERIFY_PAST + max(WIDTHS))
    session = engine.session()
    session.append(ids[:VERIFY_PAST])
    found: dict[str, float] = {}
    for n in WIDTHS:

        def step(n: int = n) -> None:
            for _ in range(N_REPEATED):
                session.verify(ids[VERIFY_PAST : VERIFY_PAST + n], range(ROOT, n - 1))

        found[str(n)] = 1e3 * seconds(step) / N_REPEATED
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
    return {
        "n": len(ids),
        "same": float(is_same.mean()),
        "same_where_clear": float(is_same[is_clear].mean()),
    }


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


def llama_bench(program: str, model: Path, *options: str) -> list[dict[str, Any]]:
    """The rows that llama-bench reports, all layers on the GPU."""
    command = [program, "-m", str(model), "-ngl", "99", "-fa", "1", *options, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout[done.stdout.index("[") :])


def peer_speeds(program: str, model: Path, names: Sequence[str]) -> dict[str, float]:
    """Tokens per second by llama-bench's names."""
    prompts = ",".join(name[2:] for name in names if name.startswith("pp"))
    rows = llama_bench(program, model, "-p", prompts, "-n", str(N_DECODE), "-r", "3")
    return {
        f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["avg_ts"]
        for row in rows
    }


def peer_step_costs(program: str, model: Path) -> dict[str, float]:
    """Milliseconds of llama.cpp's steps by their rows, the last row's logits computed."""
    widths, past = ",".join(map(str, WIDTHS)), str(VERIFY_PAST)
    rows = llama_bench(program, model, "-p", widths, "-n", "0", "-d", past, "-r", "5")
    return {str(row["n_prompt"]): 1e3 * row["n_prompt"] / row["avg_ts"] for row in rows}


def copy_bandwidth(driver: Driver, n_bytes: int) -> float:
    """GB/s, read and written, of copies from memory to memory of the device."""
    addresses = [driver.allocate(n_bytes) for _ in range(2)]

    def copy() -> None:
        driver.copy(*addresses, n_bytes)

    def copies() -> None:
        driver.run(graph)
        driver.synchronize()

    graph = driver.record(lambda: [copy() for _ in range(N_REPEATED)])
    found = 2 * n_bytes * N_REPEATED / seconds(copies) / 1e9
    for address in addresses:
        driver.free(address)
    return found


def launches(
    engine: Engine, n_rows: int, n_past: int, n_out: int, n_repeated: int
) -> list[dict[str, Any]]:
    """Kinds of launches of a step, those that take the most time of it first."""
    model = engine._model
    assert isinstance(model, GpuModel)
    ids = text_tokens(engine, n_past + n_rows)
    session = engine.session()
    session.append(ids[:n_past])
    session.append(ids[n_past:], n_logits=n_out)
    found = model.launch_times(engine._kv, n_rows, n_out, n_past, n_repeated)
    session.release()
    return [asdict(row) for row in sorted(found, key=lambda row: -row.n * row.us)]


def all_launches(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """By the step's rows, and for the long one "rows after tokens"."""
    most = engine._model.max_rows  # a calibration may have found fewer to be faster
    found: dict[str, list[dict[str, Any]]] = {}
    for n_rows, n_past, n_out in LAUNCH_STEPS:
        n = min(n_rows, most)
        found[str(n)] = launches(engine, n, n_past, n_out, N_REPEATED)
    n_rows, n_past, n_out = min(LONG_STEP[0], most), *LONG_STEP[1:]
    if n_past + n_rows <= engine.info.n_ctx:
        found[f"{n_rows} after {n_past}"] = launches(engine, n_rows, n_past, n_out, 4)
    return found


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
    model = engine._model
    if not isinstance(model, GpuModel):
        raise SystemExit(f"the model runs on {engine.info.backend}, expected a GPU: --backend")
    calibration = engine.calibrate()
    report: dict[str, Any] = {
        "model": args.model,
        "backend": engine.info.backend,
        "device": model._driver.device,
        "calibration": msgspec.to_builtins(calibration, str_keys=True),
        "speeds": speeds(engine),
        "sampled_tokens_per_s": 1e3 * N_DECODE / decode_ms(engine, [1], N_DECODE, SAMPLED),
        "verify_past": VERIFY_PAST,
        "step_ms": step_costs(engine),
        "copy_gb_per_s": copy_bandwidth(model._driver, COPIED_BYTES),
        "launches": all_launches(engine),
        "modes": modes(engine, args.prompts, args.modes),
        "llama_cpp": [],
        "llama_cpp_step_ms": {},
    }
    if args.llama_bench:
        path, names = catalogue.find(args.model, None), list(report["speeds"])
        report["llama_cpp"] = [peer_speeds(args.llama_bench, path, names) for _ in range(2)]
        report["llama_cpp_step_ms"] = peer_step_costs(args.llama_bench, path)
    cpu = Engine.load(msgspec.structs.replace(config, backend="cpu", speculation="off"))
    report["agreement"] = agreement(engine, cpu, args.agreement_tokens)
    print(json.dumps(report) if args.json else markdown(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
