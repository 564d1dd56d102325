"""What machine a benchmark ran on: its name, how fast it reads memory, who else was using it."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_READ_BYTES = 256 * 2**20  # far beyond any cache
_READ_RUNS = 7


def read_bytes_per_s(n_threads: int) -> float:
    """Memory read bandwidth: the best of a few passes of NumPy over a large array."""
    parts = np.array_split(np.ones(_READ_BYTES // 8, np.int64), n_threads * 4)
    fastest_s = float("inf")
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(_READ_RUNS):
            start_s = time.perf_counter()
            list(pool.map(np.bitwise_or.reduce, parts))
            fastest_s = min(fastest_s, time.perf_counter() - start_s)
    return _READ_BYTES / fastest_s


class OtherUse:
    """How much processor time went to processes other than this one and the ones it named.

    A share above a few per cent means that the figures measured meanwhile cannot be trusted.
    """

    def __init__(self, children: list[int]) -> None:
        """Processes started later are added to the caller's own list."""
        self._children = children
        self._start_s = time.monotonic()
        self._start_use = self._others_s()

    def share(self) -> float | None:
        """Of all cores since this object was made, 0..1; None where the system does not tell."""
        now = self._others_s()
        if now is None or self._start_use is None:
            return None
        elapsed_s = (time.monotonic() - self._start_s) * (os.cpu_count() or 1)
        return max(now - self._start_use, 0.0) / max(elapsed_s, 1e-9)

    def _others_s(self) -> float | None:
        try:
            ticks_per_s = os.sysconf("SC_CLK_TCK")
            # user, nice, system, (idle, iowait,) irq, softirq, steal: proc_stat(5)
            fields = [int(field) for field in Path("/proc/stat").read_text().split()[1:9]]
            busy = sum(fields[:3]) + sum(fields[5:])
            own = sum(_process_ticks(pid) for pid in [os.getpid(), *self._children])
        except (OSError, ValueError, AttributeError):
            return None
        return (busy - own) / ticks_per_s


def _process_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])  # utime and stime: proc_pid_stat(5)
