"""Where tests find real model files."""

import os
from pathlib import Path

import pytest

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


def require_model(name: str) -> Path:
    """The file of a known model; skips the test that asks for it if it is not here."""
    model = find_model(name)
    if model is None:
        pytest.skip(f"the model {name} is not here; fetch it with: flash-lsp models fetch {name}")
    return model
