"""Write the committed references: llama.cpp's view of a fixed text, per model.

    python -m benchmarks.references.logits_reference [MODEL.gguf...] [--llama-cpp-python PYTHON]

`tiny.npz` holds the logits of tests/tiny_gguf.py's models. Each model given gets two files:
NAME.npz of the file as it is, with perplexity over the whole text, and NAME-f32.npz of its F32
copy, where rounding noise is gone and two correct engines must agree almost everywhere.
Takes about 6 minutes for 0.5 B parameters on two cores.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agreement import Agreement, add_logits, log_softmax, window_nll
from benchmarks.references.f32_copy import write_f32_copy
from benchmarks.references.reference_file import (
    LOGITS_WINDOWS,
    N_TOP,
    TINY_TOKENS,
    WINDOW_TOKENS,
    Reference,
    reference_text,
    windows_of,
)
from lsp_server.cli_bench_peer import LlamaCpp, find_python
from tests.tiny_gguf import ARCHITECTURES, write_tiny_gguf

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "references"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the committed llama.cpp references.")
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--llama-cpp-python", metavar="PYTHON", help="interpreter with llama_cpp")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    python = find_python(args.llama_cpp_python)
    if python is None:
        print("llama_cpp is not installed here; pass --llama-cpp-python", file=sys.stderr)
        return 1
    _write_tiny_reference(python)
    for model in args.models:
        _write_references(python, model, args.threads)
    return 0


def _write_tiny_reference(python: str) -> None:
    logits: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as scratch:
        for architecture in ARCHITECTURES:
            model = write_tiny_gguf(Path(scratch, "tiny.gguf"), architecture)
            path = Path(scratch, "logits.npy")
            with LlamaCpp(python, model, 1, len(TINY_TOKENS)) as peer:
                peer.write_logits(list(TINY_TOKENS), path)
            logits.append(np.load(path).astype(np.float16))
    np.savez_compressed(FOLDER / "tiny.npz", llama=logits[0], qwen2=logits[1])


def _write_references(python: str, model: Path, n_threads: int) -> None:
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        with LlamaCpp(python, model, n_threads, WINDOW_TOKENS) as peer:
            windows = windows_of(peer.tokenize(reference_text(FOLDER)))
            about = _describe(model, peer)
            published = _measure(peer, windows, list(LOGITS_WINDOWS), scratch)
        about |= _own_agreement(python, model, n_threads, windows, scratch)
        Reference(about=about, **published).save(FOLDER / f"{model.stem}.npz")
        _report(model.stem, about, published)

        write_f32_copy(model, scratch / "f32.gguf")
        few = windows[list(LOGITS_WINDOWS)]
        with LlamaCpp(python, scratch / "f32.gguf", n_threads, WINDOW_TOKENS) as peer:
            exact = _measure(peer, few, list(range(len(few))), scratch)
        about = {**about, "weights": "matrices dequantized to F32"}
        Reference(about=about, **exact).save(FOLDER / f"{model.stem}-f32.npz")
        _report(f"{model.stem} in F32", about, exact)


def _describe(model: Path, peer: LlamaCpp) -> dict[str, Any]:
    with model.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "model": model.stem,
        "sha256": sha256,
        "weights": "as published",
        "llama_cpp": peer.version,
        "system": peer.system,
    }


def _measure(
    peer: LlamaCpp, windows: np.ndarray, logits_windows: list[int], scratch: Path
) -> dict[str, Any]:
    """The arrays of a Reference. Leaves the logits of `logits_windows` in `scratch`."""
    nll: list[float] = []
    top_ids: list[np.ndarray] = []
    top_logprobs: list[np.ndarray] = []
    logsumexp: list[np.ndarray] = []
    for window_idx, window in enumerate(windows):
        path = scratch / f"{window_idx}.npy"
        peer.write_logits(window.tolist(), path)
        logits = np.load(path, mmap_mode="r")
        nll.append(window_nll(logits, window))
        if window_idx not in logits_windows:
            path.unlink()
            continue
        for start in range(0, WINDOW_TOKENS, 64):
            rows = logits[start : start + 64]
            logprobs = log_softmax(rows)
            best = np.argsort(-logprobs, axis=-1, kind="stable")[:, :N_TOP]
            top_ids.append(best.astype(np.int32))
            top_logprobs.append(np.take_along_axis(logprobs, best, axis=-1).astype(np.float32))
            logsumexp.append((rows[:, 0] - logprobs[:, 0]).astype(np.float32))
    return {
        "token_ids": windows,
        "nll": np.array(nll),
        "logits_windows": np.array(logits_windows, np.int32),
        "top_ids": np.concatenate(top_ids),
        "top_logprobs": np.concatenate(top_logprobs),
        "logsumexp": np.concatenate(logsumexp),
    }


def _own_agreement(
    python: str, model: Path, n_threads: int, windows: np.ndarray, scratch: Path
) -> dict[str, float]:
    """How far llama.cpp agrees with the logits in `scratch` when flash attention is off."""
    own = Agreement()
    with LlamaCpp(python, model, n_threads, WINDOW_TOKENS, flash_attention=False) as peer:
        for window_idx in LOGITS_WINDOWS:
            peer.write_logits(windows[window_idx].tolist(), scratch / "other.npy")
            logits = np.load(scratch / "other.npy", mmap_mode="r")
            add_logits(own, np.load(scratch / f"{window_idx}.npy", mmap_mode="r"), logits)
    return {
        "own_argmax_share": own.argmax_share,
        "own_clear_argmax_share": own.clear_argmax_share,
        "own_mean_kl": own.mean_kl,
    }


def _report(name: str, about: dict[str, Any], arrays: dict[str, Any]) -> None:
    n_predicted = arrays["token_ids"].size - len(arrays["nll"])
    print(f"{name}: perplexity {np.exp(arrays['nll'].sum() / n_predicted):.4f}, {about}")


if __name__ == "__main__":
    sys.exit(main())
