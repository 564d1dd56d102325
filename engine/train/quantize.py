"""Training for Q4_0: weights pretend to be stored while a step runs on them (straight through)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from gguf import GGMLQuantizationType, quants
from torch import Tensor

from engine.train.drafter import Drafter

QUANT_BLOCK = 32


def q4_0(weight: Tensor) -> Tensor:
    """A matrix after a trip through Q4_0, in gguf's own arithmetic.

    Per block of 32: d = (the value largest in size) / -8, kept as f16, and each value becomes
    (q - 8) * d with q = trunc(x / d + 8.5) in 0..15.
    """
    x = weight.float().unflatten(-1, (-1, QUANT_BLOCK))
    largest = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    d = largest / -8
    inverse = torch.where(d == 0, 0.0, 1.0 / d)
    q = (x.double() * inverse.double() + 8.5).trunc().clamp(0, 15).float()
    return ((q - 8) * d.half().float()).flatten(-2).to(weight.dtype)


def stored_as(weight: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """A matrix after a trip through any type that gguf can write; slow, on the CPU."""
    array = weight.detach().float().cpu().numpy()
    stored = quants.dequantize(quants.quantize(array, kind), kind)
    return torch.from_numpy(stored.reshape(array.shape)).to(weight)


@contextmanager
def pretend_stored(
    drafter: Drafter, kind: GGMLQuantizationType = GGMLQuantizationType.Q4_0
) -> Iterator[None]:
    """Matrices are as if stored inside, and themselves again after: gradients of a step taken
    inside apply to the weights outside, which is the straight-through estimator."""
    matrices = drafter.matrices()
    originals = [matrix.detach().clone() for matrix in matrices]
    with torch.no_grad():
        for matrix in matrices:
            is_q4_0 = kind == GGMLQuantizationType.Q4_0
            matrix.copy_(q4_0(matrix) if is_q4_0 else stored_as(matrix, kind))
    try:
        yield
    finally:
        with torch.no_grad():
            for matrix, original in zip(matrices, originals, strict=True):
                matrix.copy_(original)
