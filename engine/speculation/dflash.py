"""DFlashDrafter: drafts a block of tokens in one pass (SPEC A)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Model
from engine.session import Session
from engine.speculation.draft import BlockDraft
from engine.speculation.drafter_spec import DrafterFile


@dataclass(frozen=True, eq=False)
class DFlashDrafter:
    """The drafter of the file at `path`; its context lies in the sessions' KV blocks
    (models/dflash.py).

    `vocabulary` (V') names the target's id of each of the head's rows; None: they are the ids.
    """

    path: Path
    model: Model
    block_rows: int
    mask_token: int
    vocabulary: NDArray[np.int32] | None

    @classmethod
    def of_file(cls, file: DrafterFile, model: Model) -> "DFlashDrafter":
        spec = file.spec
        return cls(file.path, model, spec.block_size, spec.mask_token, spec.vocabulary)

    @property
    def is_concurrent(self) -> bool:
        return self.model.is_concurrent

    def begin(self, session: Session, last_token: int, n_rows: int) -> Callable[[], BlockDraft]:
        """Drafts n_rows - 1 tokens after the committed ones and `last_token`, which are there when
        what comes back returns them.

        Raises StepCancelled, or ContextOverflowError where the block does not fit; the session is
        left as it was.
        """
        tokens = [last_token] + [self.mask_token] * (n_rows - 1)
        session.run_block(self.model, tokens, range(1, n_rows))
        return partial(self._read, n_rows - 1)

    def begin_below(self, session: Session, n_rows: int) -> Callable[[], BlockDraft] | None:
        if not self.model.can_follow:
            return None
        tokens = [self.mask_token] * n_rows  # the first is found on the way
        is_begun = session.draft_below(self.model, tokens, range(1, n_rows))
        return partial(self._read, n_rows - 1) if is_begun else None

    def _read(self, n_depths: int) -> BlockDraft:
        ids, log_probs = self.model.top_k(n_depths)
        return BlockDraft(ids if self.vocabulary is None else self.vocabulary[ids], log_probs)

    def set_cancelled(self, is_cancelled: bool) -> None:
        """May be called from any thread; a running block ends within one op."""
        self.model.set_cancelled(is_cancelled)
