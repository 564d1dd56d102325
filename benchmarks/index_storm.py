"""Whether completions wait for the workspace index: a storm of edits, with the index and without.

    python -m benchmarks.index_storm [--model smollm2-135m] [--files 20000] [--seconds 60] [--json]

Real server processes over stdio, one for each mode, each with a generated workspace of its own
(benchmarks/index.py). They replay the same session in turns of a few seconds, while the others are
held: at first while the index is being built, then while 20 edits a second reach eight open
documents and, one in four, files on disk. Meanwhile someone types in a ninth document, and every
key asks for a completion. `off` has no index; `index` has one; `repository` shows the model what
it finds, which makes longer prompts.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.editor import START_S, Editor, SessionError
from benchmarks.index import Vocabulary, path_of, percentile, row, show, write_workspace
from engine.catalogue import find
from engine.machine import cpu_name

MODES: dict[str, dict[str, Any]] = {
    "off": {"indexEnabled": False, "pflashMode": "off"},
    "index": {"pflashMode": "off"},
    "repository": {},
}
# No pauses and short answers: what is left is what could wait for the index.
COMMON = {"debounceMs": 0, "multiline": False, "maxTokens": 16}
EDITS_PER_S = 20
DISK_EVERY = 4
N_OPEN = 8
KEY_EVERY_S = 0.25
TURN_S = 5.0
BUILDING_S = 30.0  # of each mode, at most
REST_S = 1.2  # longer than an edit waits before it is indexed
MEMORY_BUDGET_MIB = 128  # what the index may add to the server
SEED = 11


@dataclass
class Typist:
    """Where the session has got to; the same in every mode after as many keys and edits."""

    editor: Editor
    folder: Path
    n_files: int
    n_edits: int = 0
    line: int = 0
    typed: str = ""
    names: list[str] = field(default_factory=lambda: Vocabulary(SEED).names(4096))
    texts: list[str] = field(default_factory=list[str])
    memory: list[int] = field(default_factory=list[int])

    def path(self, n: int) -> Path:
        """One of the session's documents, spread over the workspace; the last is typed in."""
        return self.folder / path_of(n * self.n_files // (N_OPEN + 1))

    def open_all(self) -> None:
        for n in range(N_OPEN + 1):
            text = self.path(n).read_text("utf-8")
            self.editor.open(self.path(n), text)
        # The middle of the last one, below a function's head and document string.
        lines = self.path(N_OPEN).read_text("utf-8").splitlines()
        heads = [n for n, line in enumerate(lines) if line.startswith("def ")]
        self.line = heads[len(heads) // 2] + 2
        self._end_line()

    async def key(self) -> float:
        """Type a character and ask; the milliseconds until the answer."""
        name = self.names[len(self.texts) // 8]
        if len(self.texts) % 8 == 0 and self.texts:
            self.line += 1
            self._end_line()
        char = name[len(self.texts) % 8] if len(self.texts) % 8 < len(name) else "_"
        document = self.path(N_OPEN)
        began_s = perf_counter()
        self.editor.insert(document, self.line, 4 + len(self.typed), char)
        self.typed += char
        text = await self.editor.complete(document, self.line, 4 + len(self.typed))
        elapsed_s = perf_counter() - began_s
        self.texts.append(text)
        return 1e3 * elapsed_s

    def _end_line(self) -> None:
        self.editor.insert(self.path(N_OPEN), self.line, 0, "    \n")
        self.typed = ""

    def edit(self) -> None:
        """The next edit of the storm: a line more in an open document or in a file."""
        n = self.n_edits
        self.n_edits += 1
        a, b = self.names[n % len(self.names)], self.names[(3 * n + 1) % len(self.names)]
        line = f"    {a}_{n} = {b}({a})\n"
        if n % DISK_EVERY == 0:
            path = self.folder / path_of((7 * n + 1) % self.n_files)
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
            self.editor.changed_on_disk(path)
        else:
            self.editor.insert(self.path(n % N_OPEN), 6, 0, line)

    async def index(self) -> dict[str, Any] | None:
        return (await self.editor.request("flash/status"))["index"]


async def turn(typist: Typist, seconds: float, *, is_storm: bool) -> list[float]:
    """Milliseconds of the completions of one turn."""
    typist.editor.go_on()
    began_s = perf_counter()
    storm = asyncio.create_task(_storm(typist, began_s + seconds)) if is_storm else None
    times_ms: list[float] = []
    while (now_s := perf_counter()) < began_s + seconds:
        times_ms.append(await typist.key())
        typist.memory.append(typist.editor.memory_bytes())
        await asyncio.sleep(max(0.0, now_s + KEY_EVERY_S - perf_counter()))
    if storm is not None:
        await storm
        await asyncio.sleep(REST_S)
    typist.editor.hold()
    return times_ms


async def _storm(typist: Typist, end_s: float) -> None:
    began_s = perf_counter()
    for n in range(10**9):
        wait_s = began_s + n / EDITS_PER_S - perf_counter()
        if began_s + n / EDITS_PER_S >= end_s:
            return
        await asyncio.sleep(max(0.0, wait_s))
        typist.edit()


async def begin(mode: str, folder: Path, model: str, n_files: int) -> Typist:
    """A server that has loaded its model and answered once, and is held then."""
    workspace = folder / mode / "workspace"
    write_workspace(workspace, n_files)
    editor = await Editor.start(workspace, folder / mode / "cache", model, COMMON | MODES[mode])
    typist = Typist(editor, workspace, n_files)
    typist.open_all()
    end_s = perf_counter() + START_S
    while (await editor.request("flash/status"))["state"] != "ready":
        if perf_counter() > end_s:
            raise SessionError(f"the model is not ready after {START_S:.0f} s")
        await asyncio.sleep(0.05)
    await typist.key()
    editor.hold()
    return typist


async def is_building(typist: Typist) -> bool:
    typist.editor.go_on()
    index = await typist.index()
    typist.editor.hold()
    return index is not None and index["isBuilding"]


async def run_session(
    modes: list[str], model: str, n_files: int, seconds: float
) -> list[dict[str, Any]]:
    """The rows of all modes, which take turns."""
    with tempfile.TemporaryDirectory() as temporary:
        typists: dict[str, Typist] = {}
        try:
            for mode in modes:
                typists[mode] = await begin(mode, Path(temporary), model, n_files)
            building = await while_building(typists)
            storm: dict[str, list[float]] = {mode: [] for mode in modes}
            before = {mode: await _rehashed(typist) for mode, typist in typists.items()}
            for _ in range(max(1, round(seconds / TURN_S))):
                for mode, typist in typists.items():
                    storm[mode] += await turn(typist, min(TURN_S, seconds), is_storm=True)
            hashed = {mode: await _rehashed(typists[mode]) - before[mode] for mode in modes}
        finally:
            for typist in typists.values():
                await typist.editor.close()
    return rows_of(typists, building, storm, hashed)


async def while_building(typists: dict[str, Typist]) -> dict[str, list[float]]:
    """Milliseconds of completions by mode, with every index in its first build; those that are
    not ready after `BUILDING_S` then go on alone."""
    building: dict[str, list[float]] = {mode: [] for mode in typists}
    for _ in range(round(BUILDING_S / TURN_S)):
        if any([await is_building(typist) for typist in typists.values()]):
            for mode, typist in typists.items():
                if mode == "off" or await is_building(typist):
                    building[mode] += await turn(typist, TURN_S, is_storm=False)
    for typist in typists.values():
        while await is_building(typist):
            typist.editor.go_on()
            await asyncio.sleep(1)
            typist.memory.append(typist.editor.memory_bytes())
    return building


async def _rehashed(typist: Typist) -> int:
    typist.editor.go_on()
    index = await typist.index()
    typist.editor.hold()
    return 0 if index is None else index["chunksRehashed"]


def rows_of(
    typists: dict[str, Typist],
    building: dict[str, list[float]],
    storm: dict[str, list[float]],
    hashed: dict[str, int],
) -> list[dict[str, Any]]:
    """What was seen of every mode, next to `off`."""
    rows: list[dict[str, Any]] = []
    for what, times in (("while building", building), ("in the storm", storm)):
        for mode, values in times.items():
            if not values:
                continue
            name = f"completion {what}"
            p95 = percentile(values, 0.95)
            rows.append(row(f"{name}, p50", mode, values, "ms", baseline=_mid(times["off"])))
            rows.append(row(f"{name}, p95", mode, values, "ms", p95, baseline=_high(times["off"])))
    off = typists["off"]
    least = max(off.memory) / 2**20
    for mode, typist in typists.items():
        peak = max(typist.memory) / 2**20
        rows.append(row("peak memory", mode, [peak], "MiB", baseline=least))
        if mode == "off":
            continue
        rows.append(row("memory of the index", mode, [peak - least], "MiB"))
        rows.append(row("chunks hashed an edit", mode, [hashed[mode] / typist.n_edits], "chunks"))
        if mode == "index":
            pairs = list(zip(off.texts, typist.texts, strict=False))
            same = sum(a == b for a, b in pairs) / len(pairs)
            rows.append(row("same completions as off", mode, [100 * same], "%", runs=len(pairs)))
    return rows


def _mid(values: list[float]) -> float | None:
    return median(values) if values else None


def _high(values: list[float]) -> float | None:
    return percentile(values, 0.95) if values else None


def problems(rows: list[dict[str, Any]]) -> list[str]:
    """What must not be, whatever the machine."""
    found: list[str] = []
    for r in rows:
        if r["name"] == "memory of the index" and r["value"] > MEMORY_BUDGET_MIB:
            found.append(f"{r['mode']}: {r['value']:.0f} MiB, more than {MEMORY_BUDGET_MIB}")
        if r["name"] == "same completions as off" and r["value"] < 100:
            found.append(f"{r['mode']}: {100 - r['value']:.1f} % of the completions are others")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="default: %(default)s")
    parser.add_argument("--files", type=int, default=20_000, metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the storm, a mode")
    parser.add_argument("--repository", action="store_true", help="the third mode as well")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    args = parser.parse_args(arguments)
    modes = [mode for mode in MODES if mode != "repository" or args.repository]
    model = str(find(args.model))
    rows = asyncio.run(run_session(modes, model, args.files, args.seconds))
    machine = {"cpu": cpu_name(), "busy_share_of_others": None}
    report = {"machine": machine, "rows": rows, "problems": problems(rows)}
    if args.json:
        print(json.dumps(report))
    else:
        show(report)
        for problem in report["problems"]:
            print(problem)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
