"""Reads drafters as z-lab publishes them: safetensors and a `config.json` beside it.

Names are Hugging Face's (SPEC A.7). Block size, mask token and taps lie in `dflash_config` or,
in some files, beside it.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
from gguf import GGMLQuantizationType

from engine import weights
from engine.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from engine.ops import Weight
from engine.speculation.drafter_spec import (
    CONTEXT_NORM,
    FC,
    HEAD,
    MOST_LAYERS,
    OUTPUT_NORM,
    TABLE,
    DrafterSpec,
)
from engine.speculation.safetensors import SafetensorsFile
from engine.weights import Tensor, Weights

_Q8_BLOCK = 32

_NAMES = {
    "fc.weight": FC,
    "hidden_norm.weight": CONTEXT_NORM,
    "norm.weight": OUTPUT_NORM,
    "embed_tokens.weight": TABLE,
    "lm_head.weight": HEAD,
}
_BLOCK_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


class _Block(msgspec.Struct):
    """What may lie in `dflash_config` or beside it."""

    block_size: int | None = None
    mask_token_id: int | None = None
    target_layer_ids: tuple[int, ...] | None = None


class _Config(_Block, kw_only=True):
    """What is read of a drafter's config.json."""

    hidden_size: int
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=MOST_LAYERS)]
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    vocab_size: int
    dflash_config: _Block = msgspec.field(default_factory=_Block)
    hidden_act: str = "silu"
    rope_theta: float | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    use_sliding_window: bool = False
    sliding_window: int | None = None
    layer_types: tuple[str, ...] | None = None


def read_safetensors(path: Path) -> tuple[DrafterSpec, Weights]:
    """Raises ModelNotFoundError, ModelFormatError or UnsupportedModelError."""
    file = SafetensorsFile(path)
    spec = _read_config(path.parent / "config.json")
    tensors: dict[str, Tensor] = {}
    for name, shape in file.shapes.items():
        known = _llama_cpp_name(name)
        tensors[known] = _tensor(file, name, known, shape)
    return spec, Weights(tensors, ["the drafter's matrices are converted to Q8_0 at load"])


def _read_config(path: Path) -> DrafterSpec:
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except OSError as error:
        raise ModelNotFoundError(str(path), "it belongs beside the weights") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _fail(path, str(error))
    rope = {**(config.rope_scaling or {}), **(config.rope_parameters or {})}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling != "default":
        raise UnsupportedModelError("a drafter's rope scaling", scaling, ["default"])
    if config.hidden_act != "silu":
        raise UnsupportedModelError("a drafter's hidden_act", config.hidden_act, ["silu"])
    theta = config.rope_theta or rope.get("rope_theta")
    inner = config.dflash_config
    block_size = inner.block_size or config.block_size
    taps = inner.target_layer_ids or config.target_layer_ids
    mask_token = config.mask_token_id if inner.mask_token_id is None else inner.mask_token_id
    if not isinstance(theta, (int, float)):
        _fail(path, "'rope_theta' is missing")
    if block_size is None or mask_token is None or taps is None:
        _fail(path, "'block_size', 'mask_token_id' or 'target_layer_ids' of its block is missing")
    return DrafterSpec(
        n_layer=config.num_hidden_layers,
        n_embd=config.hidden_size,
        n_ff=config.intermediate_size,
        n_head=config.num_attention_heads,
        n_kv=config.num_key_value_heads,
        head_dim=config.head_dim,
        rms_eps=config.rms_norm_eps,
        rope_theta=float(theta),
        block_size=block_size,
        mask_token=mask_token,
        taps=taps,
        windows=_windows(config),
        n_vocab=config.vocab_size,
    )


def _windows(config: _Config) -> tuple[int | None, ...]:
    kinds = config.layer_types or ("full_attention",) * config.num_hidden_layers
    window = config.sliding_window if config.use_sliding_window else None
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _tensor(file: SafetensorsFile, name: str, known: str, shape: tuple[int, ...]) -> Tensor:
    n_cols = shape[-1] if shape else 1
    n_out = int(np.prod(shape[:-1], dtype=np.int64))
    is_matrix = len(shape) > 1 and n_cols % _Q8_BLOCK == 0
    kind = GGMLQuantizationType.Q8_0 if is_matrix else GGMLQuantizationType.F32
    load = partial(_load, file, name, (n_out, n_cols), int(kind))
    return Tensor(Weight(known, n_out, n_cols, int(kind)), False, load)


def _load(file: SafetensorsFile, name: str, shape: tuple[int, int], type_id: int) -> weights.Bytes:
    return weights.quantize(file.f32(name).reshape(shape), type_id)


def _fail(path: Path, detail: str) -> NoReturn:
    raise ModelFormatError(path, detail, kind="config.json")


def _llama_cpp_name(name: str) -> str:
    """llama.cpp's name of a tensor; one that nobody knows stays as it is."""
    name = name.removeprefix("model.")
    if name in _NAMES:
        return _NAMES[name]
    prefix, _, rest = name.partition(".")
    layer, _, suffix = rest.partition(".")
    if prefix == "layers" and suffix in _BLOCK_NAMES:
        return f"blk.{layer}.{_BLOCK_NAMES[suffix]}"
    return name
