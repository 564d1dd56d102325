"""The first layers of a model as a judge of what its later text attends to (SPEC C.2, C.3).

Queries and keys are taken before rotation, so that distance does not bury what is far away; the
layers themselves rotate as ever. The mean over heads and rows judges better than the maximum over
heads that was published, and a few early layers better than any one
(benchmarks/cross_file.py --recall).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import KV_BLOCK_TOKENS, Backend, Floats, Halves, KvCache, Model
from engine.errors import ContextOverflowError
from engine.models.blocks import Hyperparameters, Probe
from engine.ops import BlockSparse, KvLayer
from engine.program import Program
from engine.session import StepCancelled
from engine.tokenizer import Tokenizer

# Depths of the layers that score, as shares of the model's.
_DEPTHS = (0.1, 0.25, 0.3)
_STEP_ROWS = 128
SEGMENT_TOKENS = 2048  # of a longer segment the rest is not scored
MOST_TOKENS = 65536  # of a joint scoring


def probe_of(n_layer: int, alpha: float = 0.0) -> Probe:
    """The layers to score with, for a model of so many; above 0, `alpha` makes them sparse."""
    # The first layer has seen nothing but single tokens.
    layers = sorted({min(max(int(depth * n_layer), 1), n_layer - 1) for depth in _DEPTHS})
    return Probe(tuple(layers), BlockSparse(alpha, block=_STEP_ROWS) if alpha > 0 else None)


@dataclass(frozen=True)
class Probed:
    """Queries (T, layers, H, D) and keys (T, layers, K, D) of some tokens."""

    queries: Floats
    keys: Halves


class Scorer:
    """Runs the probed layers over token ids. Used by the thread that owns the model."""

    def __init__(
        self,
        build: Callable[[Probe], Program],
        shape: Hyperparameters,
        tokenizer: Tokenizer,
        weights: Mapping[str, NDArray[np.uint8]],
        *,
        backend: Backend,
        name: str,
    ) -> None:
        self.name, self.tokenizer, self.shape = name, tokenizer, shape
        self.n_layers = len(probe_of(shape.n_layer).layers)
        self._build, self._weights, self._backend = build, weights, backend
        self._models = {0.0: self._make_model(0.0)}  # by alpha
        self._kv = self._make_kv(SEGMENT_TOKENS + _STEP_ROWS)

    def key_shape(self, n_tokens: int) -> tuple[int, int, int, int]:
        return (n_tokens, self.n_layers, self.shape.n_kv, self.shape.head_dim)

    def probe(self, ids: Sequence[int], n_queries: int = 0, alpha: float = 0.0) -> Probed:
        """The keys of a fresh sequence, and the queries of its last `n_queries` tokens. Above 0,
        `alpha` is the threshold of block-sparse attention (ops.BlockSparse).

        Raises StepCancelled, and ContextOverflowError for more than MOST_TOKENS tokens.
        """
        if len(ids) > MOST_TOKENS:
            raise ContextOverflowError(len(ids), MOST_TOKENS)
        # A long sequence has memory of its own, which goes with it.
        is_short = len(ids) <= SEGMENT_TOKENS + _STEP_ROWS
        kv = self._kv if is_short else self._make_kv(len(ids))
        n_head, n_kv, head_dim = self.shape.n_head, self.shape.n_kv, self.shape.head_dim
        keys = np.empty(self.key_shape(len(ids)), np.float16)
        queries = np.empty((n_queries, self.n_layers, n_head, head_dim), np.float32)
        first_query = len(ids) - n_queries
        if alpha not in self._models:
            self._models[alpha] = self._make_model(alpha)
        for start in range(0, len(ids), _STEP_ROWS):
            found = self._step(self._models[alpha], kv, ids[start : start + _STEP_ROWS], start)
            heads = found.reshape(len(found), self.n_layers, n_head + n_kv, head_dim)
            end = start + len(found)
            keys[start:end] = heads[:, :, n_head:]
            if end > first_query:
                cut = max(first_query - start, 0)
                queries[start + cut - first_query : end - first_query] = heads[cut:, :, :n_head]
        return Probed(queries, keys)

    def shares(self, queries: Floats, keys: Sequence[Halves]) -> list[Floats]:
        """Of each layer, what the queries attend to among all keys (N,), in their order."""
        scale = self.shape.head_dim**-0.5
        return [
            self._backend.attention_shares(queries, keys, layer, scale)
            for layer in range(self.n_layers)
        ]

    def set_cancelled(self, is_cancelled: bool) -> None:
        for model in list(self._models.values()):
            model.set_cancelled(is_cancelled)

    def _make_model(self, alpha: float) -> Model:
        program = self._build(probe_of(self.shape.n_layer, alpha))
        return self._backend.model(program, self._weights, max_rows=_STEP_ROWS, max_out_rows=1)

    def _step(self, model: Model, kv: KvCache, ids: Sequence[int], start: int) -> Floats:
        n = len(ids)
        is_done = model.step(
            kv,
            np.asarray(ids, np.int32),
            np.arange(-1, n - 1, dtype=np.int32),
            np.arange(_n_blocks(start + n), dtype=np.int32),
            start,
            np.empty(0, np.int32),
        )
        if not is_done:
            raise StepCancelled
        return model.collected(n)

    def _make_kv(self, n_tokens: int) -> KvCache:
        # Of a model with one layer nothing before it is computed; a cache holds something anyhow.
        alone = KvLayer(0, self.shape.n_kv, self.shape.head_dim)
        layers = self._models[0.0].program.kv_layers or [alone]
        return self._backend.kv_cache(layers, _n_blocks(n_tokens))


def _n_blocks(n_tokens: int) -> int:
    return -(-n_tokens // KV_BLOCK_TOKENS)
