"""What a DFlash drafter is, whatever file it came in: its shape, its tensors and their names.

Tensors are named as llama.cpp names them. Sizes are checked here, so errors name the drafter's file
and not its target's.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelFormatError, UnsupportedModelError
from engine.weights import Weights

FC = "fc.weight"
CONTEXT_NORM = "enc.output_norm.weight"
OUTPUT_NORM = "output_norm.weight"
# A drafter reads its target's embedding and output; some files bring their own.
TABLE = "token_embd.weight"
HEAD = "output.weight"

LARGEST = 1 << 20  # no real hyper-parameter comes near; a hostile file's may
MOST_LAYERS = 1024
MOST_BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class DrafterSpec:
    """A drafter's shape (SPEC A.2), all of it from its metadata.

    `taps` are the target layers (from 0, ascending) whose outputs it reads; `windows` has, by
    layer, how many keys a row sees, or None for all (SPEC A.4). `n_vocab` is the size of the
    target's vocabulary, where the file tells it. `vocabulary` are the ids that it drafts, one for
    each row of its head; None means all.
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
    n_vocab: int | None = None
    vocabulary: NDArray[np.int32] | None = None

    def shapes(self) -> dict[str, tuple[int, int]]:
        """The (n_out, n_cols) of every tensor a drafter must have; vectors have n_out 1."""
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
    """An opened drafter: what it is, and its tensors under the names above."""

    path: Path
    spec: DrafterSpec
    weights: Weights


def check_drafter(file: DrafterFile) -> None:
    """Raises ModelFormatError for what contradicts itself, UnsupportedModelError for tensors that
    say it computes more than DFlash does."""
    _check_numbers(file)
    spec, tensors = file.spec, file.weights.tensors
    n_drafted = spec.n_vocab if spec.vocabulary is None else len(spec.vocabulary)
    own = {TABLE: (spec.n_vocab, spec.n_embd), HEAD: (n_drafted, spec.n_embd)}
    for name, shape in {**spec.shapes(), **own}.items():
        if name in own and name not in tensors:
            continue
        _require(file, name in tensors, f"tensor '{name}' is missing")
        weight = tensors[name].weight
        found = (weight.n_out, weight.n_cols)
        _require(file, found == shape, f"tensor '{name}' is {found}, expected {shape}")
    for name in sorted(tensors.keys() - spec.shapes().keys() - own.keys()):
        # DFlash2's convolutions, DSpark's heads, attention sinks, biases: drafts without them are
        # those of another model.
        raise UnsupportedModelError("drafter tensor", name, ["those of plain DFlash"])


def _check_numbers(file: DrafterFile) -> None:
    spec = file.spec
    for name in ("n_layer", "n_embd", "n_ff", "n_head", "n_kv", "head_dim"):
        value, most = getattr(spec, name), MOST_LAYERS if name == "n_layer" else LARGEST
        _require(file, 0 < value <= most, f"{name} is {value}, expected 1..{most}")
    _require(
        file,
        2 <= spec.block_size <= MOST_BLOCK,
        f"its block has {spec.block_size} rows, expected 2..{MOST_BLOCK}",
    )
    is_ascending = all(a < b for a, b in zip(spec.taps, spec.taps[1:], strict=False))
    _require(
        file,
        bool(spec.taps) and is_ascending and spec.taps[0] >= 0,
        f"it taps layers {list(spec.taps)}, expected ascending ones from 0",
    )
    _require(file, len(spec.windows) == spec.n_layer, "its windows are not one per layer")
    _require(
        file,
        all(w is None or 0 < w <= LARGEST for w in spec.windows),
        f"its windows are {list(spec.windows)}, expected 1..{LARGEST}",
    )
    for name, value in (("rope theta", spec.rope_theta), ("epsilon", spec.rms_eps)):
        is_sound = math.isfinite(value) and value > 0
        _require(file, is_sound, f"its {name} is {value}, expected a positive number")
    if spec.vocabulary is not None:
        ids = np.unique(spec.vocabulary)
        is_set = len(ids) == len(spec.vocabulary) > 0
        _require(file, is_set and int(ids[0]) >= 0, "its vocabulary is not of different ids")


def _require(file: DrafterFile, holds: bool, detail: str) -> None:
    if not holds:
        raise ModelFormatError(file.path, detail, kind="drafter")
