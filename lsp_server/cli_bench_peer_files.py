"""Files of ours as llama.cpp's DFlash can use them: copies, made for a benchmark and then deleted.

llama.cpp keeps the inputs of layers, which a DFlash drafter is conditioned on, for some
architectures only: `llama` among them, `qwen2` not. The two compute the same but for the order of
rotary pairs, so a qwen2 file becomes a llama file of the same quantized bytes in another order.
It also wants a vocabulary in the drafter's file, of which it uses no more than the length.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from engine.gguf.reader import GgufFile

_QWEN2 = "qwen2"
_VOCABULARY = "tokenizer.ggml.tokens"


def tappable_target(model: Path, directory: Path) -> Path:
    """`model`, or a copy of it whose layers llama.cpp lets a drafter see."""
    with GgufFile(model) as file:
        if file.architecture != _QWEN2:
            return model
        n_heads = file.require(f"{_QWEN2}.attention.head_count", int)
        n_kv_heads = file.optional(f"{_QWEN2}.attention.head_count_kv", int) or n_heads
        width = file.require(f"{_QWEN2}.embedding_length", int)

    def rename(key: str) -> str:
        return key.replace(f"{_QWEN2}.", "llama.", 1) if key.startswith(f"{_QWEN2}.") else key

    def reorder(name: str, rows: np.ndarray) -> np.ndarray:
        heads = {"attn_q": n_heads, "attn_k": n_kv_heads}.get(name.split(".")[-2])
        return rows if heads is None else _interleave_pairs(rows, heads)

    copy = directory / f"llama-{model.name}"
    _write_copy(
        model,
        copy,
        "llama",
        rename,
        reorder,
        {"llama.rope.dimension_count": (width // n_heads, gguf.GGUFValueType.UINT32)},
    )
    return copy


def with_vocabulary(drafter: Path, target: Path, directory: Path) -> Path:
    """`drafter`, or a copy of it with as many, empty, tokens as `target` has."""
    with GgufFile(drafter) as file, GgufFile(target) as target_file:
        if _VOCABULARY in file.metadata:
            return drafter
        n_vocab = target_file.tensors["token_embd.weight"].shape[1]
        pre = target_file.optional("tokenizer.ggml.pre", str) or "default"
        architecture = file.architecture
    copy = directory / f"vocabulary-{drafter.name}"
    _write_copy(
        drafter,
        copy,
        architecture,
        lambda key: key,
        lambda _, rows: rows,
        {
            "tokenizer.ggml.model": ("gpt2", gguf.GGUFValueType.STRING),
            "tokenizer.ggml.pre": (pre, gguf.GGUFValueType.STRING),
            _VOCABULARY: ([""] * n_vocab, gguf.GGUFValueType.STRING),
            "tokenizer.ggml.merges": (["a b"], gguf.GGUFValueType.STRING),
        },
    )
    return copy


def _interleave_pairs(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows (n_heads * D, ...) with rotary pairs (i, i + D/2) of a head moved to (2i, 2i + 1)."""
    halves = rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _write_copy(
    source: Path,
    path: Path,
    architecture: str,
    rename: Callable[[str], str],
    reorder: Callable[[str, np.ndarray], np.ndarray],
    more: dict[str, tuple[Any, gguf.GGUFValueType]],
) -> None:
    """Every key and tensor of `source`, under other names or in another order, and `more` keys."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or rename(key) in more:
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(rename(key), field.contents(), kind, sub_type=sub)
    for key, (value, kind) in more.items():
        if isinstance(value, list):
            writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, sub_type=kind)
        else:
            writer.add_key_value(key, value, kind)
    for tensor in reader.tensors:
        rows = reorder(tensor.name, tensor.data)
        writer.add_tensor(tensor.name, rows, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
