"""Muon: momentum whose matrices are made orthogonal before they are applied.

After Jordan et al. (2024); scaled as Liu et al. (2025) do, so that a step is as large as AdamW's
and the two can share a learning rate. Matrices of one shape are computed together.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration
_ITERATIONS = 5
_RMS = 0.2  # of AdamW's updates


class Muon(torch.optim.Optimizer):
    """For matrices alone."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._nesterov(parameter, group["momentum"])
                    is_tall = parameter.shape[0] > parameter.shape[1]
                    update = update.T if is_tall else update
                    by_shape.setdefault(tuple(update.shape), []).append((parameter, update))
            for shape, pairs in by_shape.items():
                updates = orthogonalized(torch.stack([update for _, update in pairs]))
                scale = group["lr"] * _RMS * max(shape) ** 0.5
                for (parameter, _), update in zip(pairs, updates.unbind(), strict=True):
                    is_tall = parameter.shape[0] > parameter.shape[1]
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update.T if is_tall else update, alpha=scale)

    def _nesterov(self, parameter: Tensor, momentum: float) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def orthogonalized(x: Tensor) -> Tensor:
    """Singular values to about one, singular vectors kept: x (N, rows, columns), rows fewer."""
    kind = torch.bfloat16 if x.is_cuda else torch.float32
    y = x.to(kind)
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = y @ y.mT
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return y.to(x.dtype)
