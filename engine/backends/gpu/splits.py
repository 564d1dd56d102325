"""How a step's keys are split among blocks of threads, and what the parts of its attention take."""

from engine.backends.gpu.lowering import SPLIT_KEYS, SPLIT_ROWS
from engine.ops import Attention
from engine.program import Program


def n_splits_of(n_keys: int) -> int:
    return -(-n_keys // SPLIT_KEYS)


def partial_bytes(program: Program, max_rows: int, n_splits: int) -> int:
    """Of (rows, H, splits, 4 + D) floats, for the attention of the Program that takes the most."""
    sizes = [op.n_head * (4 + op.kv.head_dim) for op in program.ops if isinstance(op, Attention)]
    return 4 * max(sizes, default=0) * min(max_rows, SPLIT_ROWS) * n_splits
