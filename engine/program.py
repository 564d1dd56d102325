"""Program: a static list of ops over named tensors, built once per model and run by any backend.

Holds no numbers of the model and knows no backend. Per-step values (tokens, positions, tree
parents, selected rows) are inputs of the step, never part of the Program.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from engine.errors import ModelFormatError
from engine.ops import (
    Activation,
    Argmax,
    Attention,
    BlockSparse,
    Concat,
    Embed,
    KvLayer,
    KvWrite,
    Linear,
    Op,
    RmsNorm,
    Rope,
    Rows,
    SelectRows,
    SiluMul,
    TopK,
    Weight,
)


class Program:
    """Collects ops; every method checks shapes and returns the tensor it defines.

    `path` names the file in errors; `weights` are the tensors it has. Raises ModelFormatError for
    a missing tensor or shapes that do not fit.
    """

    def __init__(self, path: str, weights: Mapping[str, Weight]) -> None:
        self.path = path
        self._weights = weights
        self.ops: list[Op] = []
        self.kv_layers: list[KvLayer] = []
        self.layer_outputs: list[Activation] = []  # the residual stream after each layer
        self.logits: Activation | None = None
        self.collected: Activation | None = None  # what a step is for, where there are no logits

    # ---- tensors ----

    def has_weight(self, name: str) -> bool:
        return name in self._weights

    def weight(self, name: str, n_out: int, n_cols: int) -> Weight:
        """The tensor `name`, which must have shape (n_out, n_cols)."""
        weight = self._weights.get(name)
        if weight is None:
            raise ModelFormatError(self.path, f"tensor '{name}' is missing")
        found = (weight.n_out, weight.n_cols)
        self._expect(found == (n_out, n_cols), f"tensor '{name}' is {found}", (n_out, n_cols))
        return weight

    def optional_vector(self, name: str, n: int) -> Weight | None:
        return self.weight(name, 1, n) if self.has_weight(name) else None

    # ---- ops ----

    def embed(self, table: Weight) -> Activation:
        out = Activation(table.n_cols)
        self.ops.append(Embed(out, table))
        return out

    def rms_norm(self, x: Activation, weight: Weight, eps: float) -> Activation:
        """Normalizes each row, or each head of `weight`'s width."""
        is_whole = x.width % weight.n_cols == 0
        self._expect(is_whole, f"'{weight.name}' scales {x.width}", weight.n_cols)
        out = Activation(x.width, x.rows)
        self.ops.append(RmsNorm(out, x, weight, eps))
        return out

    def linear(
        self,
        x: Activation,
        weight: Weight,
        bias: Weight | None = None,
        residual: Activation | None = None,
    ) -> Activation:
        self._expect(weight.n_cols == x.width, f"'{weight.name}' meets {x.width}", weight.n_cols)
        if bias is not None:
            self._expect(bias.n_cols == weight.n_out, f"'{bias.name}'", weight.n_out)
        if residual is not None:
            self._expect(residual.width == weight.n_out, "the residual's width", weight.n_out)
        out = Activation(weight.n_out, x.rows)
        self.ops.append(Linear(out, x, weight, bias, residual))
        return out

    def rope(
        self, x: Activation, inverse_frequencies: tuple[float, ...], head_dim: int, is_neox: bool
    ) -> Activation:
        self._expect(x.width % head_dim == 0, f"heads of {head_dim} in {x.width}", "a multiple")
        self.ops.append(Rope(x, inverse_frequencies, head_dim, is_neox))
        return x

    def kv_layer(self, n_kv: int, head_dim: int) -> KvLayer:
        """Room for the keys and values of one more attention layer."""
        self.kv_layers.append(KvLayer(len(self.kv_layers), n_kv, head_dim))
        return self.kv_layers[-1]

    def kv_write(self, kv: KvLayer, k: Activation, v: Activation) -> None:
        """Stores k and v (T, K * D); `kv` may be a layer that another Program declared."""
        self._expect(
            k.width == v.width == kv.n_kv * kv.head_dim,
            f"keys of width {k.width} and values of {v.width}",
            kv.n_kv * kv.head_dim,
        )
        self.ops.append(KvWrite(kv, k, v))

    def attention(
        self,
        q: Activation,
        kv: KvLayer,
        n_head: int,
        scale: float,
        *,
        window: int | None = None,
        is_block: bool = False,
        sparse: BlockSparse | None = None,
    ) -> Activation:
        """Attends to what `kv` holds: q (T or R, H * D) -> same."""
        self._expect(
            n_head % kv.n_kv == 0 and q.width == n_head * kv.head_dim,
            f"attention of {n_head} heads over {kv.n_kv}, queries of width {q.width}",
            n_head * kv.head_dim,
        )
        self._expect(window is None or window > 0, f"a window of {window}", "at least 1")
        out = Activation(q.width, q.rows)
        self.ops.append(Attention(out, q, kv, n_head, scale, window, is_block, sparse))
        return out

    def silu_mul(self, gate: Activation, up: Activation) -> Activation:
        self._expect(gate.width == up.width, f"gate {gate.width}", up.width)
        out = Activation(gate.width, gate.rows)
        self.ops.append(SiluMul(out, gate, up))
        return out

    def select_rows(self, x: Activation) -> Activation:
        out = Activation(x.width, Rows.SELECTED)
        self.ops.append(SelectRows(out, x))
        return out

    def concat(self, parts: Sequence[Activation]) -> Activation:
        out = Activation(sum(part.width for part in parts), parts[0].rows)
        self.ops.append(Concat(out, tuple(parts)))
        return out

    def output(self, logits: Activation, top_k: int | None = None) -> None:
        """Declares the logits (R, V); their argmax, or top k, is part of every step."""
        self.ops.append(Argmax(logits) if top_k is None else TopK(logits, top_k))
        self.logits = logits

    def collect(self, x: Activation) -> None:
        """Declares x (T, width) as the result of every step, in place of logits."""
        self.collected = x

    # ---- for backends ----

    @property
    def result(self) -> Activation:
        """What a step is for."""
        result = self.collected or self.logits
        assert result is not None, "a Program declares its result"
        return result

    def weights_used(self) -> list[Weight]:
        """Every weight some op reads, once, in order of first use."""
        found: dict[str, Weight] = {}
        for op in self.ops:
            for field in fields(op):
                value = getattr(op, field.name)
                if isinstance(value, Weight):
                    found.setdefault(value.name, value)
        return list(found.values())

    def _expect(self, holds: bool, found: str, expected: object) -> None:
        if not holds:
            raise ModelFormatError(self.path, f"{found}, expected {expected}")
