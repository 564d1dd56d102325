"""Scorer keys of segments by content, in memory and on disk, each under its budget.

A segment's keys depend on its text and the scorer alone, so they are computed once and outlive
edits elsewhere, other files and restarts. What lies on disk is a cache: a damaged file is
forgotten, a full disk costs only time.
"""

import contextlib
import logging
import os
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger("flash_lsp.engine")
_SUFFIX = ".keys.npy"

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
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._directory = directory if disk_bytes > 0 else None
        self._kept: OrderedDict[str, Keys] = OrderedDict()
        self._on_disk: OrderedDict[str, int] = OrderedDict()  # sizes, least recently used first
        self.n_bytes = 0
        self.n_disk_bytes = 0
        self.counts = KeyStoreCounts()
        if self._directory is not None:
            self._list_disk(self._directory)

    def get(self, name: str, shape: tuple[int, ...]) -> Keys | None:
        """The keys kept under `name`, if they have this shape."""
        keys = self._kept.get(name)
        if keys is not None and keys.shape == shape:
            self._kept.move_to_end(name)
            self.counts.n_memory_hits += 1
            return keys
        keys = self._read(name, shape)
        if keys is None:
            self.counts.n_misses += 1
            return None
        self.counts.n_disk_hits += 1
        self._keep(name, keys)
        return keys

    def put(self, name: str, keys: Keys) -> None:
        self._keep(name, keys)
        self._write(name, keys)

    # ---- memory ----

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

    # ---- disk ----

    def _list_disk(self, directory: Path) -> None:
        found: list[tuple[float, str, int]] = []
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    status = entry.stat()
                    name = entry.name.removesuffix(_SUFFIX)
                    found.append((status.st_mtime, name, status.st_size))
        for _, name, size in sorted(found):
            self._on_disk[name] = size
            self.n_disk_bytes += size
        self._trim_disk()

    def _path(self, name: str) -> Path:
        assert self._directory is not None
        return self._directory / (name + _SUFFIX)

    def _read(self, name: str, shape: tuple[int, ...]) -> Keys | None:
        if name not in self._on_disk:
            return None
        try:
            keys: Keys = np.load(self._path(name), allow_pickle=False)
            if keys.dtype != np.float16 or keys.shape != shape:
                raise ValueError(f"{keys.dtype} {keys.shape}, expected float16 {shape}")
            os.utime(self._path(name))
        except (OSError, ValueError, EOFError) as error:
            _log.warning("forgetting damaged scorer keys %s: %s", self._path(name), error)
            self._forget(name)
            return None
        self._on_disk.move_to_end(name)
        return keys

    def _write(self, name: str, keys: Keys) -> None:
        if self._directory is None or name in self._on_disk or keys.nbytes > self._disk_bytes:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Renamed when it is whole: another server may read the same folder.
            with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
                np.save(file, keys, allow_pickle=False)
            os.replace(file.name, self._path(name))
            size = self._path(name).stat().st_size
        except OSError as error:
            _log.warning("scorer keys stay in memory only: %s", error)
            self._directory = None
            return
        self._on_disk[name] = size
        self.n_disk_bytes += size
        self._trim_disk()

    def _trim_disk(self) -> None:
        while self.n_disk_bytes > self._disk_bytes and self._on_disk:
            self._forget(next(iter(self._on_disk)))

    def _forget(self, name: str) -> None:
        self.n_disk_bytes -= self._on_disk.pop(name, 0)
        with contextlib.suppress(OSError):
            self._path(name).unlink()
