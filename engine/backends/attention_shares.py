"""What the queries of a text's end attend to among stored keys (SPEC C.3), on the processor."""

from collections.abc import Sequence

import numpy as np

from engine.backends.backend import Floats, Halves

_TILE_ROWS = 64  # bounds the memory of the weights: 4 MiB for 16,384 keys


def attention_shares(queries: Floats, keys: Sequence[Halves], layer: int, scale: float) -> Floats:
    """As `Backend.attention_shares`."""
    n_rows, _, n_head, head_dim = queries.shape
    n_kv = keys[0].shape[2]
    total = np.zeros(sum(len(k) for k in keys), np.float32)
    for kv in range(n_kv):
        group = slice(kv * n_head // n_kv, (kv + 1) * n_head // n_kv)
        rows = queries[:, layer, group].reshape(-1, head_dim) * np.float32(scale)  # (T * G, D)
        joined = np.concatenate([k[:, layer, kv] for k in keys]).astype(np.float32)
        for start in range(0, len(rows), _TILE_ROWS):
            weights = rows[start : start + _TILE_ROWS] @ joined.T
            weights -= weights.max(axis=1, keepdims=True)
            np.exp(weights, out=weights)
            total += (1 / weights.sum(axis=1)) @ weights
    return total / np.float32(n_rows * n_head)
