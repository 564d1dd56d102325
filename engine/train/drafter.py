"""The block-diffusion drafter (DFlash, SPEC.md A.4) in PyTorch, for training.

Row 0 of a block is a known token (its anchor), the others are masks; row k predicts the token k
places after the anchor. Rows see the context strictly before their anchor and their own block.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.train.target import rope_table, rotate


@dataclass(frozen=True, kw_only=True)
class DrafterConfig:
    """Shapes and what ties a drafter to its target; `taps` are target layers counted from 0."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_kv: int
    head_dim: int
    rope_theta: float
    rms_eps: float
    taps: tuple[int, ...]
    mask_id: int
    block_size: int = 16


def default_taps(n_target_layers: int, n_taps: int = 5) -> tuple[int, ...]:
    """Evenly from layer 1 to the third last, as the published drafters do (SPEC.md A.2)."""
    if n_taps == 1 or n_target_layers < 5:
        return (n_target_layers // 2,)
    step = (n_target_layers - 4) / (n_taps - 1)
    return tuple(sorted({round(1 + index * step) for index in range(n_taps)}))


@dataclass(frozen=True)
class Blocks:
    """Blocks of one length over a batch: `anchors` (B, A) ascending, positions in the sequence."""

    anchors: Tensor
    length: int

    @property
    def positions(self) -> Tensor:
        """(B, A * length): where each row stands."""
        offsets = torch.arange(self.length, device=self.anchors.device)
        return (self.anchors[..., None] + offsets).flatten(1)


def visible(blocks: Blocks, n_context: int) -> Tensor:
    """Who sees whom: (B, 1, R, S + R), keys are the context and then the rows themselves."""
    device = blocks.anchors.device
    anchors = blocks.anchors.repeat_interleave(blocks.length, 1)  # (B, R)
    block = torch.arange(anchors.shape[1], device=device) // blocks.length  # (R,)
    sees_context = torch.arange(n_context, device=device) < anchors[..., None]
    sees_row = (block[:, None] == block).expand(len(anchors), -1, -1)
    return torch.cat((sees_context, sees_row), -1)[:, None]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q (B, H, R, D), k and v (B, K, S + R, D), mask (B, 1, R, S + R) -> (B, H, R, D)."""
    n_shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(n_shared, 1), v.repeat_interleave(n_shared, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Linear(nn.Linear):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, bias=False)


class Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps)
        return (normed * self.weight).to(x.dtype)


class Layer(nn.Module):
    """Attribute names are GGUF's."""

    def __init__(self, c: DrafterConfig) -> None:
        super().__init__()
        self.c = c
        q_dim, kv_dim = c.n_head * c.head_dim, c.n_kv * c.head_dim
        self.attn_norm, self.ffn_norm = Norm(c.n_embd, c.rms_eps), Norm(c.n_embd, c.rms_eps)
        self.attn_q_norm, self.attn_k_norm = (
            Norm(c.head_dim, c.rms_eps),
            Norm(c.head_dim, c.rms_eps),
        )
        self.attn_q, self.attn_output = Linear(c.n_embd, q_dim), Linear(q_dim, c.n_embd)
        self.attn_k, self.attn_v = Linear(c.n_embd, kv_dim), Linear(c.n_embd, kv_dim)
        self.ffn_gate, self.ffn_up = Linear(c.n_embd, c.n_ff), Linear(c.n_embd, c.n_ff)
        self.ffn_down = Linear(c.n_ff, c.n_embd)

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        row_rope: tuple[Tensor, Tensor],
        context_rope: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> Tensor:
        """Rows x (B, R, E) over context (B, S, E) and themselves -> (B, R, E)."""
        n = self.attn_norm(x)
        q = rotate(self.attn_q_norm(self._heads(self.attn_q(n))), *row_rope)
        own_k, own_v = self._keys_values(n, row_rope)
        past_k, past_v = self._keys_values(context, context_rope)
        k = torch.cat((past_k, own_k), 1).transpose(1, 2)
        v = torch.cat((past_v, own_v), 1).transpose(1, 2)
        q = q.transpose(1, 2)
        attended = attention(q, k, v, mask)
        x = x + self.attn_output(attended.transpose(1, 2).flatten(2))
        n = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(n)) * self.ffn_up(n))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.c.head_dim))

    def _keys_values(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        k = rotate(self.attn_k_norm(self._heads(self.attn_k(x))), *rope)
        return k, self._heads(self.attn_v(x))


class Drafter(nn.Module):
    """Reads the target's features, borrows its embedding and head; has neither of its own."""

    def __init__(self, c: DrafterConfig) -> None:
        super().__init__()
        self.c = c
        self.fc = Linear(len(c.taps) * c.n_embd, c.n_embd)
        self.hidden_norm, self.output_norm = Norm(c.n_embd, c.rms_eps), Norm(c.n_embd, c.rms_eps)
        self.blk = nn.ModuleList(Layer(c) for _ in range(c.n_layer))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
                if "attn_output" in name or "ffn_down" in name:
                    parameter.data /= math.sqrt(2 * c.n_layer)

    def compile_layers(self) -> None:
        """One compiled body for all layers."""
        for layer in self.blk:
            layer.compile(dynamic=False)

    def matrices(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.ndim == 2]

    def forward(self, features: Tensor, token_embd: Tensor, ids: Tensor, blocks: Blocks) -> Tensor:
        """features (B, S, n_taps * E), token_embd (V, E), ids (B, S) -> rows (B, A, length, E)."""
        n_context, n_anchors = features.shape[1], blocks.anchors.shape[1]
        x = self.block_input(token_embd, ids, blocks)
        context = self.hidden_norm(self.fc(features))
        positions = torch.arange(n_context, device=ids.device)
        row_rope = rope_table(blocks.positions, self.c.head_dim, self.c.rope_theta)
        context_rope = rope_table(positions, self.c.head_dim, self.c.rope_theta)
        mask = visible(blocks, n_context)
        for layer in self.blk:
            x = layer(x, context, row_rope, context_rope, mask)
        return self.output_norm(x).unflatten(1, (n_anchors, blocks.length))

    def block_input(self, token_embd: Tensor, ids: Tensor, blocks: Blocks) -> Tensor:
        """Embeddings of [anchor, mask, mask, ...] of every block: (B, A * length, E)."""
        n_batch, n_anchors = blocks.anchors.shape
        block_ids = ids.new_full((n_batch, n_anchors, blocks.length), self.c.mask_id)
        block_ids[..., 0] = ids.gather(1, blocks.anchors)
        return token_embd[block_ids.flatten(1)]
