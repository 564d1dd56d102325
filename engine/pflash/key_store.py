"""Scorer keys of segments by content, in memory and on disk, each under its budget.

A segment's keys depend on its text and the scorer alone, so they are computed once and outlive
edits elsewhere, other files and restarts.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.disk_cache import DiskCache

Keys = NDArray[np.float16]


@dataclass
class KeyStoreCounts:
    """What happened since the start, in segments."""

    n_memory_hits: int = 0
    n_disk_hits: int = 0
    n_misses: int = 0


class KeyStore:
    """Arrays (tokens, layers, n_kv, head_dim) by name; least recently used first out.

    `directory` None keeps nothing on disk. Names are file names: hexadecimal digests.
    """

    def __init__(
        self, memory_bytes: int, directory: Path | None = None, disk_bytes: int = 0
    ) -> None:
        self._memory_bytes = memory_bytes
        self._kept: OrderedDict[str, Keys] = OrderedDict()
        self._files = DiskCache(directory, ".keys.npy", disk_bytes)
        self.n_bytes = 0
        self.counts = KeyStoreCounts()

    @property
    def n_disk_bytes(self) -> int:
        return self._files.n_bytes

    def get(self, name: str, shape: tuple[int, ...]) -> Keys | None:
        """The keys kept under `name`, if they have this shape."""
        keys = self._kept.get(name)
        if keys is not None and keys.shape == shape:
            self._kept.move_to_end(name)
            self.counts.n_memory_hits += 1
            return keys
        keys = self._files.read(name, lambda path: _load(path, shape))
        if keys is None:
            self.counts.n_misses += 1
            return None
        self.counts.n_disk_hits += 1
        self._keep(name, keys)
        return keys

    def put(self, name: str, keys: Keys) -> None:
        self._keep(name, keys)
        if self._files.fits(keys.nbytes):
            self._files.write(name, lambda file: np.save(file, keys, allow_pickle=False))

    def _keep(self, name: str, keys: Keys) -> None:
        if keys.nbytes > self._memory_bytes:
            return
        if (older := self._kept.pop(name, None)) is not None:
            self.n_bytes -= older.nbytes
        self._kept[name] = keys
        self.n_bytes += keys.nbytes
        while self.n_bytes > self._memory_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.n_bytes -= dropped.nbytes


def _load(path: Path, shape: tuple[int, ...]) -> Keys:
    keys: Keys = np.load(path, allow_pickle=False)
    if keys.dtype != np.float16 or keys.shape != shape:
        raise ValueError(f"{keys.dtype} {keys.shape}, expected float16 {shape}")
    return keys
