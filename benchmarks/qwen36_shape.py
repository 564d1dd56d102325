"""A Program with the shape of Qwen3.6-27B (SPEC D.1) and of its DFlash drafter (SPEC A.2).

Of weights there are names, shapes and types, no numbers. Three of every four layers are gated
delta nets, which no op of the table computes: their matrices are linear ops here, what they do to
single elements are ops that touch as much, and their state and recurrence are `recurrence`'s.
"""

from dataclasses import dataclass

from gguf import GGMLQuantizationType as Type

from benchmarks.roofline import Work
from engine.models.dflash import PREFIX, append_context, build_block
from engine.ops import Activation, Weight
from engine.program import Program
from engine.speculation.drafter_spec import DrafterSpec

NAME = "Qwen3.6-27B Q4_K_M"
N_LAYERS, WIDTH, N_FF, N_VOCAB = 64, 5120, 17408, 248320
N_HEAD, N_KV, HEAD_DIM, N_ROT, THETA = 24, 4, 256, 64, 1e7
INNER, QKV, V_HEADS, STATE_DIM = 6144, 10240, 48, 128
EPS = 1e-6
_CHUNK = 64  # of the delta rule's form for prompts (SPEC D.4)
_FLOAT_BYTES = 4
_N_RECURRENT = N_LAYERS * 3 // 4
STATE_BYTES = _N_RECURRENT * _FLOAT_BYTES * (V_HEADS * STATE_DIM**2 + 3 * QKV)

