"""What the rest of the engine may ask of a backend: a Program made ready to run, and the memory of
its KV blocks. One module per backend implements this; who wants one asks `open_backend`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.config import KvCacheType
from engine.ops import KvLayer
from engine.program import Program

KV_BLOCK_TOKENS = 32  # positions of a KV block, for every backend

Int32s = NDArray[np.int32]
Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bytes = NDArray[np.uint8]


class KvCache(Protocol):
    """The memory of a pool of KV blocks: KV_BLOCK_TOKENS positions of every layer each.

    Positions are block * KV_BLOCK_TOKENS + offset.
    """

    @property
    def block_bytes(self) -> int: ...
    def copy_block(self, source: int, target: int) -> None: ...
    def move_positions(self, moves: Sequence[tuple[int, int]]) -> None:
        """Copies positions, each a source and a target, in order."""
        ...

    def read_block(self, block: int) -> Bytes:
        """All of a block's bytes; valid until the block is written."""
        ...

    def write_block(self, block: int, content: Bytes) -> None: ...


class Model(Protocol):
    """A Program ready to run, at most `max_rows` rows and `max_out_rows` selected rows a step.

    Used from one thread. Raises NativeError when the model or a kernel is broken. Where it
    `is_concurrent`, `step` returns before the step is done, and who asks for its results waits.
    """

    is_concurrent: bool
    can_follow: bool  # another model's steps
    program: Program
    max_rows: int
    max_out_rows: int
    arena_bytes: int

    def step(
        self,
        kv: KvCache,
        tokens: Int32s,
        parents: Int32s,
        blocks: Int32s,
        n_past: int,
        out_rows: Int32s,
    ) -> bool:
        """Runs T rows; False means it was cancelled and only state before n_past is defined.

        tokens, parents (T): a row continues the row that is its parent, which precedes it, or
        with -1 the n_past tokens before the step; blocks are the sequence's, in logical order.
        """
        ...

    def follow(
        self, kv: KvCache, tokens: Int32s, blocks: Int32s, n_past: int, out_rows: Int32s
    ) -> bool:
        """As `step`, of a chain below what the latest step of the model before it decides
        greedily: a tree after `n_past` tokens, all of whose rows are selected. Its first token and
        all positions are found when they are known; the rows that were right are moved together
        then, as `KvCache.move_positions` would. `blocks` must have room for both steps."""
        ...

    def prepare_some(self, kv: KvCache) -> bool:
        """Makes ready one more thing that usual steps need; False once there is none. Steps do it
        themselves, and take longer then."""
        ...

    def argmax(self, n_rows: int) -> list[int]:
        """The likeliest token of each selected row of the last step."""
        ...

    def top_k(self, n_rows: int) -> tuple[Int32s, Floats]:
        """Ids and log-probabilities (R, k) of the last step's selected rows, likeliest first."""
        ...

    def likeliest(self, n_rows: int, k: int) -> tuple[Int32s, Floats]:
        """Ids and logits (R, k) of the best of each selected row of the last step, best first and
        the lowest id first among equals; all V of them where k is more. To be asked for before the
        next step."""
        ...

    def logits(self, n_rows: int, first: int = 0) -> Floats:
        """The selected rows' logits (R - first, V) from row `first` on, valid until the next
        step."""
        ...

    def collected(self, n_rows: int) -> Floats:
        """What the Program collects (T, width), valid until the next step."""
        ...

    def set_cancelled(self, is_cancelled: bool) -> None:
        """May be called from any thread; a running step ends within one op."""
        ...


class Backend(Protocol):
    """A device that models are loaded to.

    `name` says what computes, as users see it; whatever changes a number changes the name.
    """

    name: str
    n_threads: int  # of the host, where it is the host that computes
    prefill_rows: int  # of a step that reads a prompt
    # Drafts of a step until steps are measured, in the background; None: at once, when loading.
    tree_budget: int | None

    def identity(self) -> str:
        """All of the device and what runs on it that measured times depend on."""
        ...

    def prepare(self, model_bytes: int, n_ctx: int) -> None:
        """Hears how much the models take together and how far texts reach, before the first is
        made. Longer texts work, slower. Raises RequestError for more than can be."""
        ...

    def weight_bytes(self, programs: Sequence[Program]) -> int | None:
        """What their weights take on a device that keeps them in a form of its own; None where they
        are used as they are loaded."""
        ...

    def scratch_bytes(self, programs: Sequence[Program], n_ctx: int) -> int:
        """What steps of these Programs work in, beside their activations."""
        ...

    def is_native(self, type_id: int) -> bool:
        """Whether weights of this GGUF type are used as they are."""
        ...

    def block_bytes(self, layers: Sequence[KvLayer], kv_type: KvCacheType) -> int: ...
    def free_bytes(self) -> int | None:
        """Memory that models may still take; None if unknown."""
        ...

    def kv_cache(
        self, layers: Sequence[KvLayer], n_blocks: int, kv_type: KvCacheType = "f16"
    ) -> KvCache: ...
    def model(
        self,
        program: Program,
        weights: Mapping[str, Bytes],
        *,
        max_rows: int,
        max_out_rows: int,
        below: Model | None = None,
    ) -> Model:
        """Models of one backend never step at once; the new one may follow steps of `below`."""
        ...

    def attention_shares(
        self, queries: Floats, keys: Sequence[Halves], layer: int, scale: float
    ) -> Floats:
        """The share of attention that each key gets, summed over all `keys` to one (N,).

        queries (T, layers, H, D); keys (n, layers, K, D) each. The mean over rows and heads of the
        softmax over every key of every array, in their order. Query heads share keys in groups.
        """
        ...
