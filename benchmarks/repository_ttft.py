"""Time to the first token with a large repository in reach.

    python -m benchmarks.repository_ttft [--tokens 16384] [--llama-cpp-python PY] [--json]

About so many tokens of code are candidates at a cursor. In one run: llama.cpp and this engine read
all of it; PFlash chooses from it with nothing known (cold), chooses anew after a keystroke and
after an edit of one file; and a keystroke finds the chosen block read already. Joint scoring, dense
and block-sparse, is timed for comparison with scoring a keystroke anew.
"""

import argparse
import json
import sysconfig
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.shown import shown_files
from engine import catalogue
from engine.cancel import CancelToken
from engine.engine import Engine
from engine.machine import cpu_name
from engine.request import GenerateRequest, PromptPart, Segment, Selection, SelectRequest
from lsp_server.cli_bench_machine import OtherUse
from lsp_server.cli_bench_peer import LlamaCpp
from lsp_server.cli_options import add_model_options, engine_config, positive
from lsp_server.prompt.repository import RepositoryBlock, ShownFile, block_parts, head_parts
from lsp_server.workspace.chunking import chunks_of

KEYS = "    result = self._choose(request"
N_KEYS = 12
SPARSE_ALPHA = 0.1


def segments_of(engine: Engine, n_tokens: int) -> tuple[list[Segment], list[int]]:
    """Chunks of the standard library, about so many tokens in all, and their first lines."""
    found: list[Segment] = []
    first_lines: list[int] = []
    n = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"], "asyncio").glob("*.py")):
        for chunk in chunks_of(path.read_text("utf-8")):
            n += len(engine.tokenizer.encode(chunk.text))
            if n > n_tokens:
                return found, first_lines
            found.append(Segment(text=chunk.text, header=f"{path.name}\n"))
            first_lines.append(chunk.first_line)
    return found, first_lines


class Bench:
    """One engine, one set of segments and one document."""

    def __init__(self, engine: Engine, args: argparse.Namespace) -> None:
        self.engine, self.args = engine, args
        self.segments, self.first_lines = segments_of(engine, args.tokens)
        source = Path(sysconfig.get_paths()["stdlib"], "selectors.py").read_text("utf-8")
        self.text = source[:2000].rpartition("\n")[0] + "\n"

    def select(self, query: str, **changes: Any) -> tuple[Selection, float]:
        request = SelectRequest(
            query=query,
            segments=tuple(self.segments),
            budget_tokens=self.args.budget,
            keep_ratio=0.3,
        )
        began = perf_counter()
        request = msgspec.structs.replace(request, **changes)
        selection = self.engine.select(request, CancelToken())
        return selection, 1e3 * (perf_counter() - began)

    def first_token_ms(self, files: list[ShownFile], text: str) -> tuple[float, int]:
        tokens = self.engine.info.special_tokens
        block = RepositoryBlock("app", tuple(files))
        before = (*block_parts(block, tokens), *head_parts(block, "main.py", tokens))
        prompt = (*before, PromptPart(text, heal=True))
        began = perf_counter()
        result = self.engine.generate(GenerateRequest(prompt=prompt, max_tokens=1), CancelToken())
        return 1e3 * (perf_counter() - began), len(result.prompt_tokens)

    def run(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []

        def add(what: str, ms: float, n_tokens: int) -> None:
            rows.append({"what": what, "ms": round(ms, 1), "tokens": n_tokens})

        cold, cold_ms = self.select(self.text)
        block = shown_files(self.segments, self.first_lines, cold)
        read_ms, n_prompt = self.first_token_ms(block, self.text)
        add("PFlash, nothing known: choose and read", cold_ms + read_ms, n_prompt)
        scored, read = [], []
        for n in range(1, N_KEYS + 1):
            text = self.text + KEYS[:n]
            again, ms = self.select(text)
            assert again.n_reused == len(self.segments)
            scored.append(ms)
            read.append(self.first_token_ms(block, text)[0])
        add("a keystroke, its block read before", median(read), n_prompt)
        add("choose again after a keystroke", median(scored), again.n_tokens_run)
        edited = self.segments[3]
        self.segments[3] = msgspec.structs.replace(edited, text=edited.text + "\nx = 1\n")
        after, ms = self.select(self.text)
        assert after.n_reused == len(self.segments) - 1
        add("choose again after an edit of another file", ms, after.n_tokens_run)
        self.segments[3] = edited
        for what, alpha in (("joint scoring, block-sparse", SPARSE_ALPHA), ("joint scoring", 0.0)):
            joint, ms = self.select(self.text, scorer="joint", alpha=alpha)
            add(what, ms, joint.n_tokens_run)
        whole = [ShownFile(s.header.strip(), s.text) for s in self.segments]
        add("all of it read by this engine", *self.first_token_ms(whole, self.text))
        return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=positive, default=16384)
    parser.add_argument("--budget", type=positive, default=1024)
    parser.add_argument("--scorer", help="another model that scores")
    parser.add_argument("--llama-cpp-python", metavar="PY", help="an interpreter with llama_cpp")
    parser.add_argument("--json", action="store_true")
    add_model_options(parser)
    args = parser.parse_args()
    config = msgspec.structs.replace(
        engine_config(args),
        n_ctx=args.tokens + 2048,
        scorer=args.scorer,
        prefix_cache_bytes=2**30,
    )
    children: list[int] = []
    use = OtherUse(children)
    engine = Engine.load(config)
    bench = Bench(engine, args)
    rows = bench.run()
    if args.llama_cpp_python:
        ids = [id for s in bench.segments for id in engine.tokenizer.encode(s.header + s.text)]
        ids += engine.tokenizer.encode(bench.text)
        path = catalogue.find(args.model, None)
        n_threads = engine.info.n_threads
        with LlamaCpp(args.llama_cpp_python, path, n_threads, args.tokens + 2048) as peer:
            children.append(peer.pid)
            ms = peer.prefill_ms(ids)
        rows.append({"what": "all of it read by llama.cpp", "ms": round(ms, 1), "tokens": len(ids)})
    report = {
        "machine": cpu_name(),
        "model": args.model,
        "scorer": engine.scorer.name,
        "threads": engine.info.n_threads,
        "other_use": use.share(),
        "rows": rows,
    }
    if args.json:
        print(json.dumps(report))
        return 0
    baseline = rows[-1]["ms"]
    table = Table("", "ms", "tokens", f"{rows[-1]['what']} : this")
    for row in rows:
        ratio = f"{baseline / row['ms']:.1f}"
        table.add_row(row["what"], f"{row['ms']:.0f}", str(row["tokens"]), ratio)
    Console(width=110).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
