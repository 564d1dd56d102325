"""How fast a large workspace is indexed, and how long a search of it takes.

    python -m benchmarks.index [--files 20000,50000] [--queries 200] [--json]

Makes a workspace of Python modules that import and call each other, with names as unevenly
frequent as in real code, in a temporary folder; then indexes it, indexes it again unchanged, edits
an open document and asks at cursors all over it. Each size runs in a process of its own, so that
the memory is that of one index.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.machine import cpu_name
from lsp_server.cli_bench_machine import OtherUse
from lsp_server.workspace import CursorQuery, IndexOptions, WorkspaceIndex

SIZES = (20_000, 50_000)
FILES_A_FOLDER = 40
N_WORDS = 4000
N_EDITS = 20
SEED = 7


class Vocabulary:
    """Names made of words, some of them in every file and most of them in few."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        letters = "bcdfghklmnprstvz"
        words: set[str] = set()
        while len(words) < N_WORDS:
            syllables = self._random.choices(letters, k=self._random.randrange(2, 5))
            words.add("".join(c + self._random.choice("aeiou") for c in syllables))
        self._words = sorted(words)
        self._random.shuffle(self._words)
        total, self._weights = 0.0, list[float]()
        for rank in range(N_WORDS):  # Zipf's law
            total += 1.0 / (rank + 1)
            self._weights.append(total)

    def names(self, n: int) -> list[str]:
        words = self._random.choices(self._words, cum_weights=self._weights, k=2 * n)
        return [f"{a}_{b}" for a, b in zip(words[::2], words[1::2], strict=True)]

    def pick(self, n_most: int) -> int:
        return self._random.randrange(n_most)


def path_of(n: int) -> str:
    return f"pkg{n // FILES_A_FOLDER:04}/mod{n:06}.py"


def module_of(n: int) -> str:
    return path_of(n).removesuffix(".py").replace("/", ".")


def modules(n_files: int) -> Iterator[str]:
    """The text of every module: functions of about 12 lines, calls to three other modules."""
    vocabulary = Vocabulary(SEED)
    for n in range(n_files):
        others = [vocabulary.pick(n_files) for _ in range(3)]
        lines = [f"from {module_of(m)} import entry_{m:06}" for m in others]
        for f in range(8):
            head, *names = vocabulary.names(18)
            name = f"entry_{n:06}" if f == 0 else f"{head}_{n % 997}"
            lines += ["", "", f"def {name}({names[0]}, {names[1]}=None):"]
            lines.append(f'    """{" ".join(names[2:7])}."""')
            lines += [
                f"    {a} = {b}({c})" for a, b, c in zip(*[iter(names[2:])] * 3, strict=False)
            ]
            lines.append(f"    return entry_{others[f % 3]:06}({names[2]})")
        yield "\n".join(lines) + "\n"


