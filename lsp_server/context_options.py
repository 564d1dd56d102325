"""How the repository's part of a prompt is chosen: what a user may say about it."""

from typing import Literal, TypeAlias

import msgspec

PflashMode: TypeAlias = Literal["off", "auto", "always"]


class ContextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to choose; patterns are those of .gitignore."""

    mode: PflashMode = "auto"
    budget_tokens: int = 1024
    keep_ratio: float = 0.3
    pinned: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()
    max_prefix_chars: int = 2048
    max_suffix_chars: int = 512
