"""The training loop: generates text and trains on it by turns until its time is over."""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.train.drafter import Blocks, Drafter, DrafterConfig
from engine.train.loss import IGNORED, HeadLoss, position_weights
from engine.train.muon import Muon
from engine.train.pool import Batch, Bucket, TextPool, TextSource
from engine.train.prompts import PromptMaker
from engine.train.quantize import pretend_stored
from engine.train.target import Target
from engine.train.workers import Workers


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run. Rows of a step are blocks of one length, always n_rows."""

    seconds: float
    buckets: tuple[Bucket, ...]
    n_rows: int = 768  # of blocks for each text
    block_lengths: tuple[int, ...] = (8, 12, 16)
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    warm_up_steps: int = 200
    clip: float = 1.0
    generation_share: float = 0.25  # of the time
    generation_until: float = 0.8  # of the run
    first_batches: int = 8
    sampled_share: float = 0.25
    sampling_temperature: float = 0.7
    quantized_from: float = 0.82  # of the run
    ema: float = 0.999
    n_vocabulary: int = 32768
    seed: int = 0
    is_compiled: bool = True


@dataclass
class Progress:
    """What has been done; what a checkpoint keeps."""

    step: int = 0
    seconds: float = 0.0
    generation_seconds: float = 0.0
    n_texts: int = 0
    n_tokens: int = 0
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


OnReport = Callable[[dict[str, float]], None]
Evaluate = Callable[[Drafter, Tensor], dict[str, float]]


class Trainer:
    """One run; `train` may be called again after `load` to go on where a checkpoint was."""

    def __init__(
        self,
        config: TrainConfig,
        drafter_config: DrafterConfig,
        target: Target,
        maker: PromptMaker,
        workers: Workers,
    ) -> None:
        self.config, self.target, self.workers = config, target, workers
        device = workers.device
        torch.manual_seed(config.seed)
        self.drafter = Drafter(drafter_config).to(device)
        self.average = [p.detach().clone() for p in self.drafter.parameters()]
        self.optimizers = _optimizers(self.drafter, config)
        self.progress = Progress()
        seed = config.seed * 1000 + workers.rank
        self._sources = [TextSource(b, target, maker, seed) for b in config.buckets]
        self.pools = [TextPool(bucket) for bucket in config.buckets]
        self._draws = torch.Generator(device).manual_seed(seed)
        self._choices = torch.Generator().manual_seed(config.seed)  # the same on all workers
        self.vocabulary = torch.empty(0, dtype=torch.int64, device=device)
        self._place = torch.empty(0, dtype=torch.int64, device=device)
        self._loss: HeadLoss | None = None
        if config.is_compiled:
            target.compile()
            self.drafter.compile_layers()

    def choose_vocabulary(self, counts: Tensor) -> None:
        """Drafts are of the tokens most frequent in `counts` (V,) and in the texts so far."""
        counts = counts.to(self.workers.device, torch.float64)
        for pool in self.pools:
            texts = pool.texts
            positions = torch.arange(texts.ids.shape[1], device=counts.device)
            is_new = (positions >= texts.starts[:, None]) & (positions < texts.ends[:, None])
            ids = texts.ids[is_new].long()
            counts += 16 * torch.bincount(ids, minlength=len(counts))
        self.workers.sum_(counts)
        counts[list(self.target.end_ids)] = counts.sum()
        n = min(self.config.n_vocabulary, len(counts))
        self.use_vocabulary(counts.topk(n).indices.sort().values)

    def use_vocabulary(self, vocabulary: Tensor) -> None:
        self.vocabulary = vocabulary
        n_vocab = self.target.h.n_vocab
        self._place = torch.full((n_vocab,), IGNORED, device=vocabulary.device)
        self._place[vocabulary] = torch.arange(len(vocabulary), device=vocabulary.device)
        head = self.target.output[vocabulary].contiguous()
        self._loss = HeadLoss(head, is_compiled=self.config.is_compiled)

    def generate_first(self, report: OnReport) -> None:
        """Texts to begin with: `first_batches` by share, at least one of each bucket."""
        for index, bucket in enumerate(self.config.buckets):
            for _ in range(max(1, round(self.config.first_batches * bucket.share))):
                report(self.generate(index))

    def generate(self, index: int) -> dict[str, float]:
        """One more batch of a bucket."""
        started = time.monotonic()
        is_sampled = float(torch.rand(1, generator=self._choices)) < self.config.sampled_share
        temperature = self.config.sampling_temperature if is_sampled else 0.0
        texts = self._sources[index].generate(temperature)
        before = len(self.pools[index])
        n_tokens = self.pools[index].add(texts)
        seconds = time.monotonic() - started
        n_all = int((texts.ids.shape[1] - texts.starts).sum())
        self.progress.generation_seconds += seconds
        self.progress.n_texts += (len(self.pools[index]) - before) * self.workers.n
        self.progress.n_tokens += n_tokens * self.workers.n
        return {
            "generated": n_tokens,
            "kept": n_tokens / n_all,
            "tokens_per_s": n_all / seconds,
            "temperature": temperature,
            "bucket": self.config.buckets[index].n_positions,
        }

    def train(
        self,
        report: OnReport,
        evaluate: Evaluate | None = None,
        evaluate_every: float = 1e9,
        checkpoint: Path | None = None,
        until: float = 1e9,
        max_steps: int = 1 << 60,
    ) -> None:
        """Train until the run's seconds, `until` or `max_steps` are over."""
        c, p = self.config, self.progress
        began = time.monotonic() - p.seconds
        next_evaluation = (p.seconds // evaluate_every + 1) * evaluate_every
        fraction, losses = p.seconds / c.seconds, []
        while p.step < max_steps:
            if p.step % 10 == 0:
                p.seconds = time.monotonic() - began
                wants = self._wants_text(p.seconds, p.generation_seconds)
                fraction, wants, is_over, is_due = self.workers.from_first(
                    [
                        p.seconds / c.seconds,
                        float(wants),
                        float(p.seconds >= min(c.seconds, until)),
                        float(p.seconds >= next_evaluation),
                    ]
                )
                if is_over:
                    break
                if wants and fraction < c.generation_until:
                    report(self.generate(self._choose_bucket()))
                if is_due:
                    next_evaluation += evaluate_every
                    if self.workers.is_first:
                        if evaluate:
                            report(self.evaluate(evaluate))
                        if checkpoint:
                            self.save(checkpoint)
            losses.append(self.step(fraction))
            if p.step % 50 == 0:
                row = {"step": p.step, "seconds": p.seconds, "loss": _mean(losses)}
                row |= {"rate": self.rate(fraction), "texts": p.n_texts, "tokens": p.n_tokens}
                losses = []
                p.history.append(row)
                report(row)
        p.seconds = time.monotonic() - began
        if checkpoint and self.workers.is_first:
            self.save(checkpoint)

    def evaluate(self, evaluate: Evaluate) -> dict[str, float]:
        """Measure the averaged weights as they would be stored at this time of the run."""
        own = [p.detach().clone() for p in self.drafter.parameters()]
        _copy(self.drafter, self.average)
        row = {"step": self.progress.step, "seconds": self.progress.seconds}
        is_stored = pretend_stored(self.drafter) if self._is_quantized() else nullcontext()
        with is_stored, torch.compiler.set_stance("force_eager"):
            row |= evaluate(self.drafter, self.vocabulary)
        _copy(self.drafter, own)
        self.progress.history.append(row)
        return row

    def step(self, fraction: float) -> Tensor:
        """One optimizer step; the loss, not yet waited for."""
        c = self.config
        length = self._choose(c.block_lengths)
        pool = self.pools[self._choose_bucket()]
        batch = pool.draw(c.n_rows // length, self._draws)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate(fraction)
        with pretend_stored(self.drafter) if fraction >= c.quantized_from else nullcontext():
            loss = self.loss(batch, length)
            loss.backward()
        gradients = [p.grad for p in self.drafter.parameters() if p.grad is not None]
        self.workers.average_(gradients)
        torch.nn.utils.clip_grad_norm_(self.drafter.parameters(), c.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        decay = min(c.ema, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(
            self.average, [p.detach() for p in self.drafter.parameters()], 1 - decay
        )
        return loss.detach()

    def loss(self, batch: Batch, length: int) -> Tensor:
        """The weighted mean cross entropy of a batch's blocks of `length` rows."""
        assert self._loss is not None, "choose a vocabulary first"
        device_type = batch.ids.device.type
        features = self.target.features(batch.ids, self.drafter.c.taps)
        blocks = Blocks(batch.anchors, length)
        with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
            embd = self.target.token_embd
            hidden = self.drafter(features, embd, batch.ids, blocks)
        after = batch.anchors[..., None] + torch.arange(length, device=batch.ids.device)
        is_known = batch.is_anchor[..., None] & (after < batch.ends[:, None, None])
        last = batch.ids.shape[1] - 1
        true = batch.ids.gather(1, after.flatten(1).clamp(max=last)).view_as(after)
        labels = torch.where(is_known, self._place[true], IGNORED)
        weights = position_weights(length, batch.ids.device).expand_as(labels)
        return self._loss(hidden.flatten(0, 2), labels.flatten(), weights.flatten())

    def rate(self, fraction: float) -> float:
        """Warm-up by steps, then a cosine over the run's time."""
        warm_up = min(1.0, (self.progress.step + 1) / self.config.warm_up_steps)
        return (
            self.config.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * min(1, fraction)))
        )

    def save(self, path: Path) -> None:
        state = {
            "config": asdict(self.drafter.c),
            "drafter": self.drafter.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
            "vocabulary": self.vocabulary,
            "draws": self._draws.get_state(),
            "choices": self._choices.get_state(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Take over a checkpoint's state; texts are generated anew."""
        state: dict[str, Any] = torch.load(path, map_location=self.workers.device)
        self.drafter.load_state_dict(state["drafter"])
        self.average = list(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.progress = Progress(**state["progress"])
        self.use_vocabulary(state["vocabulary"])
        self._draws.set_state(state["draws"].cpu())
        self._choices.set_state(state["choices"].cpu())

    def use_average(self) -> None:
        """End with the averaged weights."""
        _copy(self.drafter, self.average)

    def _is_quantized(self) -> bool:
        return self.progress.seconds / self.config.seconds >= self.config.quantized_from

    def _wants_text(self, seconds: float, generation_seconds: float) -> bool:
        return generation_seconds < self.config.generation_share * seconds

    def _choose(self, values: Sequence[int]) -> int:
        return values[int(torch.randint(len(values), (1,), generator=self._choices))]

    def _choose_bucket(self) -> int:
        shares = torch.tensor([bucket.share for bucket in self.config.buckets])
        return int(torch.multinomial(shares, 1, generator=self._choices))


def _optimizers(drafter: Drafter, c: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for the norms."""
    norms = [p for p in drafter.parameters() if p.ndim < 2]
    return [
        Muon(drafter.matrices(), lr=c.learning_rate, weight_decay=c.weight_decay),
        torch.optim.AdamW(norms, lr=c.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _copy(drafter: Drafter, values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(drafter.parameters(), values, strict=True):
            parameter.copy_(value)


def _mean(losses: Sequence[Tensor]) -> float:
    return float(torch.stack(list(losses)).mean())


def write_history(path: Path, progress: Progress) -> None:
    path.write_text(json.dumps(asdict(progress), indent=1) + "\n")
