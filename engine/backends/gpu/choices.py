"""What is chosen of rows of logits: the arguments of those kernels and the room they work in."""

from collections.abc import Mapping

from engine.backends.gpu.args import ChooseArgs
from engine.backends.gpu.driver import Address
from engine.backends.gpu.launch import ceil_div
from engine.backends.gpu.packing import TILE_ROWS

_CHUNK, _MOST_TOP = 4096, 64  # native/gpu/choose.h: kChunk, kMostTop


def n_chunks_of(width: int) -> int:
    """A block looks at each of so many chunks of a row, another one at what they found."""
    return ceil_div(width, _CHUNK)


def most_top(width: int) -> int:
    """How many of the best of a row can be had in their order: what all chunks find fits one."""
    return min(_MOST_TOP, width, _CHUNK // n_chunks_of(width))


def scratch_bytes(n_rows: int, width: int, k: int) -> dict[str, int]:
    """What is found on the way, and the ids of the k that every step chooses, for the step after
    it: the host is told results where it reads them."""
    n_chunks, most = n_chunks_of(width), most_top(width)
    return {
        "keys": 8 * max(n_rows * n_chunks * most, ceil_div(width, TILE_ROWS)),
        "sums": 4 * n_rows * n_chunks,
        "ids": 4 * n_rows * k,
    }


def choose_args(
    step: Address,
    x: Address,
    scratch: Mapping[str, Address],
    width: int,
    k: int,
    *,
    is_log_softmax: bool = True,
    is_told: bool = True,
) -> ChooseArgs:
    """For the best k of each selected row of x; room as `scratch_bytes` says, and for `values`.
    With `is_told` the step's `told` gets the ids, too."""
    rooms = (scratch[name] for name in ("keys", "sums", "ids", "values"))
    return ChooseArgs(step, x, *rooms, width, n_chunks_of(width), k, is_log_softmax, is_told)
