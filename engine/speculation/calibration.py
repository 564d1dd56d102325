"""How often a block's candidates are right, against how sure its drafter was of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.speculation.draft import BlockDraft

# Candidates are pooled by the probability their drafter gave them.
_POOL_ENDS = np.log(np.array([0.01, 0.03, 0.08, 0.18, 0.35, 0.55, 0.75, 0.9, 0.97], np.float32))
_N_POOLS = len(_POOL_ENDS) + 1
_TRUSTED = 8.0  # expected hits before what was seen outweighs what was claimed
_MEMORY = 400.0  # expected hits after which older ones fade
_LEAST_LOG_RATIO, _MOST_LOG_PROB = -4.0, float(np.log(0.995))


class BlockCalibration:
    """Corrects a drafter's probabilities by what became of its earlier drafts."""

    def __init__(self) -> None:
        self._claimed = np.full(_N_POOLS, _TRUSTED)
        self._right = np.full(_N_POOLS, _TRUSTED)
        self._log_ratios = np.zeros(_N_POOLS, np.float32)

    def corrected(self, draft: BlockDraft) -> BlockDraft:
        log_probs = draft.log_probs + self._log_ratios[_pools(draft.log_probs)]
        return BlockDraft(draft.ids, np.minimum(log_probs, _MOST_LOG_PROB))

    def observe(self, draft: BlockDraft, decided: Sequence[int]) -> int:
        """Learns from the tokens that followed the root; returns how many depths could be judged.

        A depth is judged while all tokens above it were among the block's candidates: below
        others, the block predicted something else.
        """
        n_judged = 0
        for ids, log_probs, token in zip(draft.ids, draft.log_probs, decided, strict=False):
            n_judged += 1
            pools = _pools(log_probs)
            np.add.at(self._claimed, pools, np.exp(log_probs))
            ranks = np.flatnonzero(ids == token)
            if not len(ranks):
                break
            self._right[pools[ranks[0]]] += 1
        for pool in np.flatnonzero(self._claimed > _MEMORY):
            fade = _MEMORY / self._claimed[pool]
            self._claimed[pool] *= fade
            self._right[pool] *= fade
        log_ratios = np.log(self._right / self._claimed)
        self._log_ratios = np.maximum(log_ratios, _LEAST_LOG_RATIO).astype(np.float32)
        return n_judged


def _pools(log_probs: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.searchsorted(_POOL_ENDS, log_probs)
