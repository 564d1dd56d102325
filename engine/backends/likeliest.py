"""The best of rows of logits in order, on the processor."""

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Floats, Int32s
from engine.errors import NativeError

_PART = 128  # of a row: how far its best reach is seen from the best of its parts


def likeliest(logits: Floats, k: int) -> tuple[Int32s, Floats]:
    """As `backend.Model.likeliest`, of logits (R, V)."""
    ids = np.empty((len(logits), min(k, logits.shape[1])), np.int32)
    for row, best in zip(logits, ids, strict=True):
        if not np.isfinite(row.max()):  # NaN is larger than any number
            raise NativeError("logits", f"the best is {row.max()}, expected a finite number")
        found = _reaching(row, k)
        best[:] = found[np.argsort(-row[found], kind="stable")[:k]]
    return ids, np.take_along_axis(logits, ids, axis=1)


def _reaching(row: Floats, k: int) -> NDArray[np.int64]:
    """Ascending ids of all that are as large as the k-th best of a row, and perhaps of more."""
    n_parts = len(row) // _PART
    if n_parts < k:
        return np.arange(len(row))
    best_of_parts = row[: n_parts * _PART].reshape(_PART, n_parts).max(axis=0)
    bound = np.partition(best_of_parts, n_parts - k)[n_parts - k]
    return np.flatnonzero(row >= bound)
