"""What is assumed of a GPU by its architecture, until it has been measured (engine/calibration.py).

Tree budgets are what was published for these architectures (SPEC B.8); shapes of tiles are chosen
by registers (benchmarks/budgets) and are not measured at run time.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """`tree_budget` drafts a step at most; `prefill_rows` of a step that reads a prompt; tiles of
    16 rows that one pass over a matrix serves, and over a tall one (linear_shape.py);
    `staged_bytes` of weights at most that a block copies to shared memory ahead, where a device
    can; whether matrices of many blocks have kernels of their own, of which more fit at once;
    `cluster` blocks that show each other their shared memory, 0 where none can, and `cluster_bytes`
    of weights of one of them at most, for few blocks multiply then."""

    tree_budget: int
    prefill_rows: int = 512
    linear_tiles: int = 4
    tall_linear_tiles: int = 2
    staged_bytes: int = 0
    has_wide_linears: bool = False
    cluster: int = 0
    cluster_bytes: int = 0

    @property
    def copies_ahead(self) -> bool:
        """Whether copies to shared memory run beside the work (platform.h: kCopiesAhead)."""
        return self.staged_bytes > 0


# By the beginning of an architecture's name; the longest one counts.
TABLE = {
    "": Defaults(tree_budget=16),
    "host-quads": Defaults(
        tree_budget=16,
        staged_bytes=16 * 1024,
        has_wide_linears=True,
        cluster=2,
        cluster_bytes=64 * 1024,
    ),
    "gfx110": Defaults(tree_budget=8),
    "gfx115": Defaults(tree_budget=22),
    "gfx120": Defaults(tree_budget=22),
    "sm_": Defaults(tree_budget=22, staged_bytes=72 * 1024),
    "sm_9": Defaults(
        tree_budget=31,
        prefill_rows=2048,
        staged_bytes=160 * 1024,
        has_wide_linears=True,
        cluster=8,
        cluster_bytes=32 * 1024,
    ),
}


def defaults_of(arch: str) -> Defaults:
    return TABLE[max((name for name in TABLE if arch.startswith(name)), key=len)]
