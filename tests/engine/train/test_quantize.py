"""Pretended storage is gguf's own, and gradients pass through it."""

import gguf
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gguf import GGMLQuantizationType as Kind  # noqa: E402

from engine.train.drafter import Drafter  # noqa: E402
from engine.train.quantize import pretend_stored, q4_0  # noqa: E402
from tests.engine.train.test_drafter import CONFIG  # noqa: E402


def test_q4_0_is_ggufs_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    # All sizes of blocks, zeros, ties of the largest value, and values on a rounding edge.
    weight = rng.standard_normal((64, 256)).astype(np.float32) * np.logspace(-6, 3, 64)[:, None]
    weight = weight.astype(np.float32)
    weight[0] = 0
    weight[1, ::2], weight[1, 1::2] = 1, -1
    weight[2] = np.round(weight[2] * 4) / 4

    stored = gguf.dequantize(gguf.quantize(weight, Kind.Q4_0), Kind.Q4_0)

    assert np.array_equal(q4_0(torch.from_numpy(weight)).numpy(), stored)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q5_0, Kind.Q8_0, Kind.F16])
def test_weights_are_stored_inside_and_themselves_after(kind: Kind) -> None:
    torch.manual_seed(0)
    drafter = Drafter(CONFIG)
    weight = drafter.fc.weight
    original = weight.detach().clone()

    with pretend_stored(drafter, kind):
        inside = weight.detach().clone()
        (weight.sum() * 2).backward()

    stored = gguf.dequantize(gguf.quantize(original.numpy(), kind), kind)
    assert np.array_equal(inside.numpy(), stored)
    assert torch.equal(weight.detach(), original)
    assert weight.grad is not None and torch.all(weight.grad == 2)
