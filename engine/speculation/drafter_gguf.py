"""Reads drafters from GGUF files, of llama.cpp's layout and of Lucebox's (SPEC A.7).

llama.cpp: architecture `dflash`; `dflash.block_size`; `dflash.target_layers`, which counts layer
inputs (one more than the layer whose output is tapped); `tokenizer.ggml.mask_token_id`; with a
tensor `d2t` (I64), the target's id of each row of the file's own `output.weight`.
Lucebox: architectures below; `{A}.dflash.block_size`, `{A}.dflash.target_layer_ids`,
`{A}.dflash.mask_token_id`.
Both: `{A}.block_count` and its like, `{A}.attention.sliding_window` and `..._pattern`, and ours:
`flash_lsp.draft_vocabulary` (int32, ascending), the rows of the target's output that are used.
"""

from collections.abc import Callable

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from engine import weights
from engine.errors import ModelFormatError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.speculation.drafter_spec import (
    CONTEXT_NORM,
    FC,
    HEAD,
    MOST_LAYERS,
    TABLE,
    DrafterSpec,
)
from engine.weights import Weights

LLAMA_CPP = "dflash"
LUCEBOX = ("qwen35-dflash-draft", "dflash-draft", "gemma4-dflash-draft")
DRAFT_VOCABULARY = "flash_lsp.draft_vocabulary"

_D2T = "d2t"
_LARGEST_ID = np.iinfo(np.int32).max
_LUCEBOX_NAMES = {
    "dflash.fc.weight": FC,
    "dflash_fc.weight": FC,
    "dflash.hidden_norm.weight": CONTEXT_NORM,
    "dflash_hidden_norm.weight": CONTEXT_NORM,
}
_LUCEBOX_EXTRAS = ("dflash.dspark.", "dflash.domino.")  # heads beside the drafter's own
# What would make a drafter another one than we compute, and the value it must have if it is there.
_FIXED: dict[str, str | bool | float] = {
    "rope.scaling.type": "none",
    "attention.causal": False,
    "embedding_scale": 1.0,
    "hidden_act": "silu",
}


def read_gguf(g: GgufFile, is_native: Callable[[int], bool]) -> tuple[DrafterSpec, Weights]:
    """Raises ModelFormatError or UnsupportedModelError; the map goes with the last tensor."""
    if g.architecture == LLAMA_CPP:
        taps = tuple(layer - 1 for layer in g.require_list(g.key("target_layers"), int))
        mask_token = g.require("tokenizer.ggml.mask_token_id", int)
        block_size = g.require(g.key("block_size"), int)
    elif g.architecture in LUCEBOX:
        taps = tuple(g.require_list(g.key("dflash.target_layer_ids"), int))
        mask_token = g.require(g.key("dflash.mask_token_id"), int)
        block_size = g.require(g.key("dflash.block_size"), int)
    else:
        raise UnsupportedModelError(
            "drafter architecture", g.architecture, [LLAMA_CPP, *LUCEBOX, "z-lab's safetensors"]
        )
    for key, value in _FIXED.items():
        found = g.metadata.get(g.key(key))
        if found not in (None, value):
            raise UnsupportedModelError(f"a drafter's {key}", found, [str(value)])
    n_layer = g.require(g.key("block_count"), int)
    head_dim = g.require(g.key("attention.key_length"), int)
    n_rot = g.optional(g.key("rope.dimension_count"), int)
    if n_rot not in (None, head_dim):
        raise UnsupportedModelError("a drafter's rope.dimension_count", n_rot, [str(head_dim)])
    spec = DrafterSpec(
        n_layer=n_layer,
        n_embd=g.require(g.key("embedding_length"), int),
        n_ff=g.require(g.key("feed_forward_length"), int),
        n_head=g.require(g.key("attention.head_count"), int),
        n_kv=g.require(g.key("attention.head_count_kv"), int),
        head_dim=head_dim,
        rms_eps=g.require(g.key("attention.layer_norm_rms_epsilon"), float),
        rope_theta=g.require(g.key("rope.freq_base"), float),
        block_size=block_size,
        mask_token=mask_token,
        taps=taps,
        windows=_windows(g, n_layer),
        n_vocab=_n_vocab(g),
        vocabulary=_vocabulary(g),
    )
    return spec, _tensors(g, is_native)


def _windows(g: GgufFile, n_layer: int) -> tuple[int | None, ...]:
    window = g.optional(g.key("attention.sliding_window"), int) or None
    pattern = g.optional_list(g.key("attention.sliding_window_pattern"), bool)
    if pattern is None:
        pattern = [True] * max(min(n_layer, MOST_LAYERS), 0)
    return tuple(window if is_sliding else None for is_sliding in pattern)


def _n_vocab(g: GgufFile) -> int | None:
    declared = g.optional(g.key("vocab_size"), int)
    if declared is not None:
        return declared
    whole = g.tensors.get(TABLE) or (None if _D2T in g.tensors else g.tensors.get(HEAD))
    return None if whole is None else whole.shape[-1]


def _vocabulary(g: GgufFile) -> NDArray[np.int32] | None:
    info = g.tensors.get(_D2T)
    if info is not None:
        if info.ggml_type is not GGMLQuantizationType.I64 or HEAD not in g.tensors:
            raise ModelFormatError(
                g.path,
                f"'{_D2T}' is {info.ggml_type.name}, expected I64 beside '{HEAD}'",
                kind="drafter",
            )
        ids = g.data(_D2T).view("<i8")
    else:
        listed = g.optional_list(DRAFT_VOCABULARY, int)
        if listed is None:
            return None
        ids = np.array(listed)
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) <= _LARGEST_ID:
        raise ModelFormatError(g.path, "its vocabulary has ids that are none", kind="drafter")
    return ids.astype(np.int32)


def _tensors(g: GgufFile, is_native: Callable[[int], bool]) -> Weights:
    names = [n for n in g.tensors if n != _D2T and not n.startswith(_LUCEBOX_EXTRAS)]
    found = weights.of_gguf(g, is_native, names)
    tensors = {_llama_cpp_name(name): tensor for name, tensor in found.tensors.items()}
    return Weights(tensors, found.notices)


def _llama_cpp_name(name: str) -> str:
    return _LUCEBOX_NAMES.get(name, name.replace("post_attention_norm", "ffn_norm"))
