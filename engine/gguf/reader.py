"""Opens GGUF files through a read-only memory map. Never interprets weights."""

import contextlib
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
from gguf import GGUFValueType

from engine.errors import ModelFormatError, ModelNotFoundError
from engine.gguf.header import (
    STRING_LENGTH,
    VALUE_FORMATS,
    MetadataArray,
    MetadataScalar,
    TensorInfo,
    describe,
    element_kind,
    kind_name,
    parse_header,
)

__all__ = ["GgufFile", "MetadataValue", "TensorInfo"]

MetadataValue = MetadataScalar | list[str] | list[int] | list[float] | list[bool]

Scalar = TypeVar("Scalar", str, int, float, bool)


class GgufFile:
    """An open GGUF file; a context manager.

    Opening checks the whole header. `metadata` decodes an array each time it is asked for, so a
    vocabulary costs nothing until it is needed and is not kept. Arrays returned by `data` stay
    valid after `close`: the map is dropped when the last of them is.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._map = _map_file(self.path)
        try:
            header = parse_header(self.path, self._map)
        except BaseException:
            self._map.close()
            raise
        self.tensors: Mapping[str, TensorInfo] = header.tensors
        self._values = header.values
        self.metadata: Mapping[str, MetadataValue] = _Metadata(self.path, self._map, self._values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Metadata arrays can no longer be decoded; may be called twice."""
        # A view from `data` may be alive; the map is then closed with the last of them.
        with contextlib.suppress(BufferError):
            self._map.close()

    @property
    def architecture(self) -> str:
        return self.require("general.architecture", str)

    def key(self, name: str) -> str:
        """The metadata key of an architecture's own value: "context_length" of a qwen2 file is
        "qwen2.context_length".
        """
        return f"{self.architecture}.{name}"

    def require(self, key: str, kind: type[Scalar]) -> Scalar:
        """The scalar at `key`. Raises ModelFormatError if it is missing or of another type."""
        value = self.optional(key, kind)
        if value is None:
            self._fail(f"metadata key '{key}' is missing, expected {kind_name(kind)}")
        return value

    def optional(self, key: str, kind: type[Scalar]) -> Scalar | None:
        """The scalar at `key`, or None. Raises ModelFormatError if it is of another type."""
        if key not in self._values:
            return None
        value = self._values[key]
        if type(value) is not kind:
            self._fail(f"metadata key '{key}' holds {describe(value)}, expected {kind_name(kind)}")
        return cast(Scalar, value)

    def require_list(self, key: str, kind: type[Scalar]) -> list[Scalar]:
        """The array at `key`. Raises ModelFormatError if it is missing or of another type."""
        value = self.optional_list(key, kind)
        if value is None:
            self._fail(f"metadata key '{key}' is missing, expected an array of {kind_name(kind)}s")
        return value

    def optional_list(self, key: str, kind: type[Scalar]) -> list[Scalar] | None:
        """The array at `key`, or None. Raises ModelFormatError if it is of another type."""
        if key not in self._values:
            return None
        value = self._values[key]
        if not isinstance(value, MetadataArray) or element_kind(value) is not kind:
            self._fail(
                f"metadata key '{key}' holds {describe(value)}, "
                f"expected an array of {kind_name(kind)}s"
            )
        return cast(list[Scalar], self.metadata[key])

    def data(self, name: str) -> npt.NDArray[np.uint8]:
        """A tensor's bytes as they lie in the file: uint8 (n_bytes,), read-only, not copied."""
        tensor = self.tensors.get(name)
        if tensor is None:
            self._fail(f"tensor '{name}' is missing")
        return np.frombuffer(self._map, np.uint8, tensor.n_bytes, tensor.offset)

    def _fail(self, detail: str) -> NoReturn:
        raise ModelFormatError(self.path, detail)


class _Metadata(Mapping[str, MetadataValue]):
    """The decoded view of the header's values."""

    def __init__(
        self, path: Path, content: mmap.mmap, values: Mapping[str, MetadataScalar | MetadataArray]
    ) -> None:
        self._path, self._content, self._values = path, content, values

    def __getitem__(self, key: str) -> MetadataValue:
        value = self._values[key]
        return self._decode(key, value) if isinstance(value, MetadataArray) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _decode(self, key: str, array: MetadataArray) -> MetadataValue:
        content = self._content[array.start : array.end]
        if array.element_type != GGUFValueType.STRING:
            return np.frombuffer(content, VALUE_FORMATS[array.element_type]).tolist()
        strings: list[str] = []
        append, read_length = strings.append, STRING_LENGTH.unpack_from
        end = 0
        try:
            for _ in range(array.n_elements):
                start = end + 8
                end = start + read_length(content, end)[0]
                append(content[start:end].decode())
        except UnicodeDecodeError as error:
            raise ModelFormatError(
                self._path, f"string {len(strings)} of the array '{key}' is not UTF-8: {error}"
            ) from None
        return strings


def _map_file(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ModelFormatError(path, "it is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelNotFoundError(str(path), error.strerror or str(error)) from error
