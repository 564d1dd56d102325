"""How a step's keys are split among blocks of threads, and what the parts of its attention take."""

from engine.backends.gpu.launch import SPLIT_KEYS, ceil_div
from engine.backends.gpu.lowering import SPLIT_ROWS
from engine.backends.gpu.sparse import is_sparse, sparse_bytes
from engine.ops import Attention
from engine.program import Program


def n_splits_of(n_keys: int) -> int:
    return ceil_div(n_keys, SPLIT_KEYS)


def split_room(n_keys: int) -> int:
    """Splits that a graph for so many keys has room for: a power of two, so that few graphs serve a
    growing text."""
    return 1 << (n_splits_of(n_keys) - 1).bit_length()


def partial_bytes(program: Program, max_rows: int, n_splits: int) -> int:
    """Of the attention of the Program that takes the most: (rows, H, splits, 4 + D) floats, or
    what block-sparse attention selects with."""
    attentions = [op for op in program.ops if isinstance(op, Attention)]
    n_parts = min(max_rows, SPLIT_ROWS) * n_splits
    sizes = [
        sparse_bytes(op, max_rows)
        if is_sparse(op)
        else 4 * op.n_head * (4 + op.kv.head_dim) * n_parts
        for op in attentions
    ]
    return max(sizes, default=0)
