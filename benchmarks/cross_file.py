"""What the repository in the prompt is worth: lines completed that need another file.

    python -m benchmarks.cross_file --output cross.jsonl [--lines 500] [--scorer NAME]
    python -m benchmarks.cross_file --recall [--lines 60]

Takes calls in installed Python packages whose callee is defined in another file of the package,
masks the rest of the line from its beginning or from behind the opening bracket, and completes it
with different parts of the package in the prompt: none, the nearest files, what full-text search
finds, everything that search proposes, and PFlash at several keep ratios. `--recall` asks only
whether the callee's definition is among the lines that are kept. A run that was interrupted goes on
where it was; `--shard 0/8` does every eighth line.
"""

import argparse
import ast
import asyncio
import difflib
import random
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from engine.cancel import CancelToken
from engine.engine import Engine
from engine.request import SelectRequest
from lsp_server.cli_options import add_model_options, engine_config, positive
from lsp_server.completion import CompletionOptions, completion_request
from lsp_server.context_choice import Proposal, chosen, propose
from lsp_server.context_options import ContextOptions
from lsp_server.prompt import CompletionInput
from lsp_server.prompt.repository import RepositoryBlock, ShownFile
from lsp_server.workspace import CursorQuery, IndexOptions, WorkspaceIndex

LEAST_FILES, MOST_FILES = 5, 80
MOST_PER_PACKAGE = 14
BEFORE_CHARS, AFTER_CHARS = 1500, 300
LINE_TOKENS = 48
BASES = ("none", "search", "full")
KEEPS = (0.1, 0.2, 0.3, 0.5)
_CALL = re.compile(r"\b([A-Za-z_]\w{3,})\(")


class Case(msgspec.Struct, frozen=True):
    """A call of something defined elsewhere: the masked text is `path`[offset:end)."""

    root: str
    path: str
    offset: int
    end: int
    name: str
    defined_in: str
    defined_at: int
    is_whole_line: bool


class Outcome(msgspec.Struct):
    """One prompt's result. `has_definition` tells whether the callee's was shown."""

    text: str
    is_exact: bool
    similarity: float
    has_definition: bool
    n_prompt: int
    prefill_ms: float
    select_ms: float


class Line(msgspec.Struct):
    idx: int
    case: Case
    settings: str
    outcomes: dict[str, Outcome]


def packages() -> list[Path]:
    """Folders of Python modules that are one package each."""
    library = Path(sysconfig.get_paths()["stdlib"])
    roots = [Path(sysconfig.get_paths()["purelib"]), library]
    found: list[Path] = []
    for root in roots:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            n_files = len(list(folder.glob("*.py")))
            if folder.name != "site-packages" and LEAST_FILES <= n_files <= MOST_FILES:
                found.append(folder)
    return found


def cases_of(folder: Path, rng: random.Random) -> list[Case]:
    """Calls in a package of what another of its modules defines, and no third one."""
    texts = {path: _read(path) for path in sorted(folder.glob("*.py"))}
    defined: dict[str, list[tuple[Path, int]]] = {}
    for path, text in texts.items():
        for name, line in _definitions(text):
            defined.setdefault(name, []).append((path, line))
    found: list[Case] = []
    for path, text in texts.items():
        start = 0
        for number, line in enumerate(text.splitlines(keepends=True)):
            for match in _CALL.finditer(line):
                places = defined.get(match.group(1), [])
                is_elsewhere = len(places) == 1 and places[0][0] != path
                is_code = not line.lstrip().startswith(("#", "def ", "class ", "import ", "from "))
                if number < 20 or not (is_elsewhere and is_code and line.strip()):
                    continue
                is_whole = rng.random() < 0.5
                indent = len(line) - len(line.lstrip())
                offset = start + (indent if is_whole else match.end())
                end = start + len(line.rstrip())
                if end - offset >= 4:
                    other, at = places[0]
                    found.append(
                        Case(
                            str(folder),
                            path.name,
                            offset,
                            end,
                            match.group(1),
                            other.name,
                            at,
                            is_whole,
                        )
                    )
            start += len(line)
    rng.shuffle(found)
    by_name = {case.name: case for case in found}  # one call of each name
    return list(by_name.values())[:MOST_PER_PACKAGE]


def sample_cases(n_lines: int, seed: int) -> list[Case]:
    """The same seed and packages give the same lines."""
    rng = random.Random(seed)
    found = [case for folder in packages() for case in cases_of(folder, rng)]
    rng.shuffle(found)
    return found[:n_lines]


