"""A toy target, corpus and trainer: everything the real ones have, in a second on a CPU."""

from pathlib import Path

import numpy as np
import torch

from engine.train.corpus import Corpus
from engine.train.drafter import DrafterConfig
from engine.train.loop import TrainConfig, Trainer
from engine.train.pool import Bucket
from engine.train.prompts import PromptMaker, Templates
from engine.train.sources import LANGUAGES
from engine.train.target import Target, load_target
from engine.train.workers import Workers
from tests.tiny_gguf import tiny_vocabulary, write_tiny_gguf

N_IDS = 250
BUCKET = Bucket(96, 24, 40, 48, generated_rows=8, trained_rows=4, share=1.0)
CPU = torch.device("cpu")

torch.set_num_threads(1)  # threads that wait for each other take longer than such small work


def toy_target(folder: Path, architecture: str = "qwen2", quant: str = "F32") -> Target:
    path = write_tiny_gguf(folder / f"{architecture}-{quant}.gguf", architecture, quant, n_layers=6)
    return load_target(path, CPU, torch.float32)


def toy_corpus() -> Corpus:
    """Counting sequences, the last two documents held out."""
    documents = [np.arange(i, i + 200, dtype=np.int32) % N_IDS for i in range(12)]
    return Corpus(
        ids=np.concatenate(documents),
        starts=np.arange(13, dtype=np.int64) * 200,
        languages=np.arange(12, dtype=np.uint8) % 2,
        held_out=np.arange(12) >= 10,
        stems=np.array([(0, 60), (3, 80), (11, 90)], np.int32),
        language_names=tuple(LANGUAGES),
    )


def toy_templates() -> Templates:
    pair = (np.array([1, 2], np.int32), np.array([3], np.int32))
    fim = tuple(
        tiny_vocabulary().id_of(f"<|fim_{part}|>") for part in ("prefix", "suffix", "middle")
    )
    mask = tiny_vocabulary().id_of("<|repo_name|>")
    return Templates(mask, (fim[0], fim[1], fim[2]), tuple((pair,) for _ in LANGUAGES))


def toy_drafter_config(target: Target) -> DrafterConfig:
    h = target.h
    return DrafterConfig(
        n_layer=1,
        n_embd=h.n_embd,
        n_ff=64,
        n_head=h.n_head,
        n_kv=h.n_kv,
        head_dim=h.head_dim,
        rope_theta=h.rope_theta,
        rms_eps=h.rms_eps,
        taps=(1, 3),
        mask_id=toy_templates().mask_id,
    )


def toy_trainer(target: Target, seconds: float = 1e6) -> Trainer:
    config = TrainConfig(
        seconds=seconds,
        buckets=(BUCKET,),
        n_rows=48,
        learning_rate=3e-3,
        warm_up_steps=5,
        first_batches=2,
        generation_share=0.0,
        sampled_share=0.0,
        n_vocabulary=64,
        is_compiled=False,
    )
    maker = PromptMaker(toy_corpus(), toy_templates(), seed=1)
    workers = Workers(0, 1, CPU)
    trainer = Trainer(config, toy_drafter_config(target), target, maker, workers)
    trainer.generate_first(lambda row: None)
    trainer.choose_vocabulary(torch.zeros(target.h.n_vocab))
    return trainer
