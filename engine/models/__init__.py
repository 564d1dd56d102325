"""The model architectures: GGUF's name of each, and the function that emits its Program."""

from collections.abc import Callable

from engine.gguf.reader import GgufFile
from engine.models import llama, qwen2
from engine.program import Program

ARCHITECTURES: dict[str, Callable[[Program, GgufFile], None]] = {
    "llama": llama.build,
    "qwen2": qwen2.build,
}
