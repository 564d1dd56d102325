"""Tiny random-weight GGUF files for tests: the real format and a real vocabulary, meaningless text.

The same arguments always give the same bytes. Weights are scaled so that logits have a spread of
about three, as in a trained model, and llama.cpp loads the files too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as WeightType

ARCHITECTURES = ("llama", "qwen2")
PRE_TOKENIZERS = {"llama": "smollm", "qwen2": "qwen2"}

# The types gguf can only read are written as random quant blocks: the byte offsets of the f16
# scale `d` and, where there is one, of `dmin`, and the dmin / d that centres the values on zero.
_RANDOM_BLOCKS: dict[WeightType, tuple[int, int | None, float]] = {
    WeightType.Q2_K: (80, 82, 1.5),
    WeightType.Q3_K: (108, None, 0.0),
    WeightType.Q4_K: (0, 2, 7.5),
    WeightType.Q5_K: (0, 2, 15.5),
    WeightType.Q6_K: (208, None, 0.0),
    WeightType.IQ4_NL: (0, None, 0.0),
    WeightType.IQ4_XS: (0, None, 0.0),
}

_WORDS = (
    "    ", "        ", "\n    ", " return", " import", " self", "def", "class", " in", " if",
    " else", " for", " not", " None", " True", " False", " =", " ==", "():", "):\n", "()", " the",
    " a", " b", " c", " x", " i", " n", " value", " name", " print", "len", "range", "add", "sub",
    "ing", "er", "é", "漢", "字", "😀",
)  # fmt: skip
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
_USER_DEFINED_TOKENS = ("<tool_call>",)
_UNUSED_TOKENS = ("[PAD0]", "[PAD1]")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Token texts as a GGUF stores them (bytes as GPT-2's printable characters)."""

    tokens: tuple[str, ...]
    token_types: tuple[int, ...]
    merges: tuple[str, ...]

    def id_of(self, text: str) -> int:
        return self.tokens.index(text)


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte value: itself, or the next one from 256 up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)]


def tiny_vocabulary() -> Vocabulary:
    """256 bytes, a few code words with the merges that build them, special and unused tokens."""
    characters = byte_characters()
    tokens = list(characters)
    merges: list[str] = []
    for word in _WORDS:
        symbols = [characters[byte] for byte in word.encode()]
        for end in range(1, len(symbols)):
            left, right = "".join(symbols[:end]), symbols[end]
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    n_normal = len(tokens)
    return Vocabulary(
        tokens=(*tokens, *SPECIAL_TOKENS, *_USER_DEFINED_TOKENS, *_UNUSED_TOKENS),
        token_types=(
            *[int(gguf.TokenType.NORMAL)] * n_normal,
            *[int(gguf.TokenType.CONTROL)] * len(SPECIAL_TOKENS),
            *[int(gguf.TokenType.USER_DEFINED)] * len(_USER_DEFINED_TOKENS),
            *[int(gguf.TokenType.UNUSED)] * len(_UNUSED_TOKENS),
        ),
        merges=tuple(merges),
    )


def write_tiny_gguf(
    path: Path | str,
    architecture: str = "llama",
    quant: str = "F32",
    seed: int = 0,
    *,
    n_layers: int = 2,
    n_embd: int | None = None,
    n_ff: int | None = None,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    n_ctx: int = 512,
    rope_theta: float = 10000.0,
    tied_head: bool = False,
    quants: Mapping[str, str] | None = None,
) -> Path:
    """Write a model whose every matrix has the weight type `quant`, and return its path.

    `quants` overrides the type by tensor name without the block number ("attn_v.weight",
    "token_embd.weight"). Widths default to the smallest that the weight types allow: 128, or 256
    where one of them counts in blocks of 256.
    """
    overrides = dict(quants or {})
    weight_types = [WeightType[name] for name in (quant, *overrides.values())]
    needs_256 = any(gguf.GGML_QUANT_SIZES[kind][0] == 256 for kind in weight_types)
    n_embd = n_embd or (256 if needs_256 else 128)
    n_ff = n_ff or n_embd * 2
    vocabulary = tiny_vocabulary()

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture} {quant}")
    writer.add_block_count(n_layers)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_rope_freq_base(rope_theta)
    writer.add_layer_norm_rms_eps(1e-5)
    if architecture == "llama":
        writer.add_rope_dimension_count(n_embd // n_heads)
        writer.add_vocab_size(len(vocabulary.tokens))
    _add_vocabulary(writer, vocabulary, PRE_TOKENIZERS[architecture])

    rng = np.random.default_rng(seed)
    shapes = _tensor_shapes(
        architecture, len(vocabulary.tokens), n_layers, n_embd, n_ff, n_heads, n_kv_heads, tied_head
    )
    for name, shape in shapes.items():
        weight_type = WeightType[overrides.get(_without_block_number(name), quant)]
        _add_tensor(writer, rng, name, shape, weight_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary, pre: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.token_types))
    writer.add_token_merges(list(vocabulary.merges))
    writer.add_bos_token_id(vocabulary.id_of("<|endoftext|>"))
    writer.add_eos_token_id(vocabulary.id_of("<|im_end|>"))
    writer.add_pad_token_id(vocabulary.id_of("<|endoftext|>"))
    writer.add_add_bos_token(False)


