"""Known models and where they lie."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import platformdirs

from engine.errors import ModelNotFoundError

DEFAULT_MODEL = "qwen2.5-coder-0.5b"


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One known model."""

    name: str
    file_name: str
    n_bytes: int
    sha256: str
    licence: str
    fim: bool
    prompt_form: str


_ENTRIES = (
    CatalogueEntry(
        name="qwen2.5-coder-0.5b",
        file_name="qwen2.5-coder-0.5b.gguf",
        n_bytes=491400064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        fim=True,
        prompt_form="fim_psm",
    ),
    CatalogueEntry(
        name="qwen2.5-coder-1.5b",
        file_name="qwen2.5-coder-1.5b.gguf",
        n_bytes=1117320768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        fim=True,
        prompt_form="fim_psm",
    ),
    CatalogueEntry(
        name="smollm2-135m",
        file_name="smollm2-135m.gguf",
        n_bytes=98362432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        fim=False,
        prompt_form="prefix",
    ),
)


def entries() -> tuple[CatalogueEntry, ...]:
    return _ENTRIES


def models_dir() -> Path:
    return Path(platformdirs.user_cache_dir("flash-lsp")) / "models"


def find(name_or_path: str, models_dir_: Path | None = None) -> Path:
    """The file of a known model or the path itself. Raises ModelNotFoundError."""
    for entry in _ENTRIES:
        if entry.name == name_or_path:
            path = (models_dir_ or models_dir()) / entry.file_name
            if not path.exists():
                raise ModelNotFoundError(entry.name, f"run: flash-lsp models fetch {entry.name}")
            return path
    path = Path(name_or_path)
    if not path.exists():
        names = ", ".join(entry.name for entry in _ENTRIES)
        raise ModelNotFoundError(name_or_path, f"no such file, and known models are {names}")
    return path


def fetch(
    name: str,
    models_dir: Path | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    return find(name, models_dir)
