"""Weights as native/gpu/quants.h wants them: tiles of 16 rows, blocks of 32 columns."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

Bytes = NDArray[Any]  # of uint8, which NumPy's types lose at every shift
Halves = NDArray[np.float16]
Floats = NDArray[np.float32]

TILE_ROWS, BLOCK = 16, 32
_MOST_ROWS = 8192  # unpacked at a time
_SCALE_BYTES = 4  # of a row in a block


class Format(IntEnum):
    """As quants.h counts them."""

    INT4 = 0
    INT5 = 1
    INT6 = 2
    INT8 = 3
    FLOAT = 4
    HALF = 5


class RoundingKind(IntEnum):
    """To what activations are rounded before they meet a weight: int8 by blocks of 32, or of 256,
    or halves."""

    BLOCKS = 0
    SUPER = 1
    HALVES = 2


def block_bytes_of(format: int) -> int:
    """The numbers of a tile's block, as quants.h has it."""
    return TILE_ROWS * _ROW_BYTES[Format(format)]


# Of the numbers of a row in a block.
_ROW_BYTES = {
    Format.INT4: 16,
    Format.INT5: 20,
    Format.INT6: 24,
    Format.INT8: 32,
    Format.HALF: 64,
}


@dataclass(frozen=True)
class Packed:
    """`quants` (tiles, blocks, bytes of a block), `scales` (tiles, blocks, 16, 2): two halves, or
    the two of a float."""

    format: Format
    quants: Bytes
    scales: Halves

    @property
    def n_bytes(self) -> int:
        return self.quants.nbytes + self.scales.nbytes


@dataclass(frozen=True)
class _Layout:
    """A GGUF type: what it becomes, its bytes for 32 or 256 columns, how activations are rounded
    for it, and how to unpack (rows, blocks, bytes) to numbers (rows, 32-blocks, 32), 0..255 or
    halves, and scales (rows, 32-blocks, 2)."""

    format: Format
    block_bytes: int
    rounding: RoundingKind
    unpack: Callable[[Bytes], tuple[Bytes, Halves]]


def is_packable(type_id: int) -> bool:
    return type_id in _LAYOUTS


def rounding_of(type_id: int) -> RoundingKind:
    """How activations are rounded for this type: to int8 by the blocks that the CPU has, too."""
    return _LAYOUTS[type_id].rounding


