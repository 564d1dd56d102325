"""How much memory there is, and the plan that is checked before anything is allocated."""

from dataclasses import dataclass
from pathlib import Path

from engine.errors import DeviceMemoryError

_MIB = 2**20


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes a loaded model takes. Weights are mapped from the file and may be dropped by the
    system under pressure, but decoding is only fast while they stay in memory."""

    weights_bytes: int
    converted_bytes: int
    kv_bytes: int
    scratch_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.converted_bytes + self.kv_bytes + self.scratch_bytes

    def __str__(self) -> str:
        parts = {
            "weights": self.weights_bytes,
            "converted weights": self.converted_bytes,
            "KV cache": self.kv_bytes,
            "scratch": self.scratch_bytes,
        }
        return " + ".join(f"{n / _MIB:.0f} MiB {name}" for name, n in parts.items() if n)

    def check(self, free_bytes: int | None) -> None:
        """Raises DeviceMemoryError with the arithmetic if the plan exceeds `free_bytes`."""
        if free_bytes is not None and self.total_bytes > free_bytes:
            raise DeviceMemoryError(self.total_bytes, free_bytes, str(self))


def available_bytes() -> int | None:
    """Memory this process may still take, within its container's limit; None if unknown."""
    candidates = [_meminfo_available(), _cgroup_available()]
    known = [n for n in candidates if n is not None]
    return min(known) if known else None


def _meminfo_available() -> int | None:
    text = _read("/proc/meminfo")
    for line in (text or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_available() -> int | None:
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit is None or used is None or limit == "max":
        return None
    # The file cache counts as used but gives way, and the mapped weights live there.
    stat = _read("/sys/fs/cgroup/memory.stat") or ""
    cache = sum(int(n) for key, n in (s.split() for s in stat.splitlines()) if key == "file")
    return max(int(limit) - int(used) + cache, 0)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
