"""Compare our token ids with llama.cpp's, live, on 5 MB of source code and mixed scripts.

    python -m benchmarks.references.tokenizer_reference MODEL.gguf... [--llama-cpp-python PYTHON]

Exits with 1 if any text gets other ids. `--pre-tokenizers` also compares every pre-tokenizer we
know, on copies of the first model's vocabulary. `--write` writes what the tests are held to,
tests/data/tokenizer_reference.npz.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from benchmarks.references import tokenizer_corpus as corpus
from engine.gguf.reader import GgufFile
from engine.tokenizer import PRE_TOKENIZERS, Tokenizer
from lsp_server.cli_bench_peer import LlamaCpp, find_python
from tests.tokenizer_reference import REFERENCE_PATH, TokenizerReference

N_SOURCE_CHARACTERS = 4_000_000
N_MIXED_CHARACTERS = 800_000
N_COMMITTED_CHARACTERS = 24_000
SEED = 1


@dataclass
class Comparison:
    n_texts: int = 0
    n_bytes: int = 0
    n_tokens: int = 0
    n_differences: int = 0
    our_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.n_texts} texts, {self.n_bytes} bytes, {self.n_tokens} tokens "
            f"({self.n_bytes / self.our_s / 1e6:.1f} MB/s), {self.n_differences} differences"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare token ids with llama.cpp's.")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--llama-cpp-python", metavar="PYTHON", help="interpreter with llama_cpp")
    parser.add_argument("--pre-tokenizers", action="store_true", help="compare the whole table")
    parser.add_argument("--write", action="store_true", help="write the tests' reference")
    args = parser.parse_args()
    python = find_python(args.llama_cpp_python)
    if python is None:
        print("llama_cpp is not installed here; pass --llama-cpp-python", file=sys.stderr)
        return 1
    if args.write:
        write_reference(python, args.models)
    texts = list(all_texts())
    comparisons = [compare(python, model, texts, model.stem) for model in args.models]
    if args.pre_tokenizers:
        comparisons += compare_pre_tokenizers(python, args.models[0], texts)
    return int(any(comparison.n_differences for comparison in comparisons))


def all_texts() -> Iterable[str]:
    """Edge cases, generated mixtures, and source code, some of it with other line ends."""
    yield from corpus.edge_cases()
    yield from mixtures(N_MIXED_CHARACTERS)
    for text_idx, text in enumerate(corpus.source_texts(N_SOURCE_CHARACTERS)):
        yield text.replace("\n", "\r\n") if text_idx % 10 == 0 else text


def mixtures(n_characters: int) -> list[str]:
    rng = random.Random(SEED)
    n_each = 4000
    return [corpus.mixture(rng, n_each) for _ in range(n_characters // n_each)]


def compare(python: str, model: Path, texts: Sequence[str], name: str) -> Comparison:
    """Tokenize every text with both; prints the sums and the first difference."""
    with GgufFile(model) as file:
        tokenizer = Tokenizer.from_gguf(file)
    result = Comparison()
    with LlamaCpp(python, model, 1, 512) as peer:
        for text in texts:
            started = time.perf_counter()
            ours = tokenizer.encode(text)
            result.our_s += time.perf_counter() - started
            expected = peer.tokenize(text)
            result.n_texts += 1
            result.n_bytes += len(text.encode())
            result.n_tokens += len(expected)
            if ours != expected:
                if not result.n_differences:
                    print(f"{name}: first difference: {difference(ours, expected, tokenizer)}")
                result.n_differences += 1
    print(f"{name}: {result}")
    return result


def difference(ours: list[int], expected: list[int], tokenizer: Tokenizer) -> str:
    """The tokens around the first place where two lists of ids part."""
    same = next(
        (n for n, (a, b) in enumerate(zip(ours, expected, strict=False)) if a != b),
        min(len(ours), len(expected)),
    )
    around = slice(max(0, same - 2), same + 5)
    spelled = [[tokenizer.token_bytes(token) for token in ids[around]] for ids in (ours, expected)]
    return f"at token {same}, ours {spelled[0]}, llama.cpp's {spelled[1]}"


def compare_pre_tokenizers(python: str, model: Path, texts: Sequence[str]) -> list[Comparison]:
    results: list[Comparison] = []
    with tempfile.TemporaryDirectory() as scratch, GgufFile(model) as file:
        for name in PRE_TOKENIZERS:
            path = Path(scratch, "vocabulary.gguf")
            write_vocabulary(file, path, name)
            results.append(compare(python, path, texts, f"pre-tokenizer {name}"))
    return results


def write_vocabulary(file: GgufFile, path: Path, pre_tokenizer: str) -> None:
    """The smallest model that llama.cpp loads with a vocabulary and another pre-tokenizer."""
    tokens = file.require_list("tokenizer.ggml.tokens", str)
    width = 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(file.require_list("tokenizer.ggml.token_type", int))
    writer.add_token_merges(file.require_list("tokenizer.ggml.merges", str))
    writer.add_add_bos_token(False)
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(width, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((width, width), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), width), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_reference(python: str, models: Sequence[Path]) -> None:
    texts = [*corpus.edge_cases(), *mixtures(N_COMMITTED_CHARACTERS)]
    ids: dict[str, list[list[int]]] = {}
    for model in models:
        with LlamaCpp(python, model, 1, 512) as peer:
            ids[model.stem] = [peer.tokenize(text) for text in texts]
    TokenizerReference(texts, ids).save()
    n_characters = sum(map(len, texts))
    print(f"{REFERENCE_PATH}: {len(texts)} texts, {n_characters} characters")


if __name__ == "__main__":
    sys.exit(main())
