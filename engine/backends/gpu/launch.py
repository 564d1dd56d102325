"""What a step launches: one kernel after the other, the same for all steps of a bucket."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from engine.backends.backend import KV_BLOCK_TOKENS
from engine.backends.gpu.driver import Grid
from engine.backends.gpu.kv import GpuKvCache
from engine.backends.gpu.source import kernel_of
from engine.config import KvCacheType
from engine.ops import Rows

THREADS = 256
SPLIT_KEYS = 64  # native/gpu/split.h: kSplitKeys
_PREFILL_BOUNDS = 32  # of the keys that each warp sees


def ceil_div(n: int, d: int) -> int:
    return -(-n // d)


def prefill_bytes(head_dim: int, *, copies_ahead: bool) -> int:
    """Shared memory of a block that attends to one split while it copies the next
    (native/gpu/prefill.h: PrefillShared with two stages); one stage is the kernel's own."""
    if not copies_ahead:
        return 0
    key_words, value_words = head_dim // 2, 16 * head_dim * (SPLIT_KEYS // KV_BLOCK_TOKENS)
    padding = 0 if key_words == 16 else 4  # lanes.h: stride_of
    return 2 * 4 * (SPLIT_KEYS * (key_words + padding) + value_words) + _PREFILL_BOUNDS


class Bucket(NamedTuple):
    """What one recorded graph is good for: steps of at most so many rows, selected rows and splits
    of the keys (0: one block does all of them), over one KV cache of a type."""

    n_rows: int
    n_out_rows: int
    n_splits: int
    kv_type: KvCacheType = "f16"

    def of_cache(self, name: str) -> str:
        """What a kernel is called that reads or writes the cache."""
        return kernel_of(name, self.kv_type)

    def rows(self, kind: Rows) -> int:
        return self.n_rows if kind is Rows.STEP else self.n_out_rows


@dataclass(frozen=True)
class Launch:
    """One kernel. What depends on the step's size or its KV cache is made when it is recorded; a
    kernel without a name is none. `weight_bytes` are those of the matrices it multiplies by,
    `shared_bytes` shared memory beside the kernel's own; so many blocks form a `cluster`."""

    kernel: Callable[[Bucket], str]
    grid: Callable[[Bucket], Grid]
    make: Callable[[Bucket, GpuKvCache], ctypes.Structure]
    n_threads: Callable[[Bucket], int] = lambda _: THREADS
    weight_bytes: int = 0
    shared_bytes: Callable[[Bucket], int] = lambda _: 0
    cluster: Callable[[Bucket], int] = lambda _: 1
