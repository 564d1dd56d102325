"""How many tokens a step would yield, along the target's own text: as a chain and with trees.

One simulated step stands at an anchor, drafts, accepts what agrees with the text, and goes on
behind the token the target adds. Counts are of tokens per step, the target's own among them.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.train.drafter import Blocks, Drafter
from engine.train.generate import Texts
from engine.train.target import Target

Figures = dict[str, dict[str, float]]  # rows of `Acceptance.row` by what was measured

TOP = 8  # drafts considered for each place
TREE_BUDGETS = (8, 16, 32)  # nodes without the root
_ANCHORS = 64  # drafted at a time
_MISS = TOP  # rank of a token that is not among the drafts


@dataclass(frozen=True)
class Drafts:
    """For each anchor of one text: ranks (N, L) of the true tokens among the drafts, _MISS where
    they are none, and log_probs (N, L, TOP) of the drafts."""

    ranks: npt.NDArray[np.int64]
    log_probs: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Acceptance:
    """Tokens per step, and how often the first drafted token was right."""

    n_texts: int
    first: float
    chain: float
    trees: dict[int, float]  # by budget

    def row(self) -> dict[str, float]:
        trees = {f"tree_{budget}": value for budget, value in self.trees.items()}
        return {"texts": self.n_texts, "first": self.first, "chain": self.chain, **trees}


@dataclass(frozen=True)
class Prepared:
    """Some texts with the target's features, which no drafter changes."""

    ids: Tensor  # (B, S)
    features: Tensor  # (B, S, n_taps * E)
    starts: list[int]
    ends: list[int]


@torch.no_grad()
def prepare(target: Target, texts: Texts, taps: Sequence[int], n_rows: int = 8) -> list[Prepared]:
    """In batches of `n_rows`, in order."""
    prepared: list[Prepared] = []
    for first in range(0, len(texts.ids), n_rows):
        rows = slice(first, first + n_rows)
        starts, ends = texts.starts[rows].tolist(), texts.ends[rows].tolist()
        ids = texts.ids[rows, : max(ends)].long()
        prepared.append(Prepared(ids, target.features(ids, taps), starts, ends))
    return prepared


@torch.no_grad()
def draft_texts(
    drafter: Drafter, target: Target, prepared: Prepared, vocabulary: Tensor, length: int
) -> list[Drafts | None]:
    """Drafts at every anchor that has a whole block of text after it; None for too short texts."""
    head = target.output[vocabulary]
    device = prepared.ids.device
    starts = torch.tensor(prepared.starts, device=device)
    last = torch.tensor(prepared.ends, device=device) - length  # anchors
    n_anchors = (last - starts + 1).clamp(min=0).tolist()
    ranks: list[npt.NDArray[np.int64]] = []
    log_probs: list[npt.NDArray[np.float32]] = []
    for first in range(0, max(n_anchors), _ANCHORS):
        offsets = torch.arange(first, first + _ANCHORS, device=device)
        anchors = torch.minimum(starts[:, None] + offsets, last[:, None]).clamp(min=0)
        part = _draft(drafter, target, prepared, anchors, length, head, vocabulary)
        ranks.append(part[0])
        log_probs.append(part[1])
    if not ranks:
        return [None] * len(n_anchors)
    all_ranks, all_log_probs = np.concatenate(ranks, 1), np.concatenate(log_probs, 1)
    return [
        Drafts(all_ranks[row, :n], all_log_probs[row, :n]) if n > length else None
        for row, n in enumerate(n_anchors)
    ]


def _draft(
    drafter: Drafter,
    target: Target,
    prepared: Prepared,
    anchors: Tensor,
    length: int,
    head: Tensor,
    vocabulary: Tensor,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Ranks (B, A, L) and log-probabilities (B, A, L, TOP) of blocks at anchors (B, A)."""
    ids, blocks = prepared.ids, Blocks(anchors, length)
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
        hidden = drafter(prepared.features, target.token_embd, ids, blocks)
    log_probs = (hidden[:, :, 1:].to(head.dtype) @ head.T).float().log_softmax(-1)
    best, index = log_probs.topk(TOP, dim=-1)
    after = anchors[..., None] + torch.arange(1, length, device=ids.device)
    true = ids.gather(1, after.flatten(1).clamp(max=ids.shape[1] - 1)).view_as(after)
    is_true = vocabulary[index] == true[..., None]  # (B, A, L, TOP)
    ranks = torch.where(is_true.any(-1), is_true.int().argmax(-1), _MISS)
    return ranks.cpu().numpy(), best.cpu().numpy()


def measure(drafts: Sequence[Drafts | None], budgets: Sequence[int] = TREE_BUDGETS) -> Acceptance:
    """Walk each text by steps and average tokens per step over texts."""
    usable = [d for d in drafts if d is not None]
    if not usable:
        return Acceptance(0, float("nan"), float("nan"), dict.fromkeys(budgets, float("nan")))
    chain = [_walk(d, None) for d in usable]
    trees = {budget: [_walk(d, budget) for d in usable] for budget in budgets}
    return Acceptance(
        len(usable),
        float(np.mean([(d.ranks[:, 0] == 0).mean() for d in usable])),
        float(np.mean(chain)),
        {budget: float(np.mean(values)) for budget, values in trees.items()},
    )


def _walk(drafts: Drafts, budget: int | None) -> float:
    """Tokens per step along one text; the greedy chain without a budget."""
    at = n_steps = 0
    n_anchors = len(drafts.ranks)
    while at < n_anchors:
        ranks = drafts.ranks[at]
        if budget is None:
            misses = np.flatnonzero(ranks)
            n_accepted = int(misses[0]) if len(misses) else len(ranks)
        else:
            n_accepted = accepted_by_tree(drafts.log_probs[at], ranks, budget)
        at += n_accepted + 1
        n_steps += 1
    return at / n_steps


def accepted_by_tree(
    log_probs: npt.NDArray[np.float32], ranks: npt.NDArray[np.int64], budget: int
) -> int:
    """How far the true tokens go in the best tree of `budget` nodes (SPEC.md B.5): log_probs
    (L, TOP), ranks (L,) of the true tokens, _MISS for none.

    Larger trees begin with the whole greedy chain, as the engine's do.
    """
    n_deep, n_wide = log_probs.shape
    true_ranks: list[int] = ranks.tolist()
    lp: list[list[float]] = log_probs.tolist()
    n_right = 0  # depth reached along the true path
    heap: list[tuple[float, int, int, bool]] = []  # (-score, depth, rank, parent is on the path)

    def push(score: float, depth: int, rank: int, is_on_path: bool) -> None:
        heapq.heappush(heap, (-score, depth, rank, is_on_path))

    n_nodes = 0
    if budget >= n_deep:
        score, is_on_path = 0.0, True
        for depth in range(n_deep):
            push(score + lp[depth][1], depth, 1, is_on_path)
            score += lp[depth][0]
            is_on_path = is_on_path and true_ranks[depth] == 0
            n_right += is_on_path
        n_nodes = n_deep
    else:
        push(lp[0][0], 0, 0, True)
    while heap and n_nodes < budget:
        negative, depth, rank, parent_on_path = heapq.heappop(heap)
        n_nodes += 1
        is_on_path = parent_on_path and true_ranks[depth] == rank
        n_right = max(n_right, depth + 1) if is_on_path else n_right
        if rank + 1 < n_wide:
            push(-negative - lp[depth][rank] + lp[depth][rank + 1], depth, rank + 1, parent_on_path)
        if depth + 1 < n_deep:
            push(-negative + lp[depth + 1][0], depth + 1, 0, is_on_path)
    return n_right
