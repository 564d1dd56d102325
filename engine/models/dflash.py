"""The DFlash drafter's two Programs (SPEC A.3, A.4).

Its context keys and values are computed by the target's own step, for all of its rows, and lie in
further layers of the target's KV blocks: whatever happens to a row of the target (accepted, copied,
truncated, found again in the prefix cache) happens to the drafter's as well.
"""

from collections.abc import Sequence

import numpy as np

from engine.ops import Activation, KvLayer, Weight
from engine.program import Program
from engine.speculation.drafter_spec import CONTEXT_NORM, FC, OUTPUT_NORM, DrafterSpec

PREFIX = "drafter."  # of the drafter's tensors, beside the target's in one Program
N_CANDIDATES = 8  # drafts per depth


def append_context(p: Program, spec: DrafterSpec) -> list[KvLayer]:
    """Adds to the target's Program: taps -> fc -> norm -> every drafter layer's keys and values."""
    parts = _Parts(p, spec)
    features = p.concat([p.layer_outputs[tap] for tap in spec.taps])  # (T, taps * E)
    context = parts.norm(p.linear(features, parts.weight(FC)), CONTEXT_NORM)  # (T, E)
    layers: list[KvLayer] = []
    for layer in range(spec.n_layer):
        kv = p.kv_layer(spec.n_kv, spec.head_dim)
        p.kv_write(kv, *parts.keys_values(layer, context))
        layers.append(kv)
    return layers


def build_block(
    p: Program, spec: DrafterSpec, layers: Sequence[KvLayer], table: Weight, head: Weight
) -> None:
    """The Program that drafts: rows [last token, mask, mask, ...] after the committed positions.

    `table` is the target's embedding, `head` its output or some rows of it. Rows of full layers see
    all committed keys and each other; those of sliding layers are causal (SPEC A.4).
    """
    parts = _Parts(p, spec)
    x = p.embed(table)  # (T, E)
    for layer, (kv, window) in enumerate(zip(layers, spec.windows, strict=True)):
        n = parts.norm(x, f"blk.{layer}.attn_norm.weight")
        q = parts.heads(layer, "q", n)
        p.kv_write(kv, *parts.keys_values(layer, n))
        scale = spec.head_dim**-0.5
        a = p.attention(q, kv, spec.n_head, scale, window=window, is_block=window is None)
        x = p.linear(a, parts.weight(f"blk.{layer}.attn_output.weight"), residual=x)
        n = parts.norm(x, f"blk.{layer}.ffn_norm.weight")
        gate, up = (parts.project(layer, name, n) for name in ("ffn_gate", "ffn_up"))
        down = parts.weight(f"blk.{layer}.ffn_down.weight")
        x = p.linear(p.silu_mul(gate, up), down, residual=x)
    x = parts.norm(p.select_rows(x), OUTPUT_NORM)  # (R, E)
    p.output(p.linear(x, head), top_k=min(N_CANDIDATES, head.n_out))


class _Parts:
    """The drafter's tensors in a Program, and what is built of them in both Programs."""

    def __init__(self, p: Program, spec: DrafterSpec) -> None:
        self._p, self._spec, self._shapes = p, spec, spec.shapes()
        exponents = np.arange(0, spec.head_dim, 2, dtype=np.float64) / spec.head_dim
        self._frequencies = tuple(float(f) for f in spec.rope_theta**-exponents)

    def weight(self, name: str) -> Weight:
        return self._p.weight(PREFIX + name, *self._shapes[name])

    def norm(self, x: Activation, name: str) -> Activation:
        return self._p.rms_norm(x, self.weight(name), self._spec.rms_eps)

    def project(self, layer: int, name: str, x: Activation) -> Activation:
        return self._p.linear(x, self.weight(f"blk.{layer}.{name}.weight"))

    def heads(self, layer: int, name: str, x: Activation) -> Activation:
        """Queries or keys: projected, normalized per head, rotated (NEOX)."""
        heads = self.norm(
            self.project(layer, f"attn_{name}", x), f"blk.{layer}.attn_{name}_norm.weight"
        )
        return self._p.rope(heads, self._frequencies, self._spec.head_dim, is_neox=True)

    def keys_values(self, layer: int, x: Activation) -> tuple[Activation, Activation]:
        return self.heads(layer, "k", x), self.project(layer, "attn_v", x)
