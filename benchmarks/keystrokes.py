"""Typing in a repository: how long text takes to appear, key by key, against the real server.

    python -m benchmarks.keystrokes [--repository .] [--files 12] [--modes off auto] [--json]

Takes functions of the repository's own files, leaves out their second half and types it back as a
person does: a key each 90 ms, a rest at the end of each line and at every fourth word. Every key
sends the change and asks for a completion, as editors do. A question that the next key overtakes is
counted as superseded; of those the model was asked, the time to the answer is kept. Every mode
of `pflashMode` types the same text into a server of its own.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.editor import Editor
from benchmarks.index import percentile
from engine.machine import cpu_name
from lsp_server.cli_options import positive

KEY_S, LINE_REST_S, WORD_REST_S = 0.09, 1.2, 0.5
LEAST_LINES, MOST_CHARS = 8, 160
WARM_UP_S = 6.0  # for the repository's block to be chosen and read, as while a file is looked at
_FUNCTION = re.compile(r"^(    )?(?:async )?def \w+", re.MULTILINE)


def passages(repository: Path, n_files: int, seed: int) -> list[tuple[str, str, str, str]]:
    """(path, text before, text to type, text after) of one function in each of some files."""
    rng = random.Random(seed)
    names = subprocess.run(
        ["git", "-C", str(repository), "ls-files", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    rng.shuffle(names)
    found: list[tuple[str, str, str, str]] = []
    for name in names:
        text = (repository / name).read_text("utf-8")
        starts = [match.start() for match in _FUNCTION.finditer(text)] + [len(text)]
        places = [
            (a, b)
            for a, b in zip(starts, starts[1:], strict=False)
            if text.count("\n", a, b) >= LEAST_LINES
        ]
        if not places:
            continue
        a, b = rng.choice(places)
        middle = text.index("\n", (a + b) // 2) + 1
        end = text.rfind("\n", middle, min(b, middle + MOST_CHARS))
        if end - middle > 40:
            found.append((name, text[:middle], text[middle:end], text[end:]))
        if len(found) == n_files:
            break
    return found


class Typist:
    """Someone at an editor, and the times of the answers."""

    def __init__(self, editor: Editor, folder: Path) -> None:
        self._editor, self._folder = editor, folder
        self.outcomes: Counter[str] = Counter()
        self._n_asked = 0
        self.ms: list[float] = []  # of answers the model was asked for
        self.cached_ms: list[float] = []

    async def type(self, name: str, before: str, typed: str, after: str) -> None:
        path = self._folder / name
        self._editor.open(path, before + after)
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        await self._ask(path, line, column, patience_s=30.0)
        await asyncio.sleep(WARM_UP_S)
        for n, char in enumerate(typed):
            self._editor.insert(path, line, column, char)
            line, column = (line + 1, 0) if char == "\n" else (line, column + 1)
            is_rest = char == "\n" or (char == " " and n % 4 == 0)
            rest_s = LINE_REST_S if char == "\n" else WORD_REST_S if is_rest else KEY_S
            began = monotonic()
            await self._ask(path, line, column, rest_s)
            await asyncio.sleep(max(rest_s - (monotonic() - began), 0))

    async def _ask(self, path: Path, line: int, column: int, patience_s: float) -> None:
        began = monotonic()
        answer = asyncio.ensure_future(self._editor.complete(path, line, column))
        try:
            text = await asyncio.wait_for(asyncio.shield(answer), patience_s)
        except TimeoutError:
            self.outcomes["superseded"] += 1
            return
        ms = 1e3 * (monotonic() - began)
        self.outcomes["offered" if text else "nothing"] += 1
        stats = await self._editor.request("flash/stats")
        counted = stats["outcomes"].get("offered", 0)
        if text:
            (self.ms if counted > self._n_asked else self.cached_ms).append(ms)
        self._n_asked = counted


async def run_mode(
    mode: str, args: argparse.Namespace, folder: Path, cache: Path
) -> dict[str, Any]:
    options = {"pflashMode": mode, "pflashDiskMebibytes": 0}
    editor = await Editor.start(folder, cache, args.model, options)
    while True:
        status = await editor.request("flash/status")
        index = status.get("index") or {}
        if status["state"] == "ready" and not index.get("isBuilding", False):
            break
        await asyncio.sleep(0.2)
    typist = Typist(editor, folder)
    for name, before, typed, after in passages(Path(args.repository), args.files, args.seed):
        await typist.type(name, before, typed, after)
    stats = await editor.request("flash/stats")
    await editor.close()
    n_asked = sum(typist.outcomes.values())
    return {
        "mode": mode,
        "asked": n_asked,
        "offered": typist.outcomes["offered"],
        "superseded_share": typist.outcomes["superseded"] / max(n_asked, 1),
        "from_the_model": len(typist.ms),
        "from_the_cache": len(typist.cached_ms),
        "first_text_ms_p50": percentile(typist.ms, 0.5) if typist.ms else 0.0,
        "first_text_ms_p95": percentile(typist.ms, 0.95) if typist.ms else 0.0,
        "outcomes": stats["outcomes"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", default=".")
    parser.add_argument("--files", type=positive, default=12)
    parser.add_argument("--modes", nargs="*", default=["off", "auto"])
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"
        ignore = shutil.ignore_patterns(".git", ".venv", "build", "*.so", "*.gguf", "__pycache__")
        shutil.copytree(args.repository, folder, ignore=ignore)
        rows = [
            asyncio.run(run_mode(mode, args, folder, Path(name) / "cache")) for mode in args.modes
        ]
    if args.json:
        print(json.dumps({"machine": cpu_name(), "model": args.model, "rows": rows}))
        return 0
    table = Table("pflash", "asked", "offered", "superseded", "cached", "p50 ms", "p95 ms")
    for row in rows:
        table.add_row(
            row["mode"],
            str(row["asked"]),
            str(row["offered"]),
            f"{row['superseded_share']:.0%}",
            str(row["from_the_cache"]),
            f"{row['first_text_ms_p50']:.0f}",
            f"{row['first_text_ms_p95']:.0f}",
        )
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
