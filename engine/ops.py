"""The op table: every operation a Program may hold, its tensors and its constants.

Shapes use T rows of the step, R selected rows, H query heads, K key/value heads, D head size and
E, F, V widths. `Program` checks shapes when an op is added; a backend only executes. Adding an op:
a class here, a method in program.py, a case in each backend, and its test against NumPy.
"""

from dataclasses import dataclass
from enum import Enum


class Rows(Enum):
    """How many rows an activation has: one per token of the step, or one per selected row."""

    STEP = "T"
    SELECTED = "R"


@dataclass(frozen=True, eq=False)
class Weight:
    """A named tensor of the file: (n_out, n_cols) of a GGUF type; vectors have n_out 1."""

    name: str
    n_out: int
    n_cols: int
    type_id: int


@dataclass(frozen=True, eq=False)
class Activation:
    """An f32 tensor (T or R, width) that lives from the op that writes it to its last reader."""

    width: int
    rows: Rows = Rows.STEP


@dataclass(frozen=True)
class KvLayer:
    """The keys and values of one attention layer; they lie in the KV cache that a step is given."""

    layer: int
    n_kv: int
    head_dim: int


@dataclass(frozen=True, eq=False)
class Op:
    """Base of all ops; the fields that are activations say what it reads and writes."""


@dataclass(frozen=True, eq=False)
class Embed(Op):
    """out (T, E) = rows of table (V, E) named by the step's tokens."""

    out: Activation
    table: Weight


@dataclass(frozen=True, eq=False)
class RmsNorm(Op):
    """out = x / sqrt(mean(x^2) + eps) * weight, per row, or per head when weight has its width."""

    out: Activation
    x: Activation
    weight: Weight
    eps: float


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """out (T, n_out) = x (T, n_cols) weight^T + bias + residual."""

    out: Activation
    x: Activation
    weight: Weight
    bias: Weight | None
    residual: Activation | None


@dataclass(frozen=True, eq=False)
class Rope(Op):
    """Rotates the first 2 * len(inverse_frequencies) dimensions of every head of x, in place.

    Pairs are (i, i + n/2) when `is_neox`, else (2i, 2i + 1); the angle is position * frequency.
    """

    x: Activation
    inverse_frequencies: tuple[float, ...]
    head_dim: int
    is_neox: bool


@dataclass(frozen=True, eq=False)
class KvWrite(Op):
    """Stores k and v (T, K * D) at the slots of the step's rows."""

    kv: KvLayer
    k: Activation
    v: Activation


@dataclass(frozen=True)
class BlockSparse:
    """Which keys a step's rows see of the blocks before it (SPEC C.6): the first `n_sink` blocks,
    those nearer than `n_window`, and those that score at least `alpha` times the best.

    A block's score is the sum over the rows of a softmax over the blocks of q . mean(keys) * scale,
    per head: all selected at alpha 0, and independent of how keys are scaled. The rows of one step
    are one block of queries, so a text's result depends on its steps: they should be `block` rows.
    """

    alpha: float
    block: int = 128
    n_sink: int = 2
    n_window: int = 4


@dataclass(frozen=True, eq=False)
class Attention(Op):
    """out = softmax(q k^T * scale) v over the committed keys, ancestors and self.

    q and out are (T, H * D), or (R, H * D) for the selected rows alone. With `window`, a row sees
    only that many keys, its own the last of them. With `is_block`, every row sees all rows of the
    step instead of its ancestors (SPEC A.4). `sparse` leaves out blocks of keys that matter little.
    """

    out: Activation
    q: Activation
    kv: KvLayer
    n_head: int
    scale: float
    window: int | None
    is_block: bool
    sparse: BlockSparse | None


@dataclass(frozen=True, eq=False)
class SiluMul(Op):
    """out = silu(gate) * up."""

    out: Activation
    gate: Activation
    up: Activation


@dataclass(frozen=True, eq=False)
class SelectRows(Op):
    """out (R, E) = the rows of x (T, E) whose results the step asks for."""

    out: Activation
    x: Activation


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """out (T, sum of widths) = the parts' rows side by side."""

    out: Activation
    parts: tuple[Activation, ...]


@dataclass(frozen=True, eq=False)
class TopK(Op):
    """The k likeliest elements of each row of x (R, V), with their log-softmax."""

    x: Activation
    k: int


@dataclass(frozen=True, eq=False)
class Argmax(Op):
    """The index of the largest element of each row of x (R, V), the lowest among equals."""

    x: Activation
