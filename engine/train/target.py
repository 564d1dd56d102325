"""The target model in PyTorch, from its GGUF: features and logits of whole sequences, and a cache
to generate with. Frozen; covers the `qwen2` and `llama` architectures.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from gguf import dequantize
from torch import Tensor

from engine.errors import UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.models.blocks import Hyperparameters

ARCHITECTURES = ("qwen2", "llama")


class LayerWeights(NamedTuple):
    """One decoder layer; q, k and v are one matrix, gate and up another."""

    attn_norm: Tensor  # (E,)
    attn_qkv: Tensor  # ((H + 2K) * D, E)
    attn_qkv_bias: Tensor  # ((H + 2K) * D,), zeros where the model has none
    attn_output: Tensor  # (E, H * D)
    ffn_norm: Tensor  # (E,)
    ffn_gate_up: Tensor  # (2F, E)
    ffn_down: Tensor  # (E, F)


class Target:
    """A frozen decoder. Rows of a batch are sequences from position 0, padded on the right."""

    def __init__(
        self,
        h: Hyperparameters,
        token_embd: Tensor,
        layers: Sequence[LayerWeights],
        output_norm: Tensor,
        output: Tensor,
        end_ids: Sequence[int],
    ) -> None:
        self.h, self.layers, self.end_ids = h, tuple(layers), tuple(end_ids)
        self.token_embd, self.output_norm, self.output = token_embd, output_norm, output
        self.device, self.dtype = token_embd.device, token_embd.dtype
        self.layer = layer_forward

    def compile(self) -> None:
        self.layer = torch.compile(layer_forward, dynamic=False)

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return rope_table(positions, self.h.head_dim, self.h.rope_theta)

    @torch.no_grad()
    def features(self, ids: Tensor, taps: Sequence[int]) -> Tensor:
        """Outputs of the tapped layers, side by side: ids (B, S) -> (B, S, n_taps * E)."""
        x = self.token_embd[ids]
        cos, sin = self.rope(torch.arange(ids.shape[1], device=self.device))
        kept: list[Tensor] = []
        for index in range(max(taps) + 1):
            x, _, _ = self.layer(x, self.layers[index], cos, sin, self.h)
            if index in taps:
                kept.append(x)
        return torch.cat(kept, dim=-1)

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """ids (B, S) -> (B, S, V) in float32."""
        x = self.token_embd[ids]
        cos, sin = self.rope(torch.arange(ids.shape[1], device=self.device))
        for weights in self.layers:
            x, _, _ = self.layer(x, weights, cos, sin, self.h)
        return self.head(x.flatten(0, 1)).unflatten(0, ids.shape)

    def head(self, x: Tensor) -> Tensor:
        """x (N, E) -> logits (N, V) in float32: in bfloat16 the best two are often equal."""
        x = rms_norm(x, self.output_norm, self.h.rms_eps)
        if x.is_cuda:
            return torch.mm(x, self.output.T, out_dtype=torch.float32)
        return x.float() @ self.output.T.float()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return (F.rms_norm(x.float(), (x.shape[-1],), eps=eps) * weight.float()).to(x.dtype)


def rope_table(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin (..., D / 2) in float32."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[..., None] * theta ** (-exponents / head_dim)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate half-split pairs: x (..., S, H, D) by cos, sin (..., S, D / 2)."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def project_qkv(
    x: Tensor, w: LayerWeights, cos: Tensor, sin: Tensor, h: Hyperparameters
) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, S, E) -> q (B, H, S, D), k and v (B, K, S, D), rotated."""
    n = rms_norm(x, w.attn_norm, h.rms_eps)
    qkv = F.linear(n, w.attn_qkv, w.attn_qkv_bias).unflatten(-1, (-1, h.head_dim))
    q, k, v = qkv.split((h.n_head, h.n_kv, h.n_kv), dim=-2)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def finish_layer(x: Tensor, attended: Tensor, w: LayerWeights, h: Hyperparameters) -> Tensor:
    """Residual, output projection and feed-forward: x (B, S, E), attended (B, H, S, D)."""
    x = x + F.linear(attended.transpose(1, 2).flatten(2), w.attn_output)
    gate, up = F.linear(rms_norm(x, w.ffn_norm, h.rms_eps), w.ffn_gate_up).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, w.ffn_down)


def layer_forward(
    x: Tensor, w: LayerWeights, cos: Tensor, sin: Tensor, h: Hyperparameters
) -> tuple[Tensor, Tensor, Tensor]:
    """One causal layer over whole sequences: x (B, S, E) -> x, and its keys and values."""
    q, k, v = project_qkv(x, w, cos, sin, h)
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return finish_layer(x, attended, w, h), k, v


def load_target(path: Path, device: torch.device, dtype: torch.dtype) -> Target:
    """Dequantize a GGUF. Raises UnsupportedModelError if it is of none of ARCHITECTURES."""
    with GgufFile(path) as g:
        if g.architecture not in ARCHITECTURES:
            raise UnsupportedModelError("architecture to train for", g.architecture, ARCHITECTURES)
        h = Hyperparameters.from_gguf(g)
        with ThreadPoolExecutor() as threads:  # NumPy lets go of the interpreter lock
            names = list(g.tensors)
            values = threads.map(lambda name: _dequantized(g, name), names)
            arrays = dict(zip(names, values, strict=True))
        ends = (
            g.optional(f"tokenizer.ggml.{kind}_token_id", int) for kind in ("eos", "eot", "bos")
        )
        end_ids = sorted({token for token in ends if token is not None})
        is_interleaved = g.architecture == "llama"

    def put(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.copy()).to(device=device, dtype=dtype)

    token_embd = put(arrays["token_embd.weight"])
    return Target(
        h,
        token_embd,
        [_layer(arrays, index, h, put, is_interleaved) for index in range(h.n_layer)],
        put(arrays["output_norm.weight"]),
        put(arrays["output.weight"]) if "output.weight" in arrays else token_embd,
        end_ids,
    )


def _dequantized(g: GgufFile, name: str) -> np.ndarray:
    info = g.tensors[name]
    values = dequantize(g.data(name), info.ggml_type)
    return np.ascontiguousarray(values, np.float32).reshape(tuple(reversed(info.shape)))


def _layer(arrays, index: int, h: Hyperparameters, put, is_interleaved: bool) -> LayerWeights:
    def read(name: str) -> np.ndarray:
        return arrays[f"blk.{index}.{name}"]

    def heads(name: str, n_heads: int) -> np.ndarray:
        """Rows of a rotated projection, pairs half-split: (2i, 2i + 1) -> (i, i + D / 2)."""
        rows = read(name)
        if not is_interleaved:
            return rows
        pairs = rows.reshape(n_heads, h.head_dim // 2, 2, -1)
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)

    q, k = heads("attn_q.weight", h.n_head), heads("attn_k.weight", h.n_kv)
    has_bias = f"blk.{index}.attn_q.bias" in arrays
    bias = (
        np.concatenate(
            (heads("attn_q.bias", h.n_head), heads("attn_k.bias", h.n_kv), read("attn_v.bias"))
        )
        if has_bias
        else np.zeros((h.n_head + 2 * h.n_kv) * h.head_dim, np.float32)
    )
    return LayerWeights(
        put(read("attn_norm.weight")),
        put(np.concatenate((q, k, read("attn_v.weight")))),
        put(bias),
        put(read("attn_output.weight")),
        put(read("ffn_norm.weight")),
        put(np.concatenate((read("ffn_gate.weight"), read("ffn_up.weight")))),
        put(read("ffn_down.weight")),
    )
