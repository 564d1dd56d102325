"""Files of one folder under a byte budget, the least recently used first out.

What lies here can be computed again: a damaged file is forgotten, a full disk costs only time.
Several servers may share the folder, so a file appears under its name only when it is whole.
"""

import contextlib
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, TypeVar

_log = logging.getLogger("flash_lsp.engine")

Content = TypeVar("Content")


class DiskCache:
    """Files by name, all of them ending in `suffix`. A folder of None or a budget of 0 keeps
    nothing."""

    def __init__(self, folder: Path | None, suffix: str, byte_budget: int) -> None:
        self._folder = folder if byte_budget > 0 else None
        self._suffix, self._byte_budget = suffix, byte_budget
        self._sizes: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self.n_bytes = 0
        if self._folder is not None:
            self._list(self._folder)

    @property
    def names(self) -> Iterable[str]:
        return self._sizes.keys()

    def fits(self, n_bytes: int) -> bool:
        """Whether a file of this size would be kept at all."""
        return self._folder is not None and n_bytes <= self._byte_budget

    def read(self, name: str, load: Callable[[Path], Content]) -> Content | None:
        """What `load` makes of the file; None if there is none, or if `load` raises OSError,
        EOFError or ValueError: then the file is damaged and forgotten."""
        if self._folder is None or name not in self._sizes:
            return None
        path = self._folder / (name + self._suffix)
        try:
            content = load(path)
            os.utime(path)
        except (OSError, ValueError, EOFError) as error:
            _log.warning("forgetting a damaged file, %s: %s", path, error)
            self.forget(name)
            return None
        self._sizes.move_to_end(name)
        return content

    def write(self, name: str, save: Callable[[BinaryIO], object]) -> None:
        """Keep what `save` writes, unless there is such a file. Where nothing can be written,
        nothing is kept from then on."""
        if self._folder is None or name in self._sizes:
            return
        try:
            size = self._write(self._folder, name, save)
        except OSError as error:
            _log.warning("nothing is kept in %s: %s", self._folder, error)
            self._folder = None
            self._sizes.clear()
            self.n_bytes = 0
            return
        self._sizes[name] = size
        self.n_bytes += size
        self._trim()

    def _write(self, folder: Path, name: str, save: Callable[[BinaryIO], object]) -> int:
        folder.mkdir(parents=True, exist_ok=True)
        fd, part = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                save(file)
                size = file.tell()
            os.replace(part, folder / (name + self._suffix))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        return size

    def _list(self, folder: Path) -> None:
        found: list[tuple[float, str, int]] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(self._suffix):
                    status = entry.stat()
                    name = entry.name.removesuffix(self._suffix)
                    found.append((status.st_mtime, name, status.st_size))
        self._sizes = OrderedDict((name, size) for _, name, size in sorted(found))
        self.n_bytes = sum(self._sizes.values())
        self._trim()

    def _trim(self) -> None:
        while self.n_bytes > self._byte_budget:
            self.forget(next(iter(self._sizes)))

    def forget(self, name: str) -> None:
        """Remove a file that is there."""
        self.n_bytes -= self._sizes.pop(name)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / (name + self._suffix)).unlink()