DRAFTER = DrafterSpec(
    n_layer=5, n_embd=WIDTH, n_ff=N_FF, n_head=32, n_kv=8, head_dim=128, rms_eps=EPS,
    rope_theta=THETA, block_size=16, mask_token=248070, taps=(1, 16, 31, 46, 61),
    windows=(2048, 2048, 2048, 2048, None),
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The target, with its drafter's context projections in `drafted`, and the drafter."""

    target: Program
    drafted: Program
    block: Program


def build() -> Shape:
    weights = _weights()
    target, drafted = Program(NAME, weights), Program(NAME, weights)
    _decoder(target)
    _decoder(drafted)
    layers = append_context(drafted, DRAFTER)
    block = Program(f"drafter of {NAME}", weights)
    build_block(block, DRAFTER, layers, weights["token_embd.weight"], weights["output.weight"])
    return Shape(target, drafted, block)


def gguf_bytes() -> int:
    """Of the file, as far as it is matrices."""
    bytes_of = {Type.Q4_K: 4.5, Type.Q6_K: 6.5625, Type.Q8_0: 8.5}
    return round(
        sum(
            w.n_out * w.n_cols * bytes_of[Type(w.type_id)] / 8
            for w in _weights().values()
            if w.n_out > 1 and not w.name.startswith(PREFIX)
        )
    )


def recurrence(n_rows: int, *, is_tree: bool = False) -> Work:
    """The gated delta nets' state and sums, all layers in one entry.

    The state is read and written once a step; a tree keeps its branches' states in registers (SPEC
    B.4) and reads it once more to commit. The products of the form for prompts (SPEC D.4) cost
    6 C D + 6 D^2 a head and token.
    """
    n_passes = 3 if is_tree else 2
    per_token = V_HEADS * (6 * _CHUNK * STATE_DIM + 6 * STATE_DIM**2)
    return Work(
        "GatedDelta",
        n_launches=2 * _N_RECURRENT,  # the convolution, the rule
        other_bytes=n_passes * STATE_BYTES,
        attention_flops=float(_N_RECURRENT * n_rows * per_token),
    )


# ---- the Program ----


def _decoder(p: Program) -> None:
    x = p.embed(p.weight("token_embd.weight", N_VOCAB, WIDTH))
    for layer in range(N_LAYERS):
        n = _norm(p, x, f"blk.{layer}.attn_norm.weight", WIDTH)
        mix = _attention if layer % 4 == 3 else _delta_net
        x = mix(p, layer, x, n)
        n = _norm(p, x, f"blk.{layer}.post_attention_norm.weight", WIDTH)
        gate, up = (
            _linear(p, n, f"blk.{layer}.ffn_{name}.weight", N_FF) for name in ("gate", "up")
        )
        x = _linear(p, p.silu_mul(gate, up), f"blk.{layer}.ffn_down.weight", WIDTH, x)
        p.layer_outputs.append(x)
    x = _norm(p, p.select_rows(x), "output_norm.weight", WIDTH)
    p.output(_linear(p, x, "output.weight", N_VOCAB))


def _norm(p: Program, x: Activation, name: str, width: int) -> Activation:
    return p.rms_norm(x, p.weight(name, 1, width), EPS)


def _linear(
    p: Program, x: Activation, name: str, n_out: int, residual: Activation | None = None
) -> Activation:
    return p.linear(x, p.weight(name, n_out, x.width), residual=residual)


def _attention(p: Program, layer: int, x: Activation, n: Activation) -> Activation:
    """Queries, their gates (one matrix in the file), keys and values; a quarter of a head turns."""
    blk = f"blk.{layer}"
    names = ("attn_q", "attn_q_gate", "attn_k", "attn_v")
    widths = (N_HEAD * HEAD_DIM, N_HEAD * HEAD_DIM, N_KV * HEAD_DIM, N_KV * HEAD_DIM)
    q, gate, k, v = (
        _linear(p, n, f"{blk}.{name}.weight", width)
        for name, width in zip(names, widths, strict=True)
    )
    q = _norm(p, q, f"{blk}.attn_q_norm.weight", HEAD_DIM)
    k = _norm(p, k, f"{blk}.attn_k_norm.weight", HEAD_DIM)
    turns = tuple(THETA ** (-2 * i / N_ROT) for i in range(N_ROT // 2))
    q, k = (p.rope(heads, turns, HEAD_DIM, is_neox=True) for heads in (q, k))
    kv = p.kv_layer(N_KV, HEAD_DIM)
    p.kv_write(kv, k, v)
    a = p.attention(q, kv, N_HEAD, scale=1 / 16)
    return _linear(p, p.silu_mul(gate, a), f"{blk}.attn_output.weight", WIDTH, x)


def _delta_net(p: Program, layer: int, x: Activation, n: Activation) -> Activation:
    blk = f"blk.{layer}"
    _linear(p, n, f"{blk}.attn_qkv.weight", QKV)
    gate = _linear(p, n, f"{blk}.attn_gate.weight", INNER)
    for name in ("ssm_alpha", "ssm_beta"):
        _linear(p, n, f"{blk}.{name}.weight", V_HEADS)
    normed = _norm(p, gate, f"{blk}.ssm_norm.weight", STATE_DIM)
    return _linear(p, p.silu_mul(gate, normed), f"{blk}.ssm_out.weight", WIDTH, x)


# ---- the weights ----


def _weights() -> dict[str, Weight]:
    """Types as llama.cpp's Q4_K_M mixes them: half of the values' and down matrices in Q6_K."""
    found: dict[str, Weight] = {}

    def add(name: str, n_out: int, n_cols: int, kind: Type) -> None:
        found[name] = Weight(name, n_out, n_cols, int(kind))

    add("token_embd.weight", N_VOCAB, WIDTH, Type.Q4_K)
    add("output.weight", N_VOCAB, WIDTH, Type.Q6_K)
    add("output_norm.weight", 1, WIDTH, Type.F32)
    for layer in range(N_LAYERS):
        blk, better = f"blk.{layer}", Type.Q6_K if _is_better(layer) else Type.Q4_K
        q_dim, kv_dim = N_HEAD * HEAD_DIM, N_KV * HEAD_DIM
        for name in ("attn_norm", "post_attention_norm"):
            add(f"{blk}.{name}.weight", 1, WIDTH, Type.F32)
        for name in ("ffn_gate", "ffn_up"):
            add(f"{blk}.{name}.weight", N_FF, WIDTH, Type.Q4_K)
        add(f"{blk}.ffn_down.weight", WIDTH, N_FF, better)
        if layer % 4 == 3:
            for name in ("attn_q", "attn_q_gate"):
                add(f"{blk}.{name}.weight", q_dim, WIDTH, Type.Q4_K)
            add(f"{blk}.attn_k.weight", kv_dim, WIDTH, Type.Q4_K)
            add(f"{blk}.attn_v.weight", kv_dim, WIDTH, better)
            add(f"{blk}.attn_output.weight", WIDTH, q_dim, Type.Q4_K)
            for name in ("attn_q_norm", "attn_k_norm"):
                add(f"{blk}.{name}.weight", 1, HEAD_DIM, Type.F32)
        else:
            add(f"{blk}.attn_qkv.weight", QKV, WIDTH, Type.Q4_K)
            add(f"{blk}.attn_gate.weight", INNER, WIDTH, Type.Q4_K)
            for name in ("ssm_alpha", "ssm_beta"):
                add(f"{blk}.{name}.weight", V_HEADS, WIDTH, Type.Q8_0)
            add(f"{blk}.ssm_norm.weight", 1, STATE_DIM, Type.F32)
            add(f"{blk}.ssm_out.weight", WIDTH, INNER, Type.Q4_K)
    for name, (n_out, n_cols) in DRAFTER.shapes().items():
        add(PREFIX + name, n_out, n_cols, Type.F32 if n_out == 1 else Type.Q8_0)
    return found


def _is_better(layer: int) -> bool:
    eighth = N_LAYERS // 8
    return layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2
