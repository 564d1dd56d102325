"""The memory of KV blocks on a device (native/gpu/kv.h says how a block lies there)."""

from collections.abc import Callable, Sequence

import numpy as np

from engine.backends.backend import KV_BLOCK_TOKENS, Bytes
from engine.backends.gpu.args import MOST_MOVES, FollowArgs, KvMoveArgs, KvPlace
from engine.backends.gpu.driver import Address, Driver, Function
from engine.backends.gpu.source import kernel_of
from engine.config import KvCacheType
from engine.ops import KvLayer

_HALF_BYTES = 2
_THREADS = 256
# What a block takes for each dimension of a head, keys and values, in halves; scales are of 32.
_DIM_HALVES: dict[KvCacheType, int] = {"f16": 2 * KV_BLOCK_TOKENS, "q8_0": KV_BLOCK_TOKENS + 2}


def block_bytes(layers: Sequence[KvLayer], kv_type: KvCacheType) -> int:
    return sum(_halves(layer, kv_type) for layer in layers) * _HALF_BYTES


def _halves(layer: KvLayer, kv_type: KvCacheType) -> int:
    return _DIM_HALVES[kv_type] * layer.n_kv * layer.head_dim


class GpuKvCache:
    """Blocks of 32 positions of every layer, as halves or as int8 with scales.

    `n_writes` counts what was asked to write to them, steps of models among it."""

    def __init__(
        self,
        driver: Driver,
        functions: Callable[[str], Function],
        layers: Sequence[KvLayer],
        n_blocks: int,
        kv_type: KvCacheType,
    ) -> None:
        self._driver, self._layers = driver, tuple(layers)
        self.kv_type: KvCacheType = kv_type
        self._move = functions(kernel_of("kv_move", kv_type))
        self._follow = functions(kernel_of("follow", kv_type))
        self.n_writes = 0
        self.block_bytes = block_bytes(layers, kv_type)
        self._stride = self.block_bytes // _HALF_BYTES
        self._memory = driver.allocate(max(n_blocks * self.block_bytes, 1))
        sizes = [_halves(layer, kv_type) for layer in layers]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        table = [
            (offset, layer.n_kv, layer.head_dim)
            for offset, layer in zip(self._offsets, layers, strict=False)
        ]
        self._table = np.array(table, np.int64).reshape(-1, 3)
        self._table_address = driver.allocate(max(self._table.nbytes, 1))
        driver.upload(self._table_address, self._table)

    def place(self, layer: KvLayer) -> KvPlace:
        """Where a layer's keys and values lie."""
        offset = int(self._offsets[layer.layer])
        return KvPlace(self._memory, self._stride, offset, layer.n_kv, layer.head_dim)

    def copy_block(self, source: int, target: int) -> None:
        self.n_writes += 1
        n = self.block_bytes
        self._driver.copy(self._memory + target * n, self._memory + source * n, n)

    def move_positions(self, moves: Sequence[tuple[int, int]]) -> None:
        self.n_writes += 1
        for start in range(0, len(moves), MOST_MOVES):
            some = moves[start : start + MOST_MOVES]
            args = KvMoveArgs(self._memory, self._table_address, self._stride, len(some))
            for to, move in zip(args.moves, some, strict=False):
                to[:] = move
            self._driver.launch(self._move, (len(self._layers), 1, 1), _THREADS, args)

    def follow(self, tree: Address, chosen: Address, following: Address) -> None:
        """Moves what the rows of the step at `tree` decided, who found `chosen` likeliest, as
        `move_positions` would, and has the step at `following` continue it."""
        args = FollowArgs(tree, chosen, following, self._memory, self._table_address, self._stride)
        self._driver.launch(self._follow, (len(self._layers), 1, 1), _THREADS, args)

    def read_block(self, block: int) -> Bytes:
        content = np.empty(self.block_bytes, np.uint8)
        self._driver.download(content, self._memory + block * self.block_bytes)
        self._driver.synchronize()
        return content

    def write_block(self, block: int, content: Bytes) -> None:
        self.n_writes += 1
        self._driver.upload(self._memory + block * self.block_bytes, content)
        self._driver.synchronize()

    def __del__(self) -> None:
        for address in (self._memory, self._table_address):
            self._driver.free(address)
