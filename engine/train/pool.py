"""Generated texts to train on, by length, used about equally often."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.train.generate import Generator, Texts
from engine.train.prompts import Prompt, PromptMaker
from engine.train.target import Target


@dataclass(frozen=True)
class Bucket:
    """Texts of one padded length: prompts of n_min..n_max tokens continued by about n_new."""

    n_positions: int
    n_min: int
    n_max: int
    n_new: int
    generated_rows: int  # at a time
    trained_rows: int  # a step, on each worker
    share: float  # of generated batches and of steps


@dataclass(frozen=True)
class Batch:
    ids: Tensor  # (B, S) int64
    anchors: Tensor  # (B, A) int64, ascending
    is_anchor: Tensor  # (B, A): false where a text had too few places
    ends: Tensor  # (B,)


class TextPool:
    """All generated texts of one bucket, on the device."""

    def __init__(self, bucket: Bucket, min_new: int = 32) -> None:
        self.bucket, self._min_new = bucket, min_new
        self._texts: Texts | None = None
        self._n_used = torch.empty(0)

    def __len__(self) -> int:
        return 0 if self._texts is None else len(self._texts.ids)

    @property
    def texts(self) -> Texts:
        assert self._texts is not None
        return self._texts

    def add(self, texts: Texts) -> int:
        """Keep the texts that go on long enough; the number of their tokens."""
        n_new = texts.ends - texts.starts
        keep = n_new >= self._min_new
        n_missing = self.bucket.n_positions - texts.ids.shape[1]
        kept = replace(texts, ids=F.pad(texts.ids, (0, n_missing))).rows(keep)
        ids, old = kept.ids, self._texts
        self._texts = kept if old is None else old.joined(kept)
        self._n_used = torch.cat(
            (self._n_used.to(ids.device), torch.zeros(len(ids)).to(ids.device))
        )
        return int(n_new[keep].sum())

    def forget_uses(self) -> None:
        """Draw as if no text had been used yet."""
        self._n_used.zero_()

    def draw(self, n_anchors: int, draws: torch.Generator) -> Batch:
        """Rows used least come first, at random; anchors at random among each row's own places."""
        texts, n_rows = self.texts, self.bucket.trained_rows
        weights = (1 + self._n_used) ** -2
        rows = torch.multinomial(weights, n_rows, replacement=True, generator=draws)
        self._n_used[rows] += 1
        ids, starts, ends = texts.ids[rows].long(), texts.starts[rows], texts.ends[rows]
        positions = torch.arange(ids.shape[1], device=ids.device)
        may = (positions >= starts[:, None]) & (positions < ends[:, None] - 1)
        order = torch.rand(may.shape, device=ids.device, generator=draws) - 2.0 * ~may
        anchors = order.topk(n_anchors, dim=-1).indices.sort(-1).values
        return Batch(ids, anchors, may.gather(1, anchors), ends)


class TextSource:
    """Draws prompts of a bucket and lets the target continue them, a batch at a time."""

    _AHEAD = 8  # batches of prompts are sorted by length together, so that few rows wait

    def __init__(self, bucket: Bucket, target: Target, maker: PromptMaker, seed: int) -> None:
        self.bucket, self._target, self._maker = bucket, target, maker
        self._generator = Generator(target, bucket.generated_rows, bucket.n_positions)
        self._waiting: list[list[Prompt]] = []
        self._draws = torch.Generator(target.device).manual_seed(seed)
        self._order = torch.Generator().manual_seed(seed)

    def generate(self, temperature: float = 0.0) -> Texts:
        if not self._waiting:
            self._waiting = self._sorted_prompts()
        index = int(torch.randint(len(self._waiting), (1,), generator=self._order))
        return self.continue_prompts(self._waiting.pop(index), temperature)

    def continue_prompts(self, prompts: list[Prompt], temperature: float = 0.0) -> Texts:
        device, bucket = self._target.device, self.bucket
        lengths = torch.tensor([len(prompt.ids) for prompt in prompts])
        n_longest = int(lengths.max())
        ids = torch.zeros(len(prompts), n_longest, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt.ids)] = torch.from_numpy(prompt.ids)
        n_positions = min(bucket.n_positions, n_longest + bucket.n_new)
        kinds = torch.tensor([prompt.language * 16 + prompt.kind for prompt in prompts])
        return self._generator.generate(
            ids.to(device),
            lengths.to(device),
            kinds.to(device),
            n_positions,
            temperature,
            self._draws,
        )

    def _sorted_prompts(self) -> list[list[Prompt]]:
        bucket = self.bucket
        n = bucket.generated_rows
        prompts = self._maker.draw(n * self._AHEAD, bucket.n_min, bucket.n_max)
        prompts.sort(key=lambda prompt: len(prompt.ids))
        return [prompts[first : first + n] for first in range(0, len(prompts), n)]
