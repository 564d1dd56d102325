"""The drafter's loss over a draft vocabulary, without ever keeping all logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ROWS = 3072  # of logits at a time
IGNORED = -1


def _chunk(hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy of some rows and its gradient with respect to `hidden`."""
    logits = (hidden @ head.T).float()
    total = logits.logsumexp(-1, keepdim=True)
    picked = labels.clamp(min=0)[:, None]
    weights = weights[:, None]
    loss = ((total - logits.gather(-1, picked)) * weights).sum()
    gradient = (logits - total).exp() * weights
    gradient = gradient.scatter_add(-1, picked, -weights)
    return loss, gradient.to(hidden.dtype) @ head


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor,
        weights: Tensor,
        chunk: Callable[..., tuple[Tensor, Tensor]],
    ) -> Tensor:
        loss = torch.zeros((), device=hidden.device)
        gradient = torch.empty(hidden.shape, device=hidden.device, dtype=head.dtype)
        for first in range(0, len(hidden), _ROWS):
            rows = slice(first, first + _ROWS)
            part, gradient[rows] = chunk(
                hidden[rows].to(head.dtype), head, labels[rows], weights[rows]
            )
            loss += part
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outputs[0]).to(gradient.dtype), None, None, None, None


class HeadLoss:
    """Cross entropy against a frozen head (V, E); labels that are IGNORED cost nothing."""

    def __init__(self, head: Tensor, *, is_compiled: bool = False) -> None:
        self._head = head
        self._chunk = torch.compile(_chunk, dynamic=False) if is_compiled else _chunk

    def __call__(self, hidden: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean over rows: hidden (N, E), labels (N,), weights (N,)."""
        weights = torch.where(labels == IGNORED, 0.0, weights.float())
        n = weights.sum().clamp(min=1e-6)
        return _HeadLoss.apply(hidden, self._head, labels, weights / n, self._chunk)  # pyright: ignore


def position_weights(length: int, device: torch.device) -> Tensor:
    """(length,): 0 for the anchor, then exp(-(k - 1) / 7): an early miss costs all that follows."""
    k = torch.arange(length, device=device)
    return torch.where(k == 0, 0.0, torch.exp(-(k - 1).float() / 7))