def _definitions(text: str) -> Iterator[tuple[str, int]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno - 1


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return ""


class Indexes:
    """One index at a time: cases of a package come one after another."""

    def __init__(self) -> None:
        self._root: str | None = None
        self._index = WorkspaceIndex(IndexOptions())

    async def of(self, root: str) -> WorkspaceIndex:
        if self._root != root:
            await self._index.start([Path(root).as_uri()])
            while self._index.status().is_building:
                await asyncio.sleep(0.01)
            self._root = root
        return self._index

    async def close(self) -> None:
        await self._index.stop()


def input_of(case: Case) -> tuple[CompletionInput, CursorQuery, str]:
    """What the cursor sees, what the index is asked, and the masked text."""
    path = Path(case.root) / case.path
    text = _read(path)
    prefix, rest = text[: case.offset], text[case.end :]
    inp = CompletionInput(prefix=prefix, suffix=rest, language_id="python", path=case.path)
    # The index holds the file on disk, but never proposes a document's own file.
    query = CursorQuery(
        uri=path.as_uri(), text=prefix + rest, offset=case.offset, language="python"
    )
    return inp, query, text[case.offset : case.end]


class Bench:
    """One model over all cases."""

    def __init__(self, engine: Engine, options: argparse.Namespace) -> None:
        self._engine, self._options = engine, options

    def line(self, case: Case, index: WorkspaceIndex) -> dict[str, Outcome]:
        inp, query, masked = input_of(case)
        most = self._options.context_tokens
        options = ContextOptions(
            mode="always",
            budget_tokens=most,
            max_prefix_chars=BEFORE_CHARS,
            max_suffix_chars=AFTER_CHARS,
        )
        proposal = _cut(propose(index, query, case.path, options), most)
        n_files_tokens = int(0.3 * most)
        outcomes: dict[str, Outcome] = {}
        name = Path(case.root).name
        plain = [("none", None)]
        plain.append(("nearest", _nearest(case, name, 3 * n_files_tokens)))
        plain.append(("search", _whole(proposal, name, 3 * n_files_tokens)))
        plain.append(("full", _whole(proposal, name, sys.maxsize)))
        for label, block in plain:
            outcomes[label] = self._complete(case, inp, masked, block, 0.0)
        for method in self._options.methods:
            for keep in self._options.keeps:
                request = msgspec.structs.replace(
                    proposal.request, scorer=method, keep_ratio=keep, least_pull=0.0
                )
                label = f"{method} {keep:g}"
                outcomes[label] = self._pflash(case, inp, masked, proposal, request, options)
        return outcomes

    def _pflash(
        self,
        case: Case,
        inp: CompletionInput,
        masked: str,
        proposal: Proposal,
        request: SelectRequest,
        options: ContextOptions,
    ) -> Outcome:
        began = monotonic()
        selection = self._engine.select(request, CancelToken())
        select_ms = 1e3 * (monotonic() - began)
        block = chosen(proposal, selection, options, Path(case.root).name).block
        return self._complete(case, inp, masked, block, select_ms)

    def _complete(
        self,
        case: Case,
        inp: CompletionInput,
        masked: str,
        block: RepositoryBlock | None,
        select_ms: float,
    ) -> Outcome:
        line = _read(Path(case.root) / case.defined_in).splitlines()[case.defined_at]
        shown = [file for file in (block.files if block else ()) if file.path == case.defined_in]
        has_definition = any(line in file.text.splitlines() for file in shown)
        if self._options.recall:
            return Outcome("", False, 0.0, has_definition, 0, 0.0, select_ms)
        inp = CompletionInput(
            inp.prefix, inp.suffix, inp.language_id, inp.path, multiline=False, repository=block
        )
        form = CompletionOptions(
            max_tokens=LINE_TOKENS, max_prefix_chars=BEFORE_CHARS, max_suffix_chars=AFTER_CHARS
        )
        request = completion_request(self._engine.info, inp, form)
        request = msgspec.structs.replace(request, stop=(*request.stop, "\n"))
        result = self._engine.generate(request, CancelToken())
        text = result.text.strip()
        return Outcome(
            text=text,
            is_exact=text == masked.strip(),
            similarity=difflib.SequenceMatcher(None, text, masked.strip(), autojunk=False).ratio(),
            has_definition=has_definition,
            n_prompt=len(result.prompt_tokens),
            prefill_ms=result.timings_ms.prefill,
            select_ms=select_ms,
        )


def _cut(proposal: Proposal, most_tokens: int) -> Proposal:
    """As much of a proposal as fits the context that "full" is shown: about 3.2 chars a token."""
    n_chars = n = 0
    for chunk in proposal.chunks:
        n_chars += len(chunk.text)
        if n_chars > 3.2 * most_tokens and n:
            break
        n += 1
    request = msgspec.structs.replace(proposal.request, segments=proposal.request.segments[:n])
    return Proposal(
        proposal.query, proposal.path, proposal.chunks[:n], request, proposal.milliseconds
    )


def _whole(proposal: Proposal, name: str, most_chars: int) -> RepositoryBlock:
    """Whole chunks in the order of the search, the best nearest to the cursor."""
    files: list[ShownFile] = []
    n_chars = 0
    for chunk in proposal.chunks:
        n_chars += len(chunk.text)
        if n_chars > most_chars and files:
            break
        files.append(ShownFile(chunk.path, chunk.text))
    return RepositoryBlock(name, tuple(files[::-1]))


def _nearest(case: Case, name: str, most_chars: int) -> RepositoryBlock:
    """The beginnings of the files beside the current one, by name."""
    names = sorted(path.name for path in Path(case.root).glob("*.py"))
    at = names.index(case.path)
    order = sorted((n for n in names if n != case.path), key=lambda n: abs(names.index(n) - at))
    files: list[ShownFile] = []
    for other in order[:4]:
        text = _read(Path(case.root) / other)[: most_chars // 4]
        files.append(ShownFile(other, text[: text.rfind("\n") + 1]))
    return RepositoryBlock(name, tuple(files[::-1]))


def differences(lines: Sequence[Line]) -> Table:
    """Exact matches and similarity of each context less those of "none", "search" and "full" on
    the same lines, with 95 % intervals from 2,000 resamplings of the lines, in points."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(lines), (2000, len(lines)))
    table = Table("context", *(f"{kind} - {base}" for base in BASES for kind in ("exact", "alike")))
    for label in lines[0].outcomes:
        cells = [label]
        for base in BASES:
            pairs = [(line.outcomes[label], line.outcomes[base]) for line in lines]
            exact = np.array([float(a.is_exact) - float(b.is_exact) for a, b in pairs])
            alike = np.array([a.similarity - b.similarity for a, b in pairs])
            for values in (100 * exact, 100 * alike):
                low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
                cells.append(f"{values.mean():+.1f} ({low:+.1f}..{high:+.1f})")
        table.add_row(*cells)
    return table


def summary(lines: Sequence[Line]) -> Table:
    """Shares with 95 % intervals from 2,000 resamplings of the lines."""
    rng = np.random.default_rng(0)
    table = Table("context", "exact", "similarity", "definition shown", "prompt", "prefill ms")
    picks = rng.integers(0, len(lines), (2000, len(lines)))
    for label in lines[0].outcomes:
        found = [line.outcomes[label] for line in lines]
        exact = np.array([one.is_exact for one in found], float)
        alike = np.array([one.similarity for one in found])
        cells = [label]
        for values in (exact, alike):
            low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
            cells.append(f"{values.mean():.3f} ({low:.3f}..{high:.3f})")
        cells.append(f"{np.mean([one.has_definition for one in found]):.3f}")
        cells.append(f"{np.median([one.n_prompt for one in found]):.0f}")
        cells.append(f"{np.median([one.prefill_ms for one in found]):.0f}")
        table.add_row(*cells)
    return table


async def run(args: argparse.Namespace) -> int:
    cases = sample_cases(args.lines, args.seed)
    shard, n_shards = (int(part) for part in args.shard.split("/"))
    config = msgspec.structs.replace(
        engine_config(args),
        n_ctx=args.context_tokens + 4096,
        scorer=args.scorer,
        prefix_cache_bytes=2**28,
    )
    engine = Engine.load(config)
    settings = f"{args.model}, scorer {args.scorer}, {args.context_tokens}, seed {args.seed}"
    output = None if args.output is None else Path(args.output)
    done = _done(output, settings)
    bench, indexes = Bench(engine, args), Indexes()
    wanted = [i for i in range(len(cases)) if i % n_shards == shard and i not in done]
    # One package after another, so that each is indexed once.
    for n, i in enumerate(sorted(wanted, key=lambda i: (cases[i].root, i))):
        outcomes = bench.line(cases[i], await indexes.of(cases[i].root))
        done[i] = Line(i, cases[i], settings, outcomes)
        if output is not None:
            with output.open("a", encoding="utf-8") as file:
                file.write(msgspec.json.encode(done[i]).decode() + "\n")
        print(f"\r{n + 1}/{len(wanted)} lines", end="", file=sys.stderr, flush=True)
    await indexes.close()
    print(file=sys.stderr)
    lines = [done[i] for i in sorted(done)]
    for table in (summary(lines), differences(lines)):
        Console(width=160).print(table)
    return 0


def _done(path: Path | None, settings: str) -> dict[int, Line]:
    if path is None or not path.exists():
        return {}
    rows = [msgspec.json.decode(row, type=Line) for row in path.read_bytes().splitlines()]
    for row in rows:
        if row.settings != settings:
            raise SystemExit(f"{path} is of a run with {row.settings}; name another file")
    return {row.idx: row for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=positive, default=500)
    parser.add_argument("--context-tokens", type=positive, default=4096)
    parser.add_argument("--methods", nargs="*", default=["incremental", "joint"])
    parser.add_argument("--keeps", nargs="*", type=float, default=list(KEEPS))
    parser.add_argument("--scorer", help="another model that scores")
    parser.add_argument("--recall", action="store_true", help="complete nothing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--output", help="one JSON line for each line completed")
    add_model_options(parser)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