def _tensor_shapes(
    architecture: str,
    n_vocab: int,
    n_layers: int,
    n_embd: int,
    n_ff: int,
    n_heads: int,
    n_kv_heads: int,
    tied_head: bool,
) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and row-major shape: a matrix is (n_out, n_in)."""
    n_kv = n_embd // n_heads * n_kv_heads
    block: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (n_embd,),
        "attn_q.weight": (n_embd, n_embd),
        "attn_k.weight": (n_kv, n_embd),
        "attn_v.weight": (n_kv, n_embd),
        "attn_output.weight": (n_embd, n_embd),
        "ffn_norm.weight": (n_embd,),
        "ffn_gate.weight": (n_ff, n_embd),
        "ffn_up.weight": (n_ff, n_embd),
        "ffn_down.weight": (n_embd, n_ff),
    }
    if architecture == "qwen2":
        block |= {"attn_q.bias": (n_embd,), "attn_k.bias": (n_kv,), "attn_v.bias": (n_kv,)}
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, n_embd)}
    for layer_idx in range(n_layers):
        shapes |= {f"blk.{layer_idx}.{name}": shape for name, shape in block.items()}
    shapes["output_norm.weight"] = (n_embd,)
    if not tied_head:
        shapes["output.weight"] = (n_vocab, n_embd)
    return shapes


def _without_block_number(name: str) -> str:
    return name.split(".", 2)[2] if name.startswith("blk.") else name


def _add_tensor(
    writer: gguf.GGUFWriter,
    rng: np.random.Generator,
    name: str,
    shape: tuple[int, ...],
    weight_type: WeightType,
) -> None:
    """Norms and biases stay F32, as in every published file."""
    if name.endswith("norm.weight"):
        writer.add_tensor(name, (1 + 0.1 * rng.standard_normal(shape)).astype(np.float32))
    elif name.endswith(".bias"):
        writer.add_tensor(name, (0.3 * rng.standard_normal(shape)).astype(np.float32))
    else:
        gain = 3.0 if name in ("token_embd.weight", "output.weight") else 1.0
        spread = gain / float(np.sqrt(shape[1]))
        writer.add_tensor(
            name, _random_matrix(rng, shape, weight_type, spread), raw_dtype=weight_type
        )


def _random_matrix(
    rng: np.random.Generator, shape: tuple[int, ...], weight_type: WeightType, spread: float
) -> np.ndarray:
    """A (n_out, n_in) matrix of the given standard deviation in the bytes of its weight type."""
    if weight_type not in _RANDOM_BLOCKS:
        weights = (spread * rng.standard_normal(shape)).astype(np.float32)
        return gguf.quantize(weights, weight_type)
    d_offset, dmin_offset, dmin_ratio = _RANDOM_BLOCKS[weight_type]
    weights_per_block, block_bytes = gguf.GGML_QUANT_SIZES[weight_type]
    n_blocks = shape[0] * shape[1] // weights_per_block
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)

    def set_scale(d: float) -> None:
        blocks[:, d_offset : d_offset + 2] = np.array([d], np.float16).view(np.uint8)
        if dmin_offset is not None:
            dmin = np.array([d * dmin_ratio], np.float16)
            blocks[:, dmin_offset : dmin_offset + 2] = dmin.view(np.uint8)

    set_scale(1.0)
    set_scale(spread / float(gguf.dequantize(blocks, weight_type).std()))
    return blocks.reshape(shape[0], -1)
