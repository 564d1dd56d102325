"""The model architectures: GGUF's name of each, and the function that emits its Program."""

from typing import Protocol

from engine.gguf.reader import GgufFile
from engine.models import llama, qwen2
from engine.models.blocks import Probe
from engine.program import Program


class Build(Protocol):
    """Emits a file's Program, or with a probe what a scorer needs of it."""

    def __call__(self, p: Program, g: GgufFile, probe: Probe | None = None, /) -> None: ...


ARCHITECTURES: dict[str, Build] = {
    "llama": llama.build,
    "qwen2": qwen2.build,
}
