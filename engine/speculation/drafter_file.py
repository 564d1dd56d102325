"""Opens DFlash drafters: three layouts in, one DrafterSpec and one set of tensor names out.

- llama.cpp's GGUF, architecture `dflash`: `dflash.block_size`, `dflash.target_layers` (they count
  layer inputs: one more than the layer whose output is tapped), `tokenizer.ggml.mask_token_id`.
- Lucebox's GGUF (SPEC A.7), architectures below: `{A}.dflash.block_size`, `.target_layer_ids`,
  `.mask_token_id`.
- z-lab's safetensors with a `config.json` beside it, Hugging Face's names (SPEC A.7).

Tensors are named as llama.cpp names them. Sizes are checked here, so errors name this file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from engine import weights
from engine.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.ops import Weight
from engine.speculation.safetensors import SafetensorsFile
from engine.weights import Tensor, Weights

LLAMA_CPP = "dflash"
LUCEBOX = ("qwen35-dflash-draft", "dflash-draft", "gemma4-dflash-draft")
DRAFT_VOCABULARY = "flash_lsp.draft_vocabulary"

FC = "fc.weight"
CONTEXT_NORM = "enc.output_norm.weight"
OUTPUT_NORM = "output_norm.weight"

_LARGEST = 1 << 20  # no real hyper-parameter comes near; a hostile file's may
_MOST_BLOCK = 64
_Q8_BLOCK = 32

_LUCEBOX_NAMES = {
    "dflash.fc.weight": FC,
    "dflash_fc.weight": FC,
    "dflash.hidden_norm.weight": CONTEXT_NORM,
    "dflash_hidden_norm.weight": CONTEXT_NORM,
}
_LUCEBOX_SUFFIXES = {"post_attention_norm.weight": "ffn_norm.weight"}
_HF_NAMES = {"fc.weight": FC, "hidden_norm.weight": CONTEXT_NORM, "norm.weight": OUTPUT_NORM}
_HF_SUFFIXES = {
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


@dataclass(frozen=True, kw_only=True)
class DrafterSpec:
    """A drafter's shape (SPEC A.2), all of it from its metadata.

    `taps` are the target layers (from 0, ascending) whose outputs it reads; `windows` has, by
    layer, how many keys a row sees, or None for all (SPEC A.4). `vocabulary` are the ids it
    drafts, ascending; None means all.
    """

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_kv: int
    head_dim: int
    rms_eps: float
    rope_theta: float
    block_size: int
    mask_token: int
    taps: tuple[int, ...]
    windows: tuple[int | None, ...]
    vocabulary: NDArray[np.int32] | None = None

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Every tensor's (n_out, n_cols); vectors have n_out 1."""
        e, f, q, kv = self.n_embd, self.n_ff, self.n_head * self.head_dim, self.n_kv * self.head_dim
        block = {
            "attn_norm": (1, e),
            "attn_q": (q, e),
            "attn_k": (kv, e),
            "attn_v": (kv, e),
            "attn_q_norm": (1, self.head_dim),
            "attn_k_norm": (1, self.head_dim),
            "attn_output": (e, q),
            "ffn_norm": (1, e),
            "ffn_gate": (f, e),
            "ffn_up": (f, e),
            "ffn_down": (e, f),
        }
        shapes = {FC: (e, e * len(self.taps)), CONTEXT_NORM: (1, e), OUTPUT_NORM: (1, e)}
        for layer in range(self.n_layer):
            shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
        return shapes


@dataclass(frozen=True)
class DrafterFile:
    path: Path
    spec: DrafterSpec
    weights: Weights


def open_drafter(path: Path, is_native: Callable[[int], bool]) -> DrafterFile:
    """Opens a drafter of any layout; a folder is one of safetensors.

    Raises ModelNotFoundError, ModelFormatError or UnsupportedModelError.
    """
    if path.is_dir() or path.suffix == ".safetensors":
        file = path / "model.safetensors" if path.is_dir() else path
        opened = DrafterFile(file, *_read_safetensors(file))
    else:
        # Tensors are read later: the map goes with the last of them.
        opened = DrafterFile(path, *_read_gguf(GgufFile(path), is_native))
    _check(opened)
    return opened


