"""One training run from a prepared folder to a drafter's file, its figures and its plot."""

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from engine.train.card import PackageRow, write_card
from engine.train.corpus import Corpus
from engine.train.drafter import Drafter, DrafterConfig, default_taps
from engine.train.evaluate import Drafts, Figures, Prepared, draft_texts, measure, prepare
from engine.train.export import write_drafter
from engine.train.loop import TrainConfig, Trainer, write_history
from engine.train.plot import plot_history
from engine.train.pool import Bucket, TextSource
from engine.train.prompts import KINDS, Prompt, PromptMaker, Templates
from engine.train.quantize import pretend_stored
from engine.train.target import Target, load_target
from engine.train.workers import Workers

STORED = {
    "f16": GGMLQuantizationType.F16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q5_0": GGMLQuantizationType.Q5_0,
    "q4_0": GGMLQuantizationType.Q4_0,
}
FULL_SIZE = (
    Bucket(512, 48, 256, 256, generated_rows=1024, trained_rows=32, share=0.7),
    Bucket(768, 256, 512, 256, generated_rows=768, trained_rows=20, share=0.2),
    Bucket(2048, 768, 1792, 256, generated_rows=192, trained_rows=8, share=0.1),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where things lie and how large the run is; `folder` holds corpus.npz and templates.npz."""

    model: Path
    folder: Path
    out: Path
    seconds: float
    name: str
    n_layer: int = 4
    n_ff: int = 2048
    buckets: tuple[Bucket, ...] = FULL_SIZE
    texts_per_language: int = 24
    evaluate_every: float = 150.0
    is_compiled: bool = True
    learning_rate: float = 1.5e-3
    first_batches: int = 8
    n_vocabulary: int = 32768
    n_rows: int = 768
    resume: bool = False


Say = Callable[[str, dict[str, float]], None]


def run(o: Options, say: Say) -> None:
    """Train, evaluate, export. Every worker calls this; the first one writes files."""
    workers = Workers.join()
    try:
        _run(o, say if workers.is_first else _silent, workers)
    finally:
        workers.leave()


def _silent(what: str, row: dict[str, float]) -> None:
    pass


def _run(o: Options, say: Say, workers: Workers) -> None:
    started = time.monotonic()
    o.out.mkdir(parents=True, exist_ok=True)
    corpus = Corpus.load(o.folder / "corpus.npz")
    with np.load(o.folder / "templates.npz") as file:
        templates = Templates.from_arrays(dict(file), len(corpus.language_names))
    dtype = torch.bfloat16 if workers.device.type == "cuda" else torch.float32
    target = load_target(o.model, workers.device, dtype)
    say("loaded", {"seconds": time.monotonic() - started})
    maker = PromptMaker(corpus, templates, seed=1 + workers.rank)
    trainer = Trainer(
        _train_config(o), _drafter_config(o, target, templates.mask_id), target, maker, workers
    )
    wants_figures = workers.is_first and o.texts_per_language > 0
    held_out = HeldOut(corpus, templates, target, o) if wants_figures else None
    say("held-out texts", {"seconds": time.monotonic() - started})

    checkpoint = o.out / "checkpoint.pt"
    trainer.generate_first(lambda row: say("text", row))
    if o.resume and checkpoint.exists():
        trainer.load(checkpoint)
    else:
        counts = torch.from_numpy(np.bincount(corpus.ids, minlength=target.h.n_vocab))
        trainer.choose_vocabulary(counts)
    evaluate = held_out.quick if held_out else None
    trainer.train(lambda row: say("train", row), evaluate, o.evaluate_every, checkpoint)
    if workers.is_first:
        trainer.use_average()
        _finish(o, trainer, held_out, say)


def _finish(o: Options, trainer: Trainer, held_out: "HeldOut | None", say: Say) -> None:
    """Files first, figures after: a run cut short has the drafter."""
    for kind in ("q4_0", "f16"):
        export(o.out / f"drafter.{kind}.gguf", trainer, o, kind)
    write_history(o.out / "history.json", trainer.progress)
    plot_history(trainer.progress.history, o.out / "history.png")
    say("drafter written", {})
    if held_out is None:
        return
    figures = held_out.thorough(trainer.drafter, trainer.vocabulary, say)
    progress = {k: v for k, v in asdict(trainer.progress).items() if k != "history"}
    ran = _machine() | progress
    report = {"run": ran, "acceptance": figures}
    (o.out / "figures.json").write_text(json.dumps(report, indent=1) + "\n")
    listed = o.folder / "packages.json"
    rows = json.loads(listed.read_text()) if listed.exists() else []
    packages = [PackageRow(**row) for row in rows]
    (o.out / "card.md").write_text(write_card(o.name, ran, figures, packages))


def export(path: Path, trainer: Trainer, o: Options, kind: str) -> None:
    write_drafter(
        path,
        trainer.drafter,
        STORED[kind],
        trainer.vocabulary,
        n_vocab=trainer.target.h.n_vocab,
        context_length=max(bucket.n_positions for bucket in o.buckets),
        name=o.name,
    )


def _drafter_config(o: Options, target: Target, mask_id: int) -> DrafterConfig:
    h = target.h
    return DrafterConfig(
        n_layer=o.n_layer,
        n_embd=h.n_embd,
        n_ff=o.n_ff,
        n_head=h.n_head,
        n_kv=h.n_kv,
        head_dim=h.head_dim,
        rope_theta=h.rope_theta,
        rms_eps=h.rms_eps,
        taps=default_taps(h.n_layer),
        mask_id=mask_id,
    )


def _train_config(o: Options) -> TrainConfig:
    return TrainConfig(
        seconds=o.seconds,
        buckets=o.buckets,
        n_rows=o.n_rows,
        learning_rate=o.learning_rate,
        first_batches=o.first_batches,
        n_vocabulary=o.n_vocabulary,
        is_compiled=o.is_compiled,
    )


class HeldOut:
    """The target's greedy texts for prompts from packages never trained on, loops left out."""

    def __init__(self, corpus: Corpus, templates: Templates, target: Target, o: Options) -> None:
        self._target = target
        prompts: list[Prompt] = []
        bucket = o.buckets[min(1, len(o.buckets) - 1)]
        n_max = min(384, bucket.n_max)
        maker = PromptMaker(corpus, templates, 77, held_out=True)
        for language in range(len(corpus.language_names)):
            try:
                seed = 77 + language
                maker = PromptMaker(corpus, templates, seed, held_out=True, language=language)
            except ValueError:
                continue  # nothing held out in this language
            prompts += maker.draw(o.texts_per_language, min(48, n_max), n_max)
        prompts.sort(key=lambda prompt: len(prompt.ids))
        n_rows = len(prompts)
        bucket = Bucket(bucket.n_positions, 24, n_max, bucket.n_new, n_rows, 1, 1.0)
        texts = TextSource(bucket, target, maker, seed=77).continue_prompts(prompts)
        texts = texts.rows(~texts.loops)
        taps = default_taps(target.h.n_layer)
        with torch.compiler.set_stance("force_eager"):
            self._prepared = prepare(target, texts, taps)
        self._languages = [corpus.language_names[kind // 16] for kind in texts.kinds.tolist()]
        self._kinds = [KINDS[kind % 16] for kind in texts.kinds.tolist()]

    def quick(self, drafter: Drafter, vocabulary: Tensor) -> dict[str, float]:
        """Some of the texts, one block length, one tree."""
        prepared = self._prepared[:: max(1, len(self._prepared) // 6)]
        return measure(self._draft(drafter, vocabulary, 16, prepared), budgets=(16,)).row()

    def thorough(self, drafter: Drafter, vocabulary: Tensor, say: Say) -> Figures:
        """By language, kind of prompt, block length and stored type."""
        figures: Figures = {}
        for name, kind in STORED.items():
            with pretend_stored(drafter, kind), torch.compiler.set_stance("force_eager"):
                drafts = self._draft(drafter, vocabulary, 16, self._prepared)
                figures[f"as {name}"] = measure(drafts).row()
                say(name, figures[f"as {name}"])
        # The last is the type that is shipped; its drafts tell of languages and kinds.
        for group, labels in (("language", self._languages), ("prompt", self._kinds)):
            for label in sorted(set(labels)):
                some = [d for d, other in zip(drafts, labels, strict=True) if other == label]
                figures[f"{group} {label}"] = measure(some).row()
                say(label, figures[f"{group} {label}"])
        for length in (8, 12):
            with pretend_stored(drafter), torch.compiler.set_stance("force_eager"):
                shorter = self._draft(drafter, vocabulary, length, self._prepared)
            figures[f"block {length}"] = measure(shorter).row()
            say(f"block {length}", figures[f"block {length}"])
        return figures

    def _draft(
        self, drafter: Drafter, vocabulary: Tensor, length: int, prepared: Sequence[Prepared]
    ) -> list[Drafts | None]:
        return [
            drafts
            for some in prepared
            for drafts in draft_texts(drafter, self._target, some, vocabulary, length)
        ]


def _machine() -> dict[str, float | str]:
    has_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if has_gpu else platform.processor(),
        "devices": torch.cuda.device_count() if has_gpu else 1,
        "torch": torch.__version__,
    }