def write_workspace(folder: Path, n_files: int) -> None:
    for n, text in enumerate(modules(n_files)):
        path = folder / path_of(n)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class PeakMemory:
    """The most memory this process has had since this object was made, in bytes."""

    def __init__(self) -> None:
        self.least = self.most = self._now()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def grown(self) -> int:
        self._end.set()
        self._thread.join()
        return self.most - self.least

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        """Resident memory without mapped files: of the database, those are the system's cache."""
        fields = Path("/proc/self/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


async def build(folder: Path, cache: Path) -> tuple[WorkspaceIndex, float]:
    """An index of the folder and the seconds it took."""
    index = WorkspaceIndex(IndexOptions(cache_dir=cache, max_files=10**6))
    began_s = perf_counter()
    await index.start([folder.as_uri()])
    while index.status().is_building:
        await asyncio.sleep(0.01)
    return index, perf_counter() - began_s


def query_at(folder: Path, n: int, rng: random.Random) -> tuple[CursorQuery, str]:
    """A cursor after the name of an imported function, and where that is defined."""
    text = (folder / path_of(n)).read_text("utf-8")
    places = [at for at in range(len(text)) if text.startswith("return entry_", at)]
    at = rng.choice(places) + len("return ")
    end = at + len("entry_000000")
    query = CursorQuery(
        uri=(folder / path_of(n)).as_uri(), text=text, offset=end + 1, language="python"
    )
    return query, path_of(int(text[at + 6 : end]))


def ask(index: WorkspaceIndex, folder: Path, n_files: int, n: int) -> tuple[list[float], float]:
    """Milliseconds of each of `n` searches, and how often the needed definition came first."""
    rng = random.Random(SEED)
    times_ms: list[float] = []
    n_right = 0
    for _ in range(n):
        query, wanted = query_at(folder, rng.randrange(n_files), rng)
        began_s = perf_counter()
        found = index.candidates(query)
        times_ms.append(1e3 * (perf_counter() - began_s))
        n_right += bool(found) and found[0].chunk.path == wanted
    return times_ms, n_right / n


async def edit(index: WorkspaceIndex, folder: Path, n: int) -> tuple[list[float], float]:
    """Milliseconds from a change of an open document until it is found, debounce included, and how
    many chunks each change has hashed."""
    uri = (folder / path_of(0)).as_uri()
    text = (folder / path_of(0)).read_text("utf-8")
    n_before = index.status().n_chunks_rehashed
    times_ms: list[float] = []
    for i in range(n):
        began_s = perf_counter()
        changed = text.replace("    return", f"    fresh_{i}()\n    return", 1)
        index.update_document(uri, changed + f"\n\ndef added_{i}():\n    pass\n", "python")
        while not index.signatures([f"added_{i}"]):
            await asyncio.sleep(0.001)
        times_ms.append(1e3 * (perf_counter() - began_s))
    return times_ms, (index.status().n_chunks_rehashed - n_before) / n


async def measure(n_files: int, n_queries: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary) / "workspace", Path(temporary) / "cache"
        write_workspace(folder, n_files)
        memory = PeakMemory()
        index, build_s = await build(folder, cache)
        await index.stop()
        index, again_s = await build(folder, cache)
        try:
            times_ms, share_right = ask(index, folder, n_files, n_queries)
            edits_ms, n_hashed = await edit(index, folder, N_EDITS)
            status = index.status()
        finally:
            await index.stop()
        mode = f"{n_files} files"
        return [
            row("index build", mode, [n_files / build_s], "files/s"),
            row("index unchanged", mode, [n_files / again_s], "files/s"),
            row("query p50", mode, times_ms, "ms"),
            row("query p95", mode, times_ms, "ms", percentile(times_ms, 0.95)),
            row("definition first", mode, [100 * share_right], "%", runs=n_queries),
            row("edit to found", mode, edits_ms, "ms"),
            row("chunks hashed an edit", mode, [n_hashed], "chunks", runs=N_EDITS),
            row("memory", mode, [memory.grown / 2**20], "MiB"),
            row("database", mode, [status.bytes_on_disk / 2**20], "MiB"),
            row("chunks", mode, [float(status.n_chunks)], "chunks"),
        ]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def row(
    name: str,
    mode: str,
    values: list[float],
    unit: str,
    value: float | None = None,
    runs: int | None = None,
    baseline: float | None = None,
) -> dict[str, Any]:
    """A row as those of `flash-lsp bench --json`; `baseline` is what there is without an index."""
    value = median(values) if value is None else value
    return {
        "name": name,
        "model": None,
        "mode": mode,
        "value": value,
        "unit": unit,
        "baseline": None if baseline is None else "no index",
        "baseline_value": baseline,
        "ratio": value / baseline if baseline else None,
        "min": min(values),
        "max": max(values),
        "runs": len(values) if runs is None else runs,
    }


def run_alone(n_files: int, n_queries: int) -> dict[str, Any]:
    """The rows of one size, and how busy processes other than its own kept the machine."""
    arguments = ["--files", str(n_files), "--queries", str(n_queries), "--here"]
    command = [sys.executable, "-m", "benchmarks.index", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def show(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(report["machine"]["cpu"])
    table = Table("", "", "value", "no index", "min", "max", "runs")
    for r in report["rows"]:
        cells = (
            "" if r[key] is None else f"{r[key]:.1f}"
            for key in ("value", "baseline_value", "min", "max")
        )
        table.add_row(r["name"], r["mode"], *cells, f"{r['runs']} {r['unit']}")
    console.print(table)
    busy = report["machine"]["busy_share_of_others"]
    if busy is not None:
        console.print(f"Other processes used {busy:.0%} of the processors.")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--files",
        type=lambda text: [int(n) for n in text.split(",")],
        default=list(SIZES),
        metavar="N,N",
    )
    parser.add_argument("--queries", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.here:
        others = OtherUse([])
        rows = asyncio.run(measure(args.files[0], args.queries))
        print(json.dumps({"rows": rows, "busy": others.share()}))
        return 0
    sizes = [run_alone(n_files, args.queries) for n_files in args.files]
    busy = [size["busy"] for size in sizes if size["busy"] is not None]
    machine = {"cpu": cpu_name(), "busy_share_of_others": max(busy, default=None)}
    report = {"machine": machine, "rows": [r for size in sizes for r in size["rows"]]}
    if args.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
