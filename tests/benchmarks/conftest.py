"""A tiny model on the emulated GPU, for what benchmarks count of its launches."""

from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")


@pytest.fixture(scope="module")
def engine(host_compiler: None, tiny_model: Path) -> Engine:
    return Engine.load(
        EngineConfig(
            model=str(tiny_model), backend="emulated", n_ctx=256, n_threads=1, speculation="lookup"
        )
    )
