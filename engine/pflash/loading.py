"""The scorer of an engine: another model, or the first layers of its own."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import platformdirs

from engine import catalogue, weights
from engine.backends.backend import Backend
from engine.config import EngineConfig
from engine.fingerprint import fingerprint
from engine.gguf.reader import GgufFile
from engine.loading import build_program
from engine.models.blocks import Hyperparameters
from engine.pflash.key_store import KeyStore
from engine.pflash.pflash import PFlash
from engine.pflash.scorer import Scorer, probe_of
from engine.tokenizer import Tokenizer


def load_pflash(
    config: EngineConfig, file: GgufFile, tokenizer: Tokenizer, backend: Backend
) -> PFlash:
    """Raises what loading a model raises, if another one is to score."""
    path = file.path
    if config.scorer is None:
        scorer = _make_scorer(file, tokenizer, backend)
    else:
        directory = None if config.models_dir is None else Path(config.models_dir)
        path = catalogue.find(config.scorer, directory)
        with GgufFile(path) as other:
            scorer = _make_scorer(other, _same_or_own(other, tokenizer), backend)
    folder = Path(platformdirs.user_cache_dir("flash-lsp")) / "scorer"
    name = fingerprint(path, f"{scorer.name} {backend.name}")
    store = KeyStore(config.scorer_memory_bytes, folder / name, config.scorer_disk_bytes)
    return PFlash(scorer, tokenizer, store)


def _make_scorer(file: GgufFile, tokenizer: Tokenizer, backend: Backend) -> Scorer:
    shape = Hyperparameters.from_gguf(file)
    tensors = weights.of_gguf(file, backend.is_native)
    program = build_program(file, tensors, probe_of(shape.n_layer))
    build = partial(build_program, file, tensors)
    loaded = {weight.name: tensors.tensors[weight.name].load() for weight in program.weights_used()}
    name = f"{file.path.stem}[:{probe_of(shape.n_layer).layers[-1]}]"
    return Scorer(build, shape, tokenizer, loaded, backend=backend, name=name)


def _same_or_own(other: GgufFile, tokenizer: Tokenizer) -> Tokenizer:
    """The target's tokenizer where the other model has the same one: its counts hold for both."""
    own = Tokenizer.from_gguf(other)
    return tokenizer if _pieces(own) == _pieces(tokenizer) else own


def _pieces(tokenizer: Tokenizer) -> Sequence[bytes]:
    return [tokenizer.token_bytes(token) for token in range(tokenizer.n_vocab)]
