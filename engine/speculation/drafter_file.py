"""Opens DFlash drafters: three layouts in, one DrafterSpec and one set of tensor names out."""

from collections.abc import Callable
from pathlib import Path

from engine.gguf.reader import GgufFile
from engine.speculation.drafter_gguf import read_gguf
from engine.speculation.drafter_safetensors import read_safetensors
from engine.speculation.drafter_spec import DrafterFile, check_drafter


def open_drafter(path: Path, is_native: Callable[[int], bool]) -> DrafterFile:
    """Opens a drafter of any layout; a folder is one of safetensors.

    Tensors are read later. Raises ModelNotFoundError, ModelFormatError or UnsupportedModelError.
    """
    if path.is_dir() or path.suffix == ".safetensors":
        file = path / "model.safetensors" if path.is_dir() else path
        opened = DrafterFile(file, *read_safetensors(file))
    else:
        opened = DrafterFile(path, *read_gguf(GgufFile(path), is_native))
    check_drafter(opened)
    return opened