def packed_bytes(type_id: int, n_out: int, n_cols: int) -> int:
    """What `pack` makes of a matrix."""
    row_bytes = _ROW_BYTES[_LAYOUTS[type_id].format] + _SCALE_BYTES
    return -(-n_out // TILE_ROWS) * TILE_ROWS * (n_cols // BLOCK) * row_bytes


def format_of(type_id: int) -> Format:
    return _LAYOUTS[type_id].format


def paired_rows(n_out: int, n: int) -> NDArray[np.intp]:
    """The order in which tiles have eight of the first half of each `n` rows, and the eight of the
    second half that are paired with them (native/gpu/linear.h: column_of)."""
    rows = np.arange(n_out).reshape(-1, 2, n // TILE_ROWS, TILE_ROWS // 2)
    return rows.swapaxes(1, 2).reshape(-1)


def pack(
    type_id: int, data: Bytes, n_out: int, n_cols: int, order: NDArray[np.intp] | None = None
) -> Packed:
    """Repacks a GGUF matrix (n_out, n_cols), its rows in `order`; rows of zeros fill the last
    tile."""
    layout = _LAYOUTS[type_id]
    rows = data.reshape(n_out, -1, layout.block_bytes)
    if order is not None:
        rows = rows[order]
    parts: list[tuple[Bytes, Halves]] = []
    for first in range(0, n_out, _MOST_ROWS):
        numbers, scales = layout.unpack(rows[first : first + _MOST_ROWS])
        n_missing = -len(numbers) % TILE_ROWS
        numbers = np.pad(numbers, ((0, n_missing), (0, 0), (0, 0)))
        scales = np.pad(scales, ((0, n_missing), (0, 0), (0, 0)))
        n_blocks = n_cols // BLOCK
        in_tiles = numbers.reshape(-1, TILE_ROWS, n_blocks, BLOCK).swapaxes(1, 2)
        quants = _PACKERS[layout.format](in_tiles)
        in_order = scales.reshape(-1, TILE_ROWS, n_blocks, 2).swapaxes(1, 2)
        parts.append((quants, np.ascontiguousarray(in_order)))
    quants = np.concatenate([part[0] for part in parts])
    return Packed(layout.format, quants, np.concatenate([part[1] for part in parts]))


# ---- numbers (tiles, blocks, 16 rows, 32 columns) to bytes (tiles, blocks, n) ----


def _flat(*planes: Bytes) -> Bytes:
    return np.concatenate([p.reshape(*p.shape[:2], -1) for p in planes], axis=2)


def _nibbles(numbers: Bytes) -> Bytes:
    return (numbers[..., :16] & 15) | (numbers[..., 16:] & 15) << 4


def _pack_int4(numbers: Bytes) -> Bytes:
    return _flat(_nibbles(numbers))


def _by_byte(numbers: Bytes) -> Bytes:
    """(.., 32 columns) as (.., half, byte, word): column 16 half + 4 word + byte."""
    return numbers.reshape(*numbers.shape[:-1], 2, 4, 4).swapaxes(-1, -2)


def _pack_int5(numbers: Bytes) -> Bytes:
    bits = np.moveaxis(_by_byte(numbers >> 4 & 1), -2, -3)  # (.., byte, half, word)
    in_bytes = bits.reshape(*bits.shape[:-3], 4, 8)
    return _flat(_nibbles(numbers), np.packbits(in_bytes, axis=-1, bitorder="little"))


def _pack_int6(numbers: Bytes) -> Bytes:
    pairs = _by_byte(numbers >> 4 & 3)
    shifts = np.array([0, 2, 4, 6], np.uint8)
    return _flat(_nibbles(numbers), np.bitwise_or.reduce(pairs << shifts, axis=-1))


def _pack_int8(numbers: Bytes) -> Bytes:
    halves = numbers.reshape(*numbers.shape[:3], 2, 16)
    return _flat(np.ascontiguousarray(halves.swapaxes(2, 3)))


def _pack_half(numbers: Halves) -> Bytes:
    return _flat(np.ascontiguousarray(numbers).view(np.uint8))


_PACKERS = {
    Format.INT4: _pack_int4,
    Format.INT5: _pack_int5,
    Format.INT6: _pack_int6,
    Format.INT8: _pack_int8,
    Format.HALF: _pack_half,
}


# ---- GGUF blocks (rows, blocks, bytes) to numbers and scales ----


def _halves(blocks: Bytes, start: int, n: int = 1) -> Halves:
    return np.ascontiguousarray(blocks[..., start : start + 2 * n]).view(np.float16)


def _low_high(qs: Bytes) -> Bytes:
    return np.concatenate([qs & 15, qs >> 4], axis=-1)


def _fifth_bits(qh: Bytes) -> Bytes:
    return np.unpackbits(qh, axis=-1, bitorder="little") << 4


def _pair(d: NDArray[np.floating], m: NDArray[np.floating]) -> Halves:
    return np.concatenate([d, m], axis=-1).astype(np.float16)


def _q4_0(b: Bytes) -> tuple[Bytes, Halves]:
    d = _halves(b, 0)
    return _low_high(b[..., 2:18]), _pair(d, -8 * d)


def _q4_1(b: Bytes) -> tuple[Bytes, Halves]:
    return _low_high(b[..., 4:20]), _halves(b, 0, 2)


def _q5_0(b: Bytes) -> tuple[Bytes, Halves]:
    d = _halves(b, 0)
    return _low_high(b[..., 6:22]) | _fifth_bits(b[..., 2:6]), _pair(d, -16 * d)


def _q5_1(b: Bytes) -> tuple[Bytes, Halves]:
    return _low_high(b[..., 8:24]) | _fifth_bits(b[..., 4:8]), _halves(b, 0, 2)


def _q8_0(b: Bytes) -> tuple[Bytes, Halves]:
    d = _halves(b, 0)
    return b[..., 2:34], _pair(d, np.zeros_like(d))


def _six_bits(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Eight scales and eight minima of six bits each, from twelve bytes."""
    low, middle, high = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6) << 4], axis=-1)
    minima = np.concatenate([middle & 63, (high >> 4) | (middle >> 6) << 4], axis=-1)
    return scales, minima


def _k_scales(b: Bytes) -> Halves:
    d = _halves(b, 0, 2).astype(np.float32)
    scales, minima = _six_bits(b[..., 4:16])
    pairs = np.stack([d[..., :1] * scales, -d[..., 1:] * minima], axis=-1)
    return pairs.reshape(len(b), -1, 2).astype(np.float16)


def _k_numbers(qs: Bytes) -> Bytes:
    """Low nibbles of 32 bytes, then their high ones."""
    parts = qs.reshape(*qs.shape[:2], 4, 1, 32)
    both = np.concatenate([parts & 15, parts >> 4], axis=3)
    return both.reshape(len(qs), -1, BLOCK)


def _q4_k(b: Bytes) -> tuple[Bytes, Halves]:
    return _k_numbers(b[..., 16:144]), _k_scales(b)


def _q5_k(b: Bytes) -> tuple[Bytes, Halves]:
    bits = b[..., None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    high = (bits << 4).reshape(len(b), -1, BLOCK)
    return _k_numbers(b[..., 48:176]) | high, _k_scales(b)


def _q6_k(b: Bytes) -> tuple[Bytes, Halves]:
    low = b[..., :128].reshape(*b.shape[:2], 2, 2, 32)
    high = b[..., 128:192].reshape(*b.shape[:2], 2, 1, 32)
    nibbles = np.concatenate([low & 15, low >> 4], axis=3)  # (.., 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    numbers = nibbles | (high >> shifts & 3) << 4
    scales = b[..., 192:208].view(np.int8).astype(np.float32) * _halves(b, 208).astype(np.float32)
    pairs = scales.reshape(len(b), -1, 2).astype(np.float16)
    return numbers.reshape(len(b), -1, BLOCK), pairs


_LARGEST_EXPONENT, _LEAST_EXPONENT = 8, -126  # of a block's numbers; of a float


def _scaled(values: Floats) -> tuple[Halves, Halves]:
    """Halves of which a block's largest is below 2^8, and the powers of two that make them so. A
    block that is not finite stays so."""
    most = np.abs(values).max(axis=-1, keepdims=True)
    exponents = np.maximum(np.frexp(most)[1] - _LARGEST_EXPONENT, _LEAST_EXPONENT)
    is_finite = np.isfinite(most)
    numbers = np.ldexp(np.where(is_finite, values, np.float32(0)), -exponents)
    scales = np.where(is_finite, np.ldexp(np.float32(1), exponents), np.float32(np.nan))
    return numbers.astype(np.float16), scales.view(np.float16)


def _f16(b: Bytes) -> tuple[Halves, Halves]:
    return _scaled(b.view(np.float16).astype(np.float32))


def _bf16(b: Bytes) -> tuple[Halves, Halves]:
    return _scaled((b.view(np.uint16).astype(np.uint32) << 16).view(np.float32))


def _f32(b: Bytes) -> tuple[Halves, Halves]:
    return _scaled(b.view(np.float32))


_BLOCKS, _SUPER, _HALVES = RoundingKind.BLOCKS, RoundingKind.SUPER, RoundingKind.HALVES
_LAYOUTS = {
    int(Type.Q4_0): _Layout(Format.INT4, 18, _BLOCKS, _q4_0),
    int(Type.Q4_1): _Layout(Format.INT4, 20, _BLOCKS, _q4_1),
    int(Type.Q5_0): _Layout(Format.INT5, 22, _BLOCKS, _q5_0),
    int(Type.Q5_1): _Layout(Format.INT5, 24, _BLOCKS, _q5_1),
    int(Type.Q8_0): _Layout(Format.INT8, 34, _BLOCKS, _q8_0),
    int(Type.Q4_K): _Layout(Format.INT4, 144, _SUPER, _q4_k),
    int(Type.Q5_K): _Layout(Format.INT5, 176, _SUPER, _q5_k),
    int(Type.Q6_K): _Layout(Format.INT6, 210, _SUPER, _q6_k),
    int(Type.F16): _Layout(Format.HALF, 64, _HALVES, _f16),
    int(Type.BF16): _Layout(Format.HALF, 64, _HALVES, _bf16),
    int(Type.F32): _Layout(Format.HALF, 128, _HALVES, _f32),
}
