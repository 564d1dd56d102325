"""The state of long prefixes on disk: what a prompt's beginning cost to compute serves the next
start, and prompts that memory has forgotten.

A file holds the tokens and the KV blocks of one prefix. It is a cache: what is damaged is
forgotten, a full disk costs only time. A checksum guards it, for a wrong number in it would change
texts without a sign.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger("flash_lsp.engine")
_SUFFIX = ".prefix"
_CHECKSUM_BYTES = 32
# A shorter prefix is computed again in less time than a person notices.
LEAST_TOKENS = 128

Bytes = NDArray[np.uint8]


class PrefixStore:
    """Prefixes by their tokens; least recently used first out.

    `name` says everything that the numbers depend on beside the tokens: another name is another
    folder. A budget of 0 keeps nothing.
    """

    def __init__(self, folder: Path, name: str, byte_budget: int) -> None:
        self._folder = folder / name if byte_budget > 0 else None
        self._byte_budget = byte_budget
        self._sizes: dict[str, int] = {}  # by file name, least recently used first
        self.n_saved = self.n_loaded = 0
        if self._folder is not None:
            self._list(self._folder)

    @property
    def n_bytes(self) -> int:
        return sum(self._sizes.values())

    def longest(self, tokens: Sequence[int], most: int) -> int:
        """How many of the first `most` tokens the longest stored prefix has; 0 for none."""
        lengths = {int(name.partition("-")[0]) for name in self._sizes}
        for n in sorted(lengths, reverse=True):
            if n <= most and _name_of(tokens[:n]) in self._sizes:
                return n
        return 0

    def load(self, tokens: Sequence[int], blocks: Sequence[Bytes]) -> bool:
        """Fill the blocks of exactly this prefix; False if they cannot be, their contents are
        undefined then."""
        if self._folder is None or (name := _name_of(tokens)) not in self._sizes:
            return False
        try:
            data = np.fromfile(self._folder / name, np.uint8)
            checksum, body = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
            sizes = [block.nbytes for block in blocks]
            if len(body) != sum(sizes) or _checksum(body) != checksum.tobytes():
                raise ValueError(f"{len(body)} bytes, expected {sum(sizes)} with their checksum")
            os.utime(self._folder / name)
        except (OSError, ValueError) as error:
            _log.warning("forgetting a damaged prefix %s: %s", self._folder / name, error)
            self._forget(name)
            return False
        start = 0
        for block, size in zip(blocks, sizes, strict=True):
            block[:] = body[start : start + size]
            start += size
        self._sizes[name] = self._sizes.pop(name)
        self.n_loaded += 1
        return True

    def save(self, tokens: Sequence[int], blocks: Callable[[], Sequence[Bytes]]) -> None:
        """Keep a prefix; does nothing for a short one or one that is kept already."""
        if self._folder is None or len(tokens) < LEAST_TOKENS:
            return
        name = _name_of(tokens)
        if name in self._sizes:
            return
        body = np.concatenate(list(blocks()))
        if body.nbytes + _CHECKSUM_BYTES > self._byte_budget:
            return
        try:
            self._write(self._folder, name, body)
        except OSError as error:
            _log.warning("prefixes are not kept on disk: %s", error)
            self._folder = None
            self._sizes.clear()
            return
        self._sizes[name] = body.nbytes + _CHECKSUM_BYTES
        self.n_saved += 1
        self._trim()

    def _write(self, folder: Path, name: str, body: Bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole: another server may read the same folder.
        fd, part = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(_checksum(body))
                file.write(body.data)
            os.replace(part, folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise

    def _list(self, folder: Path) -> None:
        found: list[tuple[float, str, int]] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX) and entry.name.partition("-")[0].isdecimal():
                    status = entry.stat()
                    found.append((status.st_mtime, entry.name, status.st_size))
        self._sizes = {name: size for _, name, size in sorted(found)}
        self._trim()

    def _trim(self) -> None:
        while self.n_bytes > self._byte_budget and self._sizes:
            self._forget(next(iter(self._sizes)))

    def _forget(self, name: str) -> None:
        self._sizes.pop(name, None)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()


def _name_of(tokens: Sequence[int]) -> str:
    digest = blake2b(np.asarray(tokens, "<i4").tobytes(), digest_size=20).hexdigest()
    return f"{len(tokens)}-{digest}{_SUFFIX}"


def _checksum(body: Bytes) -> bytes:
    return blake2b(body.data, digest_size=_CHECKSUM_BYTES).digest()
