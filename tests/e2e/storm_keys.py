"""A storm of keys, thirty a second as on a keyboard that is leaned on: what is typed, what is found
of it in any editor."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

KEYS_PER_S = 30
_LINE = "value = compute(item, other) + offset_of(value)\n"


def storm_text(seconds: float) -> str:
    """The text that so many seconds of storm leave behind."""
    return "".join(itertools.islice(itertools.cycle(_LINE), int(KEYS_PER_S * seconds)))


@dataclass(frozen=True, kw_only=True)
class Storm:
    """Times are from a key to what each editor's storm says."""

    keys: int
    keys_in_text: int
    requests: int
    most_in_flight: int
    left_in_flight: int
    key_p50_ms: float
    key_p95_ms: float
    key_max_ms: float


def key_times(times_ms: Iterable[float]) -> dict[str, float]:
    """The members of `Storm` that are times."""
    times = sorted(times_ms)
    chosen = (times[len(times) // 2], times[len(times) * 95 // 100], times[-1])
    names = ("key_p50_ms", "key_p95_ms", "key_max_ms")
    return {name: round(ms, 2) for name, ms in zip(names, chosen, strict=True)}
