"""Replays real commits of a git repository and counts how often the next edit was foreseen.

    python -m benchmarks.next_edit REPOSITORY [--model qwen2.5-coder-1.5b] [--commits 200]

Each changed file of a commit is edited run by run of lines, from top to bottom. After each one the
next edit is asked for. An offer is right if all it does is part of what the commit went on to do.
After the last one nothing is to change, and every offer is a false one. Without --model only
repetitions are offered.
"""

import argparse
import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from engine.client import AsyncEngine, InProcessEngine
from engine.config import EngineConfig
from lsp_server.diffs import LineEdit, line_edits, split_lines
from lsp_server.documents import Document, PositionEncoding
from lsp_server.next_edit import NextEdit, predicted_edit, repeated_edit
from lsp_server.protocol import ContentChange, Position, Range

LANGUAGES = {".py": "python", ".go": "go", ".ts": "typescript", ".js": "javascript", ".rs": "rust"}
MOST_RUNS, MOST_RUN_LINES, MOST_FILE_LINES = 12, 10, 3000


@dataclass(frozen=True)
class FileChange:
    """One file of a commit, before and after."""

    commit: str
    path: str
    old: str
    new: str


def file_changes(repository: Path, n_commits: int) -> Iterator[FileChange]:
    """The changed files of the latest commits, in a fixed order."""
    log = git(repository, "log", "--no-merges", f"-n{n_commits}", "--format=%H").split()
    for commit in log:
        names = git(
            repository,
            "diff-tree",
            "-r",
            "--no-commit-id",
            "--diff-filter=M",
            "--name-only",
            commit,
        )
        for path in names.splitlines():
            if PurePath(path).suffix in LANGUAGES:
                old = git(repository, "show", f"{commit}^:{path}")
                new = git(repository, "show", f"{commit}:{path}")
                yield FileChange(commit, path, old, new)


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, check=True
    )
    return done.stdout.decode("utf-8", "replace")


def states(change: FileChange) -> Iterator[tuple[Document, bool]]:
    """The document after each run of lines is edited, and whether that was the last."""
    old, new = split_lines(change.old), split_lines(change.new)
    if len(old) > MOST_FILE_LINES:
        return
    runs = line_edits(old, new)
    sizes = [max(run.end - run.start, len(split_lines(run.new))) for run in runs]
    if not 0 < len(runs) <= MOST_RUNS or max(sizes) > MOST_RUN_LINES:
        return
    language = LANGUAGES[PurePath(change.path).suffix]
    document = Document(change.path, language, 0, change.old, PositionEncoding.UTF16)
    n_more = 0
    for n, run in enumerate(runs, 1):
        where = Range(Position(run.start + n_more, 0), Position(run.end + n_more, 0))
        document.change([ContentChange(run.new, where)], None)
        n_more += len(split_lines(run.new)) - (run.end - run.start)
        yield document, n == len(runs)


def n_differing(text: str, wanted: Sequence[str]) -> int:
    """Lines to take away and to add until a text is as wanted."""
    edits = line_edits(split_lines(text), wanted)
    return sum(edit.end - edit.start + len(split_lines(edit.new)) for edit in edits)


def is_right(document: Document, edit: LineEdit, wanted: str) -> bool:
    """Whether every line the edit takes away and adds is one the commit takes away or adds."""
    lines = split_lines(document.text)
    size = edit.end - edit.start + len(split_lines(edit.new))
    applied = "".join((*lines[: edit.start], edit.new, *lines[edit.end :]))
    target = split_lines(wanted)
    return n_differing(document.text, target) - n_differing(applied, target) >= size > 0


async def offer(engine: AsyncEngine | None, document: Document) -> NextEdit | None:
    found = repeated_edit(document, document.uri)
    if found is None and engine is not None:
        found = await predicted_edit(engine, document, document.uri, ())
    return found


async def replay(
    engine: AsyncEngine | None, changes: Iterator[FileChange], n_most: int, is_verbose: bool
) -> Counter[str]:
    """Count over at most `n_most` states that have something to change, and their last ones."""
    counts: Counter[str] = Counter()
    for change in changes:
        for document, is_last in states(change):
            found = await offer(engine, document)
            counts["nothing to change" if is_last else "to change"] += 1
            if found is None:
                continue
            good = not is_last and is_right(document, found.edit, change.new)
            verdict = "right" if good else ("false" if is_last else "wrong")
            counts[f"{found.source} {verdict}"] += 1
            if is_verbose:
                old = document.lines(found.edit.start, found.edit.end)
                print(f"{verdict} {found.source} ({found.why}) {change.commit[:8]} {change.path}")
                print(f"-{old}+{found.edit.new}", flush=True)
        if counts["to change"] >= n_most:
            break
    return counts


def summed(counts: Counter[str]) -> dict[str, Any]:
    """Precision, recall and the share of finished states with an offer, in all and by source."""

    def figures(sources: Sequence[str]) -> dict[str, Any]:
        right, wrong, false = (
            sum(counts[f"{source} {verdict}"] for source in sources)
            for verdict in ("right", "wrong", "false")
        )
        n_offers = right + wrong + false
        return {
            "offers": n_offers,
            "right": right,
            "precision": right / n_offers if n_offers else None,
            "recall": right / max(1, counts["to change"]),
            "false_offers": false / max(1, counts["nothing to change"]),
        }

    return {
        "to_change": counts["to change"],
        "nothing_to_change": counts["nothing to change"],
        "all": figures(("repeat", "model")),
        "repeat": figures(("repeat",)),
        "model": figures(("model",)),
    }


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    changes = file_changes(arguments.repository, arguments.commits)
    if arguments.model is None:
        return summed(await replay(None, changes, arguments.states, arguments.verbose))
    engine = InProcessEngine(EngineConfig(model=arguments.model))
    try:
        await engine.start()
        return summed(await replay(engine, changes, arguments.states, arguments.verbose))
    finally:
        await engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("repository", type=Path, help="a git repository")
    parser.add_argument("--model", help="catalogue name or GGUF path")
    parser.add_argument("--commits", type=int, default=200, help="latest commits (%(default)s)")
    parser.add_argument("--states", type=int, default=1000, help="at most (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="print every offer")
    print(json.dumps(asyncio.run(measure(parser.parse_args())), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