def _check(file: DrafterFile) -> None:
    spec = file.spec

    def require(holds: bool, detail: str) -> None:
        if not holds:
            raise ModelFormatError(file.path, detail, kind="drafter")

    for name in ("n_layer", "n_embd", "n_ff", "n_head", "n_kv", "head_dim"):
        value = getattr(spec, name)
        require(0 < value <= _LARGEST, f"{name} is {value}, expected 1..{_LARGEST}")
    require(spec.n_layer <= 1024, f"it has {spec.n_layer} layers, expected at most 1024")
    require(
        2 <= spec.block_size <= _MOST_BLOCK,
        f"its block has {spec.block_size} rows, expected 2..{_MOST_BLOCK}",
    )
    is_ascending = all(a < b for a, b in zip(spec.taps, spec.taps[1:], strict=False))
    require(
        bool(spec.taps) and is_ascending and spec.taps[0] >= 0,
        f"it taps layers {list(spec.taps)}, expected ascending ones from 0",
    )
    require(len(spec.windows) == spec.n_layer, "its windows are not one per layer")
    require(
        all(w is None or 0 < w <= _LARGEST for w in spec.windows),
        f"its windows are {list(spec.windows)}, expected positive ones",
    )
    require(spec.rope_theta > 0 and spec.rms_eps >= 0, "rope theta or epsilon is not positive")
    if spec.vocabulary is not None:
        is_set = bool((np.diff(spec.vocabulary) > 0).all()) and len(spec.vocabulary) > 0
        require(is_set and int(spec.vocabulary[0]) >= 0, "its vocabulary is not ascending ids")
    for name, shape in spec.shapes().items():
        tensor = file.weights.tensors.get(name)
        require(tensor is not None, f"tensor '{name}' is missing")
        assert tensor is not None
        found = (tensor.weight.n_out, tensor.weight.n_cols)
        require(found == shape, f"tensor '{name}' is {found}, expected {shape}")


# ---- GGUF ----


def _read_gguf(g: GgufFile, is_native: Callable[[int], bool]) -> tuple[DrafterSpec, Weights]:
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
    n_layer = g.require(g.key("block_count"), int)
    vocabulary = g.optional_list(DRAFT_VOCABULARY, int)
    spec = DrafterSpec(
        n_layer=n_layer,
        n_embd=g.require(g.key("embedding_length"), int),
        n_ff=g.require(g.key("feed_forward_length"), int),
        n_head=g.require(g.key("attention.head_count"), int),
        n_kv=g.require(g.key("attention.head_count_kv"), int),
        head_dim=g.require(g.key("attention.key_length"), int),
        rms_eps=g.require(g.key("attention.layer_norm_rms_epsilon"), float),
        rope_theta=g.require(g.key("rope.freq_base"), float),
        block_size=block_size,
        mask_token=mask_token,
        taps=taps,
        windows=_gguf_windows(g, n_layer),
        vocabulary=None if vocabulary is None else np.array(vocabulary, np.int32),
    )
    found = weights.of_gguf(g, is_native)
    names = {name: _renamed(name, _LUCEBOX_NAMES, _LUCEBOX_SUFFIXES) for name in found.tensors}
    renamed = {names[name]: tensor for name, tensor in found.tensors.items()}
    return spec, Weights(renamed, found.notices)


def _gguf_windows(g: GgufFile, n_layer: int) -> tuple[int | None, ...]:
    window = g.optional(g.key("attention.sliding_window"), int)
    if not window:
        return (None,) * n_layer
    pattern = g.optional_list(g.key("attention.sliding_window_pattern"), bool)
    if pattern is None:
        pattern = [True] * n_layer
    return tuple(window if is_sliding else None for is_sliding in pattern)


