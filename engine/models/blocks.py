"""Parts that several architectures share: hyper-parameters, attention and feed-forward blocks."""

from dataclasses import dataclass

import numpy as np

from engine.errors import ModelFormatError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.ops import Activation, BlockSparse
from engine.program import Program

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"

_LARGEST = 1 << 24  # no real hyper-parameter comes near; a hostile file's may


@dataclass(frozen=True)
class Probe:
    """What a scorer wants of a model (SPEC C.3): queries and keys of `layers`, in ascending order,
    as they are before rotation. Nothing behind the last of them is computed. With `sparse`, the
    layers between attend to blocks of keys."""

    layers: tuple[int, ...]
    sparse: BlockSparse | None = None


@dataclass(frozen=True)
class Hyperparameters:
    """What every dense decoder's GGUF declares; names follow the metadata keys."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_kv: int
    head_dim: int
    n_rot: int
    n_vocab: int
    rms_eps: float
    rope_theta: float

    @classmethod
    def from_gguf(cls, g: GgufFile) -> "Hyperparameters":
        def read(key: str, default: int | None = None) -> int:
            value = g.optional(g.key(key), int)
            if value is None:
                value = default if default is not None else g.require(g.key(key), int)
            if not 0 < value <= _LARGEST:
                raise ModelFormatError(g.path, f"'{g.key(key)}' is {value}, expected 1..{_LARGEST}")
            return value

        scaling = g.optional(g.key("rope.scaling.type"), str) or "none"
        if scaling != "none":
            raise UnsupportedModelError("rope scaling", scaling, ["none"])
        table = g.tensors.get(EMBEDDING)
        if table is None or len(table.shape) != 2:
            raise ModelFormatError(g.path, f"tensor '{EMBEDDING}' is missing or no matrix")
        n_embd, n_head = read("embedding_length"), read("attention.head_count")
        head_dim = read("attention.key_length", default=max(n_embd // n_head, 1))
        return cls(
            n_layer=read("block_count"),
            n_embd=n_embd,
            n_ff=read("feed_forward_length"),
            n_head=n_head,
            n_kv=read("attention.head_count_kv", default=n_head),
            head_dim=head_dim,
            n_rot=read("rope.dimension_count", default=head_dim),
            n_vocab=table.shape[1],
            rms_eps=g.require(g.key("attention.layer_norm_rms_epsilon"), float),
            rope_theta=g.optional(g.key("rope.freq_base"), float) or 10000.0,
        )

    @property
    def inverse_frequencies(self) -> tuple[float, ...]:
        """theta^(-2i / n_rot) for each rotary pair."""
        exponents = np.arange(0, self.n_rot, 2, dtype=np.float64) / self.n_rot
        return tuple(float(f) for f in self.rope_theta**-exponents)


def dense_decoder(p: Program, g: GgufFile, probe: Probe | None = None, *, is_neox: bool) -> None:
    """Attention and feed-forward blocks in turn; `is_neox` says how rotary pairs lie (ops.Rope).

    With a probe, the result is (T, layers * (H + K) * D): queries and keys, layer by layer.
    """
    h = Hyperparameters.from_gguf(g)
    x = p.embed(p.weight(EMBEDDING, h.n_vocab, h.n_embd))  # (T, E)
    if probe is not None:
        _probed_blocks(p, h, probe, x, is_neox=is_neox)
        return
    for layer in range(h.n_layer):
        x = attention_block(p, h, layer, x, is_neox=is_neox)
        x = feed_forward_block(p, h, layer, x)
        p.layer_outputs.append(x)
    output_head(p, h, x)


def _probed_blocks(
    p: Program, h: Hyperparameters, probe: Probe, x: Activation, *, is_neox: bool
) -> None:
    last = probe.layers[-1]
    if not 0 <= probe.layers[0] <= last < h.n_layer:
        raise ModelFormatError(p.path, f"no layer {last} to score with, expected < {h.n_layer}")
    found: list[Activation] = []
    for layer in range(last + 1):
        if layer in probe.layers:
            n = p.rms_norm(x, p.weight(f"blk.{layer}.attn_norm.weight", 1, h.n_embd), h.rms_eps)
            found += [_project(p, h, layer, name, n) for name in ("q", "k")]
        if layer < last:
            x = attention_block(p, h, layer, x, is_neox=is_neox, sparse=probe.sparse)
            x = feed_forward_block(p, h, layer, x)
    p.collect(p.concat(found))


def _project(p: Program, h: Hyperparameters, layer: int, name: str, n: Activation) -> Activation:
    """Queries "q", keys "k" or values "v" of the normalized n, before rotation."""
    width = (h.n_head if name == "q" else h.n_kv) * h.head_dim
    weight = p.weight(f"blk.{layer}.attn_{name}.weight", width, h.n_embd)
    bias = p.optional_vector(f"blk.{layer}.attn_{name}.bias", width)
    return p.linear(n, weight, bias=bias)


def attention_block(
    p: Program,
    h: Hyperparameters,
    layer: int,
    x: Activation,
    *,
    is_neox: bool,
    sparse: BlockSparse | None = None,
) -> Activation:
    """x + Wo attention(rope(Wq n + bq), rope(Wk n + bk), Wv n + bv) with n = rms_norm(x).

    In the last layer, what comes after its keys and values is computed for the selected rows only:
    (T, E) -> (R, E).
    """
    blk = f"blk.{layer}"
    q_dim = h.n_head * h.head_dim
    n = p.rms_norm(x, p.weight(f"{blk}.attn_norm.weight", 1, h.n_embd), h.rms_eps)
    k, v = (_project(p, h, layer, name, n) for name in ("k", "v"))  # (T, K * D)
    if layer == h.n_layer - 1:
        x = p.select_rows(x)
        n = p.rms_norm(x, p.weight(f"{blk}.attn_norm.weight", 1, h.n_embd), h.rms_eps)
    q = _project(p, h, layer, "q", n)
    q = p.rope(q, h.inverse_frequencies, h.head_dim, is_neox)
    k = p.rope(k, h.inverse_frequencies, h.head_dim, is_neox)
    kv = p.kv_layer(h.n_kv, h.head_dim)
    p.kv_write(kv, k, v)
    a = p.attention(q, kv, h.n_head, scale=h.head_dim**-0.5, sparse=sparse)  # (T or R, H * D)
    output = p.weight(f"{blk}.attn_output.weight", h.n_embd, q_dim)
    bias = p.optional_vector(f"{blk}.attn_output.bias", h.n_embd)
    return p.linear(a, output, bias=bias, residual=x)


def feed_forward_block(p: Program, h: Hyperparameters, layer: int, x: Activation) -> Activation:
    """x + Wdown (silu(Wgate n) * Wup n) with n = rms_norm(x)."""
    blk = f"blk.{layer}"
    n = p.rms_norm(x, p.weight(f"{blk}.ffn_norm.weight", 1, h.n_embd), h.rms_eps)
    gate = p.linear(n, p.weight(f"{blk}.ffn_gate.weight", h.n_ff, h.n_embd))
    up = p.linear(n, p.weight(f"{blk}.ffn_up.weight", h.n_ff, h.n_embd))
    down = p.weight(f"{blk}.ffn_down.weight", h.n_embd, h.n_ff)
    return p.linear(p.silu_mul(gate, up), down, residual=x)


def output_head(p: Program, h: Hyperparameters, x: Activation) -> None:
    """Logits of x (R, E); a model without output.weight reuses its embedding table."""
    x = p.rms_norm(x, p.weight("output_norm.weight", 1, h.n_embd), h.rms_eps)
    p.output(p.linear(x, p.weight(head_name(p), h.n_vocab, h.n_embd)))


def head_name(p: Program) -> str:
    return HEAD if p.has_weight(HEAD) else EMBEDDING
