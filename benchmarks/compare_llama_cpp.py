"""Our logits next to llama.cpp's, live, on the same file and the same 20,480 tokens of real code.

    python -m benchmarks.compare_llama_cpp [--model M] [--llama-cpp-python PYTHON] [--json]

Prints argmax agreement, the Kullback-Leibler divergence over the whole vocabulary and the ratio of
perplexities, for four pairs: both engines as they run every day, llama.cpp against itself with its
attention computed another way (the noise that 8-bit activations bring), our q8_0 KV cache against
our f16 one, and both engines without rounding of activations. Exits with 1 if the perplexities
differ by more than 0.5 %, or if without rounding fewer than 99.5 % of the positions agree.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.agreement import CLEAR_LEAD_NATS, Agreement, add_logits, window_nll
from benchmarks.references.f32_copy import write_f32_copy
from benchmarks.references.reference_file import (
    LOGITS_WINDOWS,
    N_WINDOWS,
    WINDOW_TOKENS,
    reference_text,
    windows_of,
)
from engine import catalogue
from engine.config import EngineConfig, KvCacheType
from engine.engine import Engine
from lsp_server.cli_bench_peer import LlamaCpp, find_python
from lsp_server.cli_options import positive

TEXT_FOLDER = Path(__file__).parents[1] / "tests" / "data" / "references"
LEAST_ARGMAX_SHARE = 0.995
MOST_PERPLEXITY_CHANGE = 0.005

Windows = NDArray[np.int32]
LogitsOf = Callable[[list[int]], NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """One engine against another: logits on 2,048 positions, perplexity on more."""

    name: str
    agreement: Agreement
    perplexity: float
    reference_perplexity: float

    @property
    def perplexity_ratio(self) -> float:
        return self.perplexity / self.reference_perplexity

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "positions": self.agreement.n_positions,
            "argmax_share": self.agreement.argmax_share,
            "clear_argmax_share": self.agreement.clear_argmax_share,
            "mean_kl": self.agreement.mean_kl,
            "max_kl": self.agreement.kl_max,
            "perplexity": self.perplexity,
            "reference_perplexity": self.reference_perplexity,
            "perplexity_ratio": self.perplexity_ratio,
        }


def main() -> int:
    args = _parse_arguments()
    python = find_python(args.llama_cpp_python)
    if python is None:
        print("llama_cpp is not installed here; pass --llama-cpp-python", file=sys.stderr)
        return 1
    model = catalogue.find(args.model, None)
    with tempfile.TemporaryDirectory() as scratch:
        rows = _compare(python, model, args.threads, args.windows, Path(scratch))
    if args.json:
        print(json.dumps({"model": args.model, "rows": [row.as_json() for row in rows]}))
    else:
        _show(args.model, rows)
    published, _, _, unrounded = rows
    is_close = all(
        abs(row.perplexity_ratio - 1) <= MOST_PERPLEXITY_CHANGE for row in (published, unrounded)
    )
    return 0 if is_close and unrounded.agreement.argmax_share >= LEAST_ARGMAX_SHARE else 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our logits next to llama.cpp's.")
    parser.add_argument("--model", default=catalogue.DEFAULT_MODEL, help="name or GGUF file")
    parser.add_argument("--llama-cpp-python", metavar="PYTHON", help="interpreter with llama_cpp")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--windows",
        type=int,
        choices=range(1, N_WINDOWS + 1),
        metavar="N",
        default=N_WINDOWS,
        help=f"perplexity over this many windows of {WINDOW_TOKENS} tokens (default: %(default)s)",
    )
    return parser.parse_args()


def _compare(
    python: str, model: Path, n_threads: int, n_windows: int, scratch: Path
) -> tuple[Row, Row, Row, Row]:
    npy = scratch / "logits.npy"

    def logits_of(peer: LlamaCpp) -> LogitsOf:
        def run(token_ids: list[int]) -> NDArray[np.float32]:
            peer.write_logits(token_ids, npy)
            return np.load(npy)

        return run

    with LlamaCpp(python, model, n_threads, WINDOW_TOKENS) as peer:
        windows = windows_of(peer.tokenize(reference_text(TEXT_FOLDER)))
        reference = logits_of(peer)
        ours = _load(model, n_threads)
        published = _row("as they run", ours.logits, reference, windows, range(n_windows))
        rounded = _load(model, n_threads, kv_type="q8_0")
        cached = _row("q8_0 cache", rounded.logits, ours.logits, windows, range(n_windows))
        rounded.close()
        ours.close()
        with LlamaCpp(python, model, n_threads, WINDOW_TOKENS, flash_attention=False) as other:
            own = _row("llama.cpp itself", logits_of(other), reference, windows)
    write_f32_copy(model, scratch / "f32.gguf")
    with LlamaCpp(python, scratch / "f32.gguf", n_threads, WINDOW_TOKENS) as peer:
        ours = _load(model, n_threads, is_exact=True)
        unrounded = _row("unrounded", ours.logits, logits_of(peer), windows)
        ours.close()
    return published, own, cached, unrounded


def _load(
    model: Path, n_threads: int, *, is_exact: bool = False, kv_type: KvCacheType = "f16"
) -> Engine:
    return Engine.load(
        EngineConfig(
            model=str(model),
            n_threads=n_threads,
            n_ctx=WINDOW_TOKENS,
            prefix_cache_bytes=0,
            is_exact=is_exact,
            kv_type=kv_type,
        )
    )


def _row(
    name: str,
    ours: LogitsOf,
    reference: LogitsOf,
    windows: Windows,
    for_perplexity: Collection[int] = LOGITS_WINDOWS,
) -> Row:
    agreement, nll, reference_nll = Agreement(), 0.0, 0.0
    for window_idx in sorted({*LOGITS_WINDOWS, *for_perplexity}):
        window = windows[window_idx]
        logits, expected = ours(window.tolist()), reference(window.tolist())
        if window_idx in LOGITS_WINDOWS:
            add_logits(agreement, expected, logits)
        if window_idx in for_perplexity:
            nll += window_nll(logits, window)
            reference_nll += window_nll(expected, window)
    n_predicted = (WINDOW_TOKENS - 1) * len(for_perplexity)
    return Row(name, agreement, exp(nll / n_predicted), exp(reference_nll / n_predicted))


def _show(model: str, rows: tuple[Row, ...]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{model} on {rows[0].agreement.n_positions} positions of real code")
    table = Table("", "same token", "if clear", "mean KL", "most KL", "perplexity")
    for row in rows:
        agreement = row.agreement
        table.add_row(
            row.name,
            f"{agreement.argmax_share:.2%}",
            f"{agreement.clear_argmax_share:.2%}",
            f"{agreement.mean_kl:.2e}",
            f"{agreement.kl_max:.2e}",
            f"{row.perplexity_ratio:.5f}",
        )
    console.print(table)
    console.print(
        "as they run: both engines as released\n"
        "llama.cpp itself: with flash attention and without, the noise of 8-bit activations\n"
        "q8_0 cache: ours with keys and values of 8 bits, and of 16\n"
        "unrounded: F32 weights there, f32 activations here\n"
        f"if clear: only where the best token leads by {CLEAR_LEAD_NATS} nats or more\n"
        f"perplexity: ours by theirs; as they run {rows[0].perplexity:.4f} by "
        f"{rows[0].reference_perplexity:.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
