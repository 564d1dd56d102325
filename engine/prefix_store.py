"""The state of long prefixes on disk: what a prompt's beginning cost to compute serves the next
start, and prompts that memory has forgotten.

A file holds the KV blocks of one prefix. A checksum guards it, for a wrong number in it would
change texts without a sign.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.disk_cache import DiskCache

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
        self._files = DiskCache(folder / name, _SUFFIX, byte_budget)

    @property
    def n_bytes(self) -> int:
        return self._files.n_bytes

    def longest(self, tokens: Sequence[int], most: int) -> int:
        """How many of the first `most` tokens the longest stored prefix has; 0 for none."""
        names = set(self._files.names)
        starts = (name.partition("-")[0] for name in names)
        lengths = {int(start) for start in starts if start.isdecimal()}
        for n in sorted(lengths, reverse=True):
            if n <= most and _name_of(tokens[:n]) in names:
                return n
        return 0

    def load(self, tokens: Sequence[int], n_bytes: int) -> Bytes | None:
        """The state of exactly this prefix, of so many bytes."""
        return self._files.read(_name_of(tokens), lambda path: _checked(path, n_bytes))

    def save(self, tokens: Sequence[int], state: Callable[[], Bytes]) -> None:
        """Keep a prefix; does nothing for a short one or one that is kept already."""
        name = _name_of(tokens)
        if len(tokens) < LEAST_TOKENS or not self._files.fits(0) or name in self._files.names:
            return
        body = state()
        if self._files.fits(body.nbytes + _CHECKSUM_BYTES):
            self._files.write(name, lambda file: _write(file, body))


def _checked(path: Path, n_bytes: int) -> Bytes:
    data = np.fromfile(path, np.uint8)
    checksum, body = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    if len(body) != n_bytes or _checksum(body) != checksum.tobytes():
        raise ValueError(f"{len(body)} bytes, expected {n_bytes} with their checksum")
    return body


def _write(file: BinaryIO, body: Bytes) -> None:
    file.write(_checksum(body))
    file.write(body.data)


def _name_of(tokens: Sequence[int]) -> str:
    digest = blake2b(np.asarray(tokens, "<i4").tobytes(), digest_size=20).hexdigest()
    return f"{len(tokens)}-{digest}"


def _checksum(body: Bytes) -> bytes:
    return blake2b(body.data, digest_size=_CHECKSUM_BYTES).digest()
