"""Tiny models, loaded and ready: what tests of sessions and invariance run on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.config import EngineConfig, KvCacheType
from engine.gguf.reader import GgufFile
from engine.kv_blocks import BlockPool
from engine.loading import LoadedModel, load_model
from engine.session import Session
from tests.tiny_gguf import write_tiny_gguf

N_VOCAB = 300  # every tiny vocabulary has at least this many ids


@dataclass
class TinyModel:
    """A loaded tiny model and the pool that its sessions share."""

    loaded: LoadedModel
    pool: BlockPool

    def session(self) -> Session:
        return Session(self.loaded.model, self.loaded.kv, self.pool, self.loaded.n_ctx)

    def logits(self, tokens: list[int]) -> np.ndarray:
        """Logits after every token (T, V), one token per step: plain decoding."""
        session = self.session()
        rows = [session.append([token]).logits[0].copy() for token in tokens]
        session.release()
        return np.stack(rows)


def load_tiny(
    folder: Path,
    architecture: str = "qwen2",
    quant: str = "Q8_0",
    *,
    n_threads: int = 1,
    n_ctx: int = 512,
    kv_type: KvCacheType = "f16",
    **options: object,
) -> TinyModel:
    name = f"{architecture}-{quant}-{'-'.join(map(str, options.values()))}.gguf"
    path = write_tiny_gguf(folder / name, architecture, quant, n_ctx=n_ctx, **options)  # type: ignore[arg-type]
    config = EngineConfig(
        model=str(path), n_threads=n_threads, prefix_cache_bytes=2**20, kv_type=kv_type
    )
    with GgufFile(path) as file:
        loaded = load_model(file, config)
    return TinyModel(loaded, BlockPool(loaded.n_blocks))


def random_tokens(n: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, N_VOCAB, n).tolist()
