"""What models share on a device: weights, uploaded once however many Programs use them, tables
made of constants, and room to work in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from engine.backends.backend import Bytes
from engine.backends.gpu.defaults import defaults_of
from engine.backends.gpu.driver import Address, Driver
from engine.backends.gpu.packing import BLOCK, Format, pack, packed_bytes, paired_rows
from engine.errors import NativeError
from engine.ops import Embed, Linear, Weight
from engine.program import Program

# Rotary tables reach as far as any context.
MOST_POSITIONS = 65536


@dataclass(frozen=True)
class Matrix:
    """A packed matrix on the device (native/gpu/quants.h)."""

    format: Format
    quants: Address
    scales: Address
    n_bytes: int


def weight_bytes(programs: Sequence[Program]) -> int:
    """What their weights take: matrices packed, vectors and tables of floats as floats."""
    ops = [op for program in programs for op in program.ops]
    used = {weight.name: weight for program in programs for weight in program.weights_used()}
    looked_up = {op.table.name for op in ops if isinstance(op, Embed)}
    multiplied = {op.weight.name for op in ops if isinstance(op, Linear)}
    is_float = {name: w.type_id == GGMLQuantizationType.F32 for name, w in used.items()}
    as_floats = (used.keys() - multiplied - looked_up) | {n for n in looked_up if is_float[n]}
    packed = multiplied | (looked_up - as_floats)
    n_floats = sum(used[name].n_out * used[name].n_cols for name in as_floats)
    return 4 * n_floats + sum(
        packed_bytes(w.type_id, w.n_out, w.n_cols) for w in (used[name] for name in packed)
    )


class DeviceWeights:
    """Uploads on first use. Freed with the object."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self.defaults = driver, defaults_of(driver.arch)
        self._found: dict[object, Any] = {}
        self._sources: list[Bytes] = []  # kept, for the cache knows them by their addresses
        self._addresses: list[Address] = []
        self._scratch, self._scratch_bytes = 0, 0

    def table(self, weight: Weight, data: Bytes) -> Matrix:
        """A matrix whose rows are looked up: of floats it keeps them, any number a row."""
        if weight.type_id != GGMLQuantizationType.F32:
            return self.matrix((weight,), (data,))
        key = ("table", data.ctypes.data, _shape_of(weight))
        if key not in self._found:
            self._sources.append(data)
            self._found[key] = Matrix(Format.FLOAT, self.keep(data), 0, data.nbytes)
        return self._found[key]

    def matrix(
        self, weights: Sequence[Weight], data: Sequence[Bytes], pairs: int | None = None
    ) -> Matrix:
        """One matrix, or the rows of several of one shape below one another. With `pairs`, rows of
        the first half of each so many are paired with those of the second: both lie in one tile."""
        key = (*(d.ctypes.data for d in data), *(_shape_of(w) for w in weights), pairs)
        if key not in self._found:
            self._sources += data
            self._found[key] = self._upload(weights, data, pairs)
        return self._found[key]

    def _upload(
        self, weights: Sequence[Weight], data: Sequence[Bytes], pairs: int | None
    ) -> Matrix:
        first, n_out = weights[0], sum(weight.n_out for weight in weights)
        if first.n_cols % BLOCK:
            detail = f"'{first.name}' has rows of {first.n_cols}, expected a multiple of {BLOCK}"
            raise NativeError("matrix", detail)
        content = data[0] if len(data) == 1 else np.concatenate([d.reshape(-1) for d in data])
        order = None if pairs is None else paired_rows(n_out, pairs)
        packed = pack(first.type_id, content, n_out, first.n_cols, order)
        places = (self.keep(packed.quants), self.keep(packed.scales))
        return Matrix(packed.format, *places, packed.n_bytes)

    def vector(self, weight: Weight, data: Bytes) -> Address:
        """As floats, whatever it is in the file."""
        key = (data.ctypes.data, weight.n_cols, weight.type_id)
        if key not in self._found:
            self._sources.append(data)
            kind = GGMLQuantizationType(weight.type_id)
            self._found[key] = self.keep(dequantize(data, kind).astype(np.float32).reshape(-1))
        return self._found[key]

    def turns(self, inverse_frequencies: tuple[float, ...]) -> Address:
        """Cosine and sine (positions, pairs, 2) of position * frequency, rounded once."""
        if inverse_frequencies not in self._found:
            angles = np.arange(MOST_POSITIONS)[:, None] * np.array(inverse_frequencies)
            table = np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
            self._found[inverse_frequencies] = self.keep(table)
        return self._found[inverse_frequencies]

    def scratch(self, n_bytes: int) -> Address:
        """Room for what lasts no longer than a step: models of one device take turns."""
        if n_bytes > self._scratch_bytes:  # those who had less keep that
            self._scratch, self._scratch_bytes = self._driver.allocate(n_bytes), n_bytes
            self._addresses.append(self._scratch)
        return self._scratch

    def keep(self, array: NDArray[Any]) -> Address:
        """A constant's place on the device."""
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        address = self._driver.allocate(content.nbytes)
        self._driver.upload(address, content)
        self._driver.synchronize()
        self._addresses.append(address)
        return address

    def __del__(self) -> None:
        for address in self._addresses:
            self._driver.free(address)


def _shape_of(weight: Weight) -> tuple[int, int, int]:
    return weight.n_out, weight.n_cols, weight.type_id
