"""Placement never lets two living tensors overlap, and reuses memory once they are dead."""

import numpy as np
import pytest

from engine.backends.arena import ALIGNMENT_BYTES, Request, aligned, place


@pytest.mark.parametrize("seed", range(20))
def test_tensors_alive_together_never_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests: list[Request] = []
    for _ in range(40):
        first = int(rng.integers(0, 60))
        last = first + int(rng.integers(0, 15))
        requests.append(Request(int(rng.integers(1, 5000)), first, last))
    offsets, total = place(requests)
    for i, (a, start) in enumerate(zip(requests, offsets, strict=True)):
        assert start % ALIGNMENT_BYTES == 0
        assert start + a.n_bytes <= total
        for b, other in list(zip(requests, offsets, strict=True))[:i]:
            are_alive_together = a.first <= b.last and b.first <= a.last
            overlap = start < other + b.n_bytes and other < start + a.n_bytes
            assert not (are_alive_together and overlap)


def test_a_chain_of_layers_needs_the_memory_of_two_tensors() -> None:
    chain = [Request(1000, i, i + 1) for i in range(50)]
    assert place(chain)[1] == 2 * aligned(1000)


def test_nothing_needs_nothing() -> None:
    assert place([]) == ([], 0)
