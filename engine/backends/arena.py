"""Where activations live: offsets in one arena, reused as soon as a tensor's last reader is done.

Holds no tensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import cast

from engine.ops import Activation, Op

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


def plan_arena(
    ops: Sequence[Op], result: Activation, size_of: Callable[[Activation], int]
) -> tuple[dict[Activation, int], int]:
    """An offset for every activation of `ops`, and the arena's size; `result` lives to the end."""
    lives: dict[Activation, tuple[int, int]] = {}
    for i, op in enumerate(ops):
        for tensor in activations_of(op):
            # One op longer than needed: what the next one writes lies elsewhere, so that the
            # plan can run the two part by part where their rows allow it.
            lives[tensor] = (lives.get(tensor, (i, i))[0], i + 1)
    lives[result] = (lives[result][0], len(ops))
    requests = [Request(size_of(tensor), *life) for tensor, life in lives.items()]
    offsets, total = place(requests)
    return dict(zip(lives, offsets, strict=True)), total


def activations_of(op: Op) -> list[Activation]:
    """What an op reads and writes."""
    found: list[Activation] = []
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, Activation):
            found.append(value)
        elif isinstance(value, tuple):
            parts = cast("tuple[object, ...]", value)
            found += [part for part in parts if isinstance(part, Activation)]
    return found
