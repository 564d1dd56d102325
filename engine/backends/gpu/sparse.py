"""The launches of block-sparse attention (native/gpu/sparse.h), and the room they select in."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.backends.gpu.args import AttentionArgs, SparseArgs
from engine.backends.gpu.device_weights import MOST_POSITIONS
from engine.backends.gpu.driver import Address
from engine.backends.gpu.kv import GpuKvCache
from engine.backends.gpu.launch import SPLIT_KEYS, THREADS, Bucket, Launch, prefill_bytes
from engine.errors import NativeError
from engine.ops import Attention, BlockSparse

_WARPS = THREADS // 32
_MEANS_BLOCKS = 64  # of threads, for each KV head
_ATTENTION_THREADS, _ROWS = 128, 64  # of a block of sparse_prefill


def is_sparse(op: Attention) -> bool:
    """At alpha 0 every block is selected: that is dense attention."""
    return op.sparse is not None and op.sparse.alpha > 0


def sparse_bytes(op: Attention, max_rows: int) -> int:
    return _Room.of(op, max_rows).n_bytes


@dataclass(frozen=True)
class _Room:
    """Where means (K, D, blocks), shares (rows, H, blocks) and lists of splits (H, 1 + splits)
    lie, for as many blocks as the longest text has."""

    most_blocks: int
    shares: int
    splits: int
    n_bytes: int

    @classmethod
    def of(cls, op: Attention, max_rows: int) -> "_Room":
        block = _sparse(op).block
        n = MOST_POSITIONS // block
        shares = 4 * op.kv.n_kv * op.kv.head_dim * n
        splits = shares + 4 * max_rows * op.n_head * n
        return cls(n, shares, splits, splits + 4 * op.n_head * (1 + n * (block // SPLIT_KEYS)))


def _sparse(op: Attention) -> BlockSparse:
    sparse = op.sparse
    assert sparse is not None
    if sparse.block <= 0 or sparse.block % SPLIT_KEYS:
        detail = f"blocks of {sparse.block} keys on a GPU, expected a multiple of {SPLIT_KEYS}"
        raise NativeError("attention", detail)
    if not 0 <= sparse.alpha <= 1 or sparse.n_sink < 0 or sparse.n_window < 0:
        raise NativeError("attention", f"{sparse}, expected alpha in 0..1 and counts >= 0")
    return sparse


def sparse_launches(
    op: Attention,
    make_attention: Callable[[Bucket, GpuKvCache], AttentionArgs],
    room: Address,
    max_rows: int,
    *,
    copies_ahead: bool,
) -> list[Launch]:
    """Means of blocks, each row's shares of them, the selection by head, and attention over it."""
    n_shared = prefill_bytes(op.kv.head_dim, copies_ahead=copies_ahead)
    sparse, at, rows = _sparse(op), _Room.of(op, max_rows), op.q.rows

    def make(bucket: Bucket, kv: GpuKvCache) -> SparseArgs:
        return SparseArgs(
            make_attention(bucket, kv), room, room + at.shares, room + at.splits, sparse.block,
            sparse.n_sink, sparse.n_window, at.most_blocks, sparse.alpha, 0,
        )  # fmt: skip

    n_kv, n_head = op.kv.n_kv, op.n_head
    return [
        Launch(lambda b: b.of_cache("sparse_means"), lambda _: (_MEANS_BLOCKS, n_kv, 1), make),
        Launch(
            lambda b: b.of_cache("sparse_shares"),
            lambda b: (-(-n_head // _WARPS), b.rows(rows), 1),
            make,
        ),
        Launch(lambda b: b.of_cache("sparse_select"), lambda _: (n_head, 1, 1), make),
        Launch(
            lambda b: b.of_cache(f"sparse_prefill_{op.kv.head_dim}"),
            lambda b: (1, n_head, -(-b.rows(rows) // _ROWS)),
            make,
            lambda _: _ATTENTION_THREADS,
            shared_bytes=lambda _: n_shared,
        ),
    ]