# ---- safetensors ----


class _DFlashConfig(msgspec.Struct):
    mask_token_id: int
    target_layer_ids: tuple[int, ...]
    block_size: int | None = None


class _Config(msgspec.Struct):
    """What is read of a drafter's config.json."""

    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    dflash_config: _DFlashConfig
    rope_theta: float | None = None
    rope_parameters: dict[str, Any] | None = None
    block_size: int | None = None
    use_sliding_window: bool = False
    sliding_window: int | None = None
    layer_types: tuple[str, ...] | None = None


def _read_safetensors(path: Path) -> tuple[DrafterSpec, Weights]:
    file = SafetensorsFile(path)
    config_path = path.parent / "config.json"
    try:
        config = msgspec.json.decode(config_path.read_bytes(), type=_Config)
    except OSError as error:
        raise ModelNotFoundError(str(config_path), "it belongs beside the weights") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelFormatError(config_path, str(error), kind="config.json") from error
    theta = config.rope_theta or (config.rope_parameters or {}).get("rope_theta")
    block_size = config.dflash_config.block_size or config.block_size
    if not isinstance(theta, (int, float)) or block_size is None:
        _fail_config(config_path, "'rope_theta' or 'block_size' is missing")
    spec = DrafterSpec(
        n_layer=config.num_hidden_layers,
        n_embd=config.hidden_size,
        n_ff=config.intermediate_size,
        n_head=config.num_attention_heads,
        n_kv=config.num_key_value_heads,
        head_dim=config.head_dim,
        rms_eps=config.rms_norm_eps,
        rope_theta=float(theta),
        block_size=block_size,
        mask_token=config.dflash_config.mask_token_id,
        taps=config.dflash_config.target_layer_ids,
        windows=_config_windows(config),
    )
    tensors: dict[str, Tensor] = {}
    for name, shape in file.shapes.items():
        known = _renamed(name, _HF_NAMES, _HF_SUFFIXES)
        tensors[known] = _safetensor(file, name, known, shape)
    return spec, Weights(tensors, ["the drafter's matrices are converted to Q8_0 at load"])


def _safetensor(file: SafetensorsFile, name: str, known: str, shape: tuple[int, ...]) -> Tensor:
    n_cols = shape[-1] if shape else 1
    n_out = int(np.prod(shape[:-1], dtype=np.int64))
    is_matrix = len(shape) > 1 and n_cols % _Q8_BLOCK == 0
    kind = GGMLQuantizationType.Q8_0 if is_matrix else GGMLQuantizationType.F32
    load = partial(_load_safetensor, file, name, (n_out, n_cols), int(kind))
    return Tensor(Weight(known, n_out, n_cols, int(kind)), False, load)


def _load_safetensor(
    file: SafetensorsFile, name: str, shape: tuple[int, int], type_id: int
) -> weights.Bytes:
    return weights.quantize(file.f32(name).reshape(shape), type_id)


def _config_windows(config: _Config) -> tuple[int | None, ...]:
    kinds = config.layer_types or ("full_attention",) * config.num_hidden_layers
    is_used = config.use_sliding_window and config.sliding_window
    return tuple(
        config.sliding_window if is_used and kind == "sliding_attention" else None for kind in kinds
    )


def _fail_config(path: Path, detail: str) -> NoReturn:
    raise ModelFormatError(path, detail, kind="config.json")


def _renamed(name: str, whole: Mapping[str, str], suffixes: Mapping[str, str]) -> str:
    """llama.cpp's name of a tensor; names nobody knows stay, and nobody reads them."""
    name = name.removeprefix("model.")
    if name in whole:
        return whole[name]
    prefix, _, rest = name.partition(".")
    layer, _, suffix = rest.partition(".")
    if prefix in ("layers", "blk") and suffix in suffixes:
        return f"blk.{layer}.{suffixes[suffix]}"
    return name
