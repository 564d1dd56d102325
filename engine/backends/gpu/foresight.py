"""Whether to begin a step before it is asked for.

A text is decoded token by token by steps of one row, each with the token that the step before found
likeliest. The device can go on by itself, then, while the host still looks at what was decided.
Holds no device.
"""

from dataclasses import dataclass

import numpy as np

from engine.backends.backend import KV_BLOCK_TOKENS, Int32s, KvCache

# Steps in a row that were as expected before another is begun early; four times as many after one
# that was not, so that sampled text soon is left alone, and as few again after so many that were.
_LEAST_STREAK, _MOST_STREAK, _FORGIVING_STREAK = 2, 1024, 64


@dataclass(slots=True, eq=False)
class Asked:
    """The arguments of `Model.step`. `blocks` may change later: it is a copy."""

    kv: KvCache
    tokens: Int32s
    parents: Int32s
    blocks: Int32s
    n_past: int
    out_rows: Int32s

    @property
    def is_single(self) -> bool:
        return len(self.tokens) == 1 and len(self.out_rows) == 1

    def follows(self, before: "Asked", token: int) -> bool:
        """Whether this is the step after `before`, with the token that was chosen there."""
        n_blocks = self.n_past // KV_BLOCK_TOKENS + 1
        return (
            self.is_single
            and before.is_single
            and self.kv is before.kv
            and self.n_past == before.n_past + 1
            and self.tokens[0] == token
            and np.array_equal(self.blocks[:n_blocks], before.blocks[:n_blocks])
        )


class Foresight:
    def __init__(self) -> None:
        self._asked: Asked | None = None
        self._chosen: int | None = None
        self._streak, self._wanted = 0, _LEAST_STREAK
        self._is_begun = False

    def choose(self, token: int) -> None:
        """The likeliest token of the step asked for last."""
        self._chosen = token

    def is_met(self, asked: Asked, *, is_untouched: bool = True) -> bool:
        """Whether `asked` is the step that was begun early, if one was, and what it read and wrote
        `is_untouched` since: a drafter works in the same blocks, and others may get them."""
        before, chosen = self._asked, self._chosen
        is_next = before is not None and chosen is not None and asked.follows(before, chosen)
        was_begun, self._is_begun = self._is_begun, False
        is_next = is_next and (is_untouched or not was_begun)
        if was_begun and not is_next:
            self._wanted = min(4 * self._wanted, _MOST_STREAK)
        self._streak = self._streak + 1 if is_next else 0
        if self._streak >= max(_FORGIVING_STREAK, self._wanted):
            self._wanted = _LEAST_STREAK
        self._asked, self._chosen = asked, None
        return was_begun and is_next

    def begins(self) -> bool:
        """Whether the step after the one asked for is to be begun: not where it has no KV block
        yet, for any other may be anybody's."""
        assert self._asked is not None
        has_room = self._asked.n_past + 1 < KV_BLOCK_TOKENS * len(self._asked.blocks)
        self._is_begun = has_room and self._streak >= self._wanted
        return self._is_begun

    def give_up(self) -> Asked | None:
        """The step asked for last, if one was begun after it: it must be done again where more of
        its results is wanted than what was chosen. Soon more may be wanted again, as of every step
        of a sampled text."""
        self._streak = 0
        if not self._is_begun:
            return None
        self._is_begun = False
        self._wanted = min(4 * self._wanted, _MOST_STREAK)
        return self._asked
