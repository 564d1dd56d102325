"""Where tests find real model files."""

import os
from pathlib import Path

from engine import catalogue
from engine.errors import ModelNotFoundError


def find_model(name: str) -> Path | None:
    """The file of a known model, or None; FLASH_LSP_MODELS may name another folder (tests only)."""
    folder = os.environ.get("FLASH_LSP_MODELS")
    for candidate in (Path(folder) if folder else None, None):
        try:
            return catalogue.find(name, candidate)
        except ModelNotFoundError:
            continue
    return None
