"""Reads safetensors: a length, a JSON header of names, types, shapes and offsets, then the data.

Only what drafters need: float matrices and vectors, read as f32.
"""

import math
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelFormatError, ModelNotFoundError

_LARGEST_HEADER = 100 << 20
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class SafetensorsFile:
    """An open file; arrays are copies, so it may vanish afterwards.

    Raises ModelNotFoundError, or ModelFormatError for anything that is not as the format says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:  # ValueError: the file is empty
            raise ModelNotFoundError(str(path), str(error)) from error
        if len(content) < 8:
            self._fail(f"it has {len(content)} bytes, expected a header")
        n_header = int(content[:8].view("<u8")[0])
        if n_header > min(_LARGEST_HEADER, len(content) - 8):
            self._fail(f"its header says {n_header} bytes, more than there are")
        self._data = content[8 + n_header :]
        self._entries = self._parse(bytes(content[8 : 8 + n_header]))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Row-major, as in PyTorch: a matrix is (n_out, n_in)."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def f32(self, name: str) -> NDArray[np.float32]:
        """A tensor's numbers. Raises ModelFormatError if they are not floats."""
        entry = self._entries[name]
        if entry.dtype not in _BYTES:
            self._fail(f"'{name}' is {entry.dtype}, expected one of {', '.join(_BYTES)}")
        raw = np.ascontiguousarray(self._data[slice(*entry.data_offsets)])
        if entry.dtype == "BF16":
            values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.view("<f4" if entry.dtype == "F32" else "<f2").astype(np.float32)
        return values.reshape(entry.shape)

    def _parse(self, header: bytes) -> dict[str, _Entry]:
        try:
            raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
            raw.pop("__metadata__", None)
            entries = {name: msgspec.json.decode(v, type=_Entry) for name, v in raw.items()}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._fail(f"its header is not as expected: {error}")
        for name, entry in entries.items():
            self._check(name, entry)
        return entries

    def _check(self, name: str, entry: _Entry) -> None:
        begin, end = entry.data_offsets
        if min(entry.shape, default=1) < 1 or not 0 <= begin <= end <= len(self._data):
            self._fail(f"'{name}' has shape {entry.shape} at {begin}..{end} of {len(self._data)}")
        n_bytes = math.prod(entry.shape) * _BYTES.get(entry.dtype, 0)
        if entry.dtype in _BYTES and end - begin != n_bytes:
            self._fail(f"'{name}' has {end - begin} bytes, expected {n_bytes} for {entry.shape}")

    def _fail(self, detail: str) -> NoReturn:
        raise ModelFormatError(self.path, detail, kind="safetensors")
