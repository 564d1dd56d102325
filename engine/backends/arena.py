"""Where activations live: offsets in one arena, reused as soon as a tensor's last reader is done.

Holds no tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Request:
    """`n_bytes` needed from op `first` to op `last`, both included."""

    n_bytes: int
    first: int
    last: int


def aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def place(requests: Sequence[Request]) -> tuple[list[int], int]:
    """Offsets such that tensors alive together never overlap, and the arena's size in bytes.

    Largest first, each at the lowest offset that is free for its whole life.
    """
    offsets = [0] * len(requests)
    placed: list[int] = []
    for i in sorted(range(len(requests)), key=lambda i: -requests[i].n_bytes):
        wanted = requests[i]
        offset = 0
        for j in sorted(placed, key=offsets.__getitem__):
            other = requests[j]
            is_alive_together = wanted.first <= other.last and other.first <= wanted.last
            if not is_alive_together:
                continue
            if offset + aligned(wanted.n_bytes) <= offsets[j]:
                break
            offset = max(offset, offsets[j] + aligned(other.n_bytes))
        offsets[i] = offset
        placed.append(i)
    total = max((o + aligned(r.n_bytes) for o, r in zip(offsets, requests, strict=True)), default=0)
    return offsets, total
