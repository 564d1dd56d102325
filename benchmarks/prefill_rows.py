"""How many rows a prefill step should have: the same prompt read in steps of several sizes.

    python -m benchmarks.prefill_rows [MODEL ...] [--rows 32,64] [--tokens 1024] [--json]

Small steps unpack the weights more often, large ones leave the caches. All sizes take turns, so
that what else the machine does meets each of them alike. `prefill_rows` in
engine/backends/cpu.py is chosen by this.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.kernels import BUSY_SHARE
from engine import catalogue, weights
from engine.backends.backend import KV_BLOCK_TOKENS
from engine.backends.cpu import CpuModel, KvCache, native_type
from engine.errors import EngineError
from engine.gguf.reader import GgufFile
from engine.loading import build_program
from engine.machine import cpu_name
from engine.topology import read_topology
from lsp_server.cli_bench_machine import OtherUse

ROWS = (32, 64, 96, 128, 192, 256, 384, 512)


class Speed(msgspec.Struct):
    """Tokens per second of one step size over all runs."""

    rows: int
    tokens_per_s: float
    least: float
    most: float


class Sweep(msgspec.Struct):
    """One model's speeds, and how busy others kept the machine meanwhile."""

    model: str
    n_tokens: int
    n_threads: int
    busy_share_of_others: float | None
    speeds: list[Speed]


class Prefill:
    """A model that reads a prompt of `n_tokens` in steps of at most `n_rows`."""

    def __init__(self, model: CpuModel, kv: KvCache, n_rows: int, n_tokens: int) -> None:
        self._model = model
        self._kv = kv
        self._blocks = np.arange(-(-n_tokens // KV_BLOCK_TOKENS), dtype=np.int32)
        self._starts = range(0, n_tokens, n_rows)
        self._n_rows = n_rows
        self._n_tokens = n_tokens

    def run(self) -> None:
        for start in self._starts:
            n_rows = min(self._n_rows, self._n_tokens - start)
            rows = np.arange(n_rows, dtype=np.int32)
            # Any tokens do: all take the same time. Only the last step has a row to look at.
            out = rows[-1:] if start + n_rows == self._n_tokens else rows[:0]
            args = (rows + np.int32(start), rows - np.int32(1), self._blocks, start, out)
            assert self._model.step(self._kv, *args), "nobody cancels a benchmark"


def prefills(path: Path, sizes: Sequence[int], n_tokens: int, n_threads: int) -> list[Prefill]:
    """One for each size, over the same weights, KV cache and threads."""
    file = GgufFile(path)
    tensors = weights.of_gguf(file, native_type)
    program = build_program(file, tensors)
    loaded = {w.name: tensors.tensors[w.name].load() for w in program.weights_used()}
    kv = KvCache(program.kv_layers, -(-n_tokens // KV_BLOCK_TOKENS))
    first: CpuModel | None = None
    found: list[Prefill] = []
    for size in sizes:
        model = CpuModel(
            program, loaded, n_threads=n_threads, max_rows=size, max_out_rows=1, beside=first
        )
        first = first or model
        found.append(Prefill(model, kv, size, n_tokens))
    return found


def time_in_turns(
    tasks: Sequence[Callable[[], None]], n_runs: int, clock: Callable[[], float] = perf_counter
) -> list[list[float]]:
    """Seconds of every run of every task, after one each that does not count; every other round
    takes them in reverse."""
    times_s: list[list[float]] = [[] for _ in tasks]
    for task in tasks:
        task()
    for run in range(n_runs):
        order = range(len(tasks))
        for i in order if run % 2 == 0 else reversed(order):
            start_s = clock()
            tasks[i]()
            times_s[i].append(clock() - start_s)
    return times_s


def sweep(name: str, sizes: Sequence[int], n_tokens: int, n_threads: int, n_runs: int) -> Sweep:
    tasks = [task.run for task in prefills(catalogue.find(name), sizes, n_tokens, n_threads)]
    others = OtherUse([])
    speeds = [
        Speed(size, n_tokens / median(times), n_tokens / max(times), n_tokens / min(times))
        for size, times in zip(sizes, time_in_turns(tasks, n_runs), strict=True)
    ]
    return Sweep(name, n_tokens, n_threads, others.share(), speeds)


def show(sweeps: list[Sweep]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{cpu_name()} · {sweeps[0].n_threads} threads · {sweeps[0].n_tokens} tokens")
    table = Table("rows", *(sweep.model for sweep in sweeps))
    for i, size in enumerate(speed.rows for speed in sweeps[0].speeds):
        cells: list[str] = []
        for sweep in sweeps:
            speed, best = sweep.speeds[i], max(s.tokens_per_s for s in sweep.speeds)
            cells.append(
                f"{speed.tokens_per_s:.0f} tok/s ({speed.least:.0f} - {speed.most:.0f}) "
                f"{speed.tokens_per_s / best:.0%}"
            )
        table.add_row(str(size), *cells)
    console.print(table)
    busy = max((sweep.busy_share_of_others or 0.0) for sweep in sweeps)
    if busy > BUSY_SHARE:
        console.print(f"Other processes used {busy:.0%} of the processors: measure again.")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [entry.name for entry in catalogue.entries()]
    parser.add_argument("models", nargs="*", default=names, metavar="MODEL", help="default: all")
    parser.add_argument("--rows", type=sizes, default=list(ROWS), metavar="N,N")
    parser.add_argument("--tokens", type=int, default=1024, metavar="N", help="default: 1024")
    n_threads = read_topology().default_threads(0)
    parser.add_argument("--threads", type=int, default=n_threads, metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser.parse_args(arguments)


def sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def main(arguments: list[str] | None = None) -> int:
    """0, or 2 if a model is missing or cannot be read."""
    args = parse(arguments)
    try:
        sweeps = [
            sweep(name, args.rows, args.tokens, args.threads, args.runs) for name in args.models
        ]
    except EngineError as error:
        print(f"prefill_rows: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(msgspec.json.encode(sweeps).decode())
    else:
        show(sweeps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
