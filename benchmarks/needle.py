"""A needle in code: whether one line among thousands is still there for the model to use.

    python -m benchmarks.needle --output needle.jsonl [--tokens 4096 8192 16384] [--trials 10]

A function that returns a code number is hidden in files of the standard library; the model must
write the number where the function is called. Each trial is run with all of the context and with
PFlash at several keep ratios. `kept` says that the line was among those kept, `found` that the
model wrote the number. Interrupted runs go on where they were.
"""

import argparse
import random
import sys
import sysconfig
from pathlib import Path
from time import monotonic

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.shown import shown_files
from engine.cancel import CancelToken
from engine.engine import Engine
from engine.request import GenerateRequest, PromptPart, Segment, SelectRequest
from lsp_server.cli_options import add_model_options, engine_config, positive
from lsp_server.prompt.repository import RepositoryBlock, ShownFile, block_parts, head_parts
from lsp_server.workspace.chunking import chunks_of

KEEPS = (0.05, 0.1, 0.2, 0.3)
WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "indigo",
    "juniper",
    "kestrel",
    "lagoon",
]
QUESTION = """\
from vault import access_code_of_{0}


def test_{0}():
    code = access_code_of_{0}()
    assert code == "\
"""


class Result(msgspec.Struct):
    """One prompt: `keep` 1 is all of the context."""

    n_tokens: int
    trial: int
    keep: float
    is_kept: bool
    is_found: bool
    n_prompt: int
    select_ms: float
    prefill_ms: float


def haystack(n_tokens: int, trial: int, engine: Engine) -> tuple[list[tuple[str, str]], str, str]:
    """Files of about so many tokens with the needle in one of them; the word and the number."""
    rng = random.Random(1000 * n_tokens + trial)
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(p for p in library.glob("*.py") if 4_000 < p.stat().st_size < 40_000)
    rng.shuffle(paths)
    files: list[tuple[str, str]] = []
    n = 0
    for path in paths:
        text = path.read_text("utf-8", "replace")
        ids = engine.tokenizer.encode(text)
        if n + len(ids) > n_tokens:
            lines = text.splitlines(keepends=True)
            text = "".join(lines[: max(len(lines) * (n_tokens - n) // len(ids), 1)])
        files.append((path.name, text))
        n += min(len(ids), n_tokens - n)
        if n >= n_tokens:
            break
    word, number = rng.choice(WORDS), str(rng.randint(10_000, 99_999))
    at = rng.randrange(len(files))
    name, text = files[at]
    starts = [chunk.first_line for chunk in chunks_of(text)] or [0]
    lines = text.splitlines(keepends=True)
    needle = f'def access_code_of_{word}():\n    return "{number}"\n\n\n'
    lines.insert(rng.choice(starts), needle)
    files[at] = (name, "".join(lines))
    return files, word, number


def prompt_of(engine: Engine, files: list[ShownFile], question: str) -> tuple[PromptPart, ...]:
    tokens = engine.info.special_tokens
    block = RepositoryBlock("app", tuple(files))
    before = (*block_parts(block, tokens), *head_parts(block, "test_vault.py", tokens))
    return (*before, PromptPart(question, heal=True))


def run_trial(engine: Engine, n_tokens: int, trial: int, keep: float) -> Result:
    files, word, number = haystack(n_tokens, trial, engine)
    question = QUESTION.format(word)
    chunks = [(name, chunk) for name, text in files for chunk in chunks_of(text)]
    segments = tuple(Segment(text=chunk.text, header=f"{name}\n") for name, chunk in chunks)
    shown = [ShownFile(name, text) for name, text in files]
    began = monotonic()
    if keep < 1:
        request = SelectRequest(
            query=question,
            segments=segments,
            budget_tokens=n_tokens,
            keep_ratio=keep,
        )
        selection = engine.select(request, CancelToken())
        shown = shown_files(segments, [chunk.first_line for _, chunk in chunks], selection)
    select_ms = 1e3 * (monotonic() - began)
    request = GenerateRequest(prompt=prompt_of(engine, shown, question), max_tokens=8, stop=('"',))
    result = engine.generate(request, CancelToken())
    return Result(
        n_tokens=n_tokens,
        trial=trial,
        keep=keep,
        is_kept=any(f'return "{number}"' in file.text for file in shown),
        is_found=result.text.strip().startswith(number),
        n_prompt=len(result.prompt_tokens),
        select_ms=select_ms,
        prefill_ms=result.timings_ms.prefill,
    )


def summary(results: list[Result]) -> Table:
    table = Table("tokens", "keep", "kept", "found", "found where full finds it", "prompt", "ms")
    full = {(r.n_tokens, r.trial) for r in results if r.keep == 1 and r.is_found}
    for n_tokens in sorted({r.n_tokens for r in results}):
        for keep in sorted({r.keep for r in results}):
            some = [r for r in results if (r.n_tokens, r.keep) == (n_tokens, keep)]
            if not some:
                continue
            asked = [r for r in some if (r.n_tokens, r.trial) in full]
            table.add_row(
                str(n_tokens),
                "all" if keep == 1 else f"{keep:g}",
                f"{sum(r.is_kept for r in some)} of {len(some)}",
                f"{sum(r.is_found for r in some)} of {len(some)}",
                f"{sum(r.is_found for r in asked)} of {len(asked)}",
                f"{sum(r.n_prompt for r in some) / len(some):.0f}",
                f"{sum(r.select_ms + r.prefill_ms for r in some) / len(some):.0f}",
            )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", nargs="*", type=positive, default=[4096, 8192, 16384])
    parser.add_argument("--trials", type=positive, default=10)
    parser.add_argument("--keeps", nargs="*", type=float, default=[*KEEPS, 1.0])
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--output", help="one JSON line for each prompt")
    add_model_options(parser)
    args = parser.parse_args()
    shard, n_shards = (int(part) for part in args.shard.split("/"))
    config = msgspec.structs.replace(engine_config(args), n_ctx=max(args.tokens) + 2048)
    engine = Engine.load(config)
    output = None if args.output is None else Path(args.output)
    rows = output.read_bytes().splitlines() if output is not None and output.exists() else []
    results = [msgspec.json.decode(row, type=Result) for row in rows]
    done = {(r.n_tokens, r.trial, r.keep) for r in results}
    for n_tokens in args.tokens:
        for trial in range(shard, args.trials, n_shards):
            for keep in args.keeps:
                if (n_tokens, trial, keep) in done:
                    continue
                results.append(run_trial(engine, n_tokens, trial, keep))
                if output is not None:
                    with output.open("ab") as file:
                        file.write(msgspec.json.encode(results[-1]) + b"\n")
                print(f"\r{len(results)} prompts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    Console(width=120).print(summary(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
