"""Drafters as GGUF files in llama.cpp's `dflash` layout, and back.

The file has no vocabulary of its own: this engine takes the target's.
"""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from torch import Tensor

from engine.gguf.reader import GgufFile
from engine.speculation.drafter_gguf import DRAFT_VOCABULARY
from engine.speculation.drafter_gguf import LLAMA_CPP as ARCHITECTURE
from engine.train.drafter import Drafter, DrafterConfig

_RENAMED = {"hidden_norm.weight": "enc.output_norm.weight"}


def write_drafter(
    path: Path,
    drafter: Drafter,
    kind: GGMLQuantizationType,
    vocabulary: Tensor,
    *,
    n_vocab: int,
    context_length: int,
    name: str,
) -> None:
    """Matrices in `kind`, norms in F32; `vocabulary` (n,) holds the ids a draft can be of."""
    c = drafter.c
    writer = GGUFWriter(path, ARCHITECTURE)
    writer.add_name(name)
    writer.add_license("Apache-2.0")
    writer.add_context_length(context_length)
    writer.add_embedding_length(c.n_embd)
    writer.add_block_count(c.n_layer)
    writer.add_feed_forward_length(c.n_ff)
    writer.add_head_count(c.n_head)
    writer.add_head_count_kv(c.n_kv)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_layer_norm_rms_eps(c.rms_eps)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_vocab_size(n_vocab)
    writer.add_uint32(f"{ARCHITECTURE}.block_size", c.block_size)
    # llama.cpp taps the input of a layer: the output of the one before.
    taps = [tap + 1 for tap in c.taps]
    writer.add_key_value(
        f"{ARCHITECTURE}.target_layers", taps, GGUFValueType.ARRAY, GGUFValueType.UINT32
    )
    writer.add_mask_token_id(c.mask_id)
    ids = vocabulary.cpu().to(torch.int32).sort().values.tolist()
    writer.add_key_value(DRAFT_VOCABULARY, ids, GGUFValueType.ARRAY, GGUFValueType.INT32)
    for tensor_name, tensor in _tensors(drafter):
        array = tensor.detach().float().cpu().numpy()
        stored = GGMLQuantizationType.F32 if array.ndim == 1 else kind
        writer.add_tensor(tensor_name, gguf.quantize(array, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_drafter(path: Path) -> tuple[Drafter, Tensor]:
    """A drafter that `write_drafter` wrote, in float32 on the CPU, and its draft vocabulary."""
    with GgufFile(path) as g:
        drafter = Drafter(
            DrafterConfig(
                n_layer=g.require(g.key("block_count"), int),
                n_embd=g.require(g.key("embedding_length"), int),
                n_ff=g.require(g.key("feed_forward_length"), int),
                n_head=g.require(g.key("attention.head_count"), int),
                n_kv=g.require(g.key("attention.head_count_kv"), int),
                head_dim=g.require(g.key("attention.key_length"), int),
                rope_theta=g.require(g.key("rope.freq_base"), float),
                rms_eps=g.require(g.key("attention.layer_norm_rms_epsilon"), float),
                taps=tuple(tap - 1 for tap in g.require_list(g.key("target_layers"), int)),
                mask_id=g.require("tokenizer.ggml.mask_token_id", int),
                block_size=g.require(g.key("block_size"), int),
            )
        )
        with torch.no_grad():
            for name, tensor in _tensors(drafter):
                values = gguf.dequantize(g.data(name), g.tensors[name].ggml_type)
                tensor.copy_(torch.from_numpy(np.array(values, np.float32)).view(tensor.shape))
        return drafter, torch.tensor(g.require_list(DRAFT_VOCABULARY, int))


def _tensors(drafter: Drafter) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in drafter.named_parameters():
        # A compiled layer's own name must not reach the file.
        name = name.replace("_orig_mod.", "")
        yield _RENAMED.get(name, name), parameter
