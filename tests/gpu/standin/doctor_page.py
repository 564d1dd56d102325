"""docs/doctor.md: what `flash-lsp doctor` says of machines that are made of stand-in drivers.

    python -m tests.gpu.standin.doctor_page --write

Runs the real command over the libraries of this folder and packages that are names and versions
alone. Rows about this machine itself (processor, memory, folders) are replaced by an example's.
"""

import argparse
import io
import os
import subprocess
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from lsp_server.cli_doctor import show
from tests.e2e.command import flash_lsp, source_path
from tests.gpu.standin.libraries import ROOT, build, environment

PAGE = ROOT / "docs" / "doctor.md"
_WIDTH = 100
_GIB = 2**30
_CPU = {
    "name": "AMD Ryzen 9 9950X 16-Core Processor",
    "logical_processors": 32,
    "cores": 16,
    "threads_per_core": 2,
    "nodes": [{"number": 0, "logical_processors": 32, "available_bytes": 110 * _GIB}],
    "quota": None,
    "default_threads": 16,
    "instruction_set": "avx512",
}
_MEMORY = {
    "available_bytes": 110 * _GIB,
    "default_model_bytes": None,
    "disk_free_bytes": 750 * 10**9,
    "models_dir": "~/.cache/flash-lsp/models",
}
_HEAD = """\
# What flash-lsp doctor says

`flash-lsp doctor` looks at the processor, the GPUs, the memory and the models of a machine, says what is in the way and what to do about it; `--json` says the same to programs.
Of a GPU the first obstacle is told, from the hardware up: kernel driver, rights, the vendor's library, its version, the device, the Python packages.
It never needs a GPU's package or driver to be there, and a driver that hangs or ends whoever asks it cannot take the command along.

What follows is what the command says over the tests' stand-in drivers (`python -m tests.gpu.standin.doctor_page --write` made it and a test holds it to that); the rows about processor, memory and folders are an example's.
"""  # noqa: E501


@dataclass(frozen=True)
class Case:
    """A machine: its driver's libraries, what they are told to be, and Python packages."""

    title: str
    vendor: str | None = None
    settings: dict[str, str] = field(default_factory=dict[str, str])
    packages: dict[str, str] = field(default_factory=dict[str, str])


_HBM = {"STANDIN_MEMORY": str(80 * _GIB), "STANDIN_UNITS": "132"}
_CUDA = {"cuda-bindings": "13.0.3", "nvidia-cuda-nvrtc": "13.0.88"}
CASES = (
    Case("No GPU"),
    Case(
        "An AMD GPU",
        "hip",
        {"STANDIN_MEMORY": str(96 * _GIB), "STANDIN_UNITS": "20"},
        {"hip-python": "10.0.0.0.1.2"},
    ),
    Case("An NVIDIA GPU", "cuda", _HBM, _CUDA),
    Case("An NVIDIA driver that is too old", "cuda", {"STANDIN_VERSION": "12040", **_HBM}, _CUDA),
    Case(
        "An AMD GPU without kernels for it",
        "hip",
        {"STANDIN_ARCH": "gfx906", "STANDIN_MEMORY": str(32 * _GIB), "STANDIN_UNITS": "60"},
        {"hip-python": "10.0.0.0.1.2"},
    ),
)


def report(case: Case, folder: Path) -> dict[str, Any]:
    """What `doctor --json` says of the machine, built in an empty folder."""
    libraries = [] if case.vendor is None else [build(case.vendor, folder / "libraries")]
    packages, models = folder / "packages", folder / "models"
    models.mkdir(parents=True)
    for name, version in case.packages.items():
        described = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        described.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (described / "METADATA").write_text(text)
    path = os.pathsep.join([str(packages), *source_path().values()])
    variables = environment(
        *libraries, PYTHONPATH=path, XDG_CACHE_HOME=str(folder / "cache"), **case.settings
    )
    command = flash_lsp("doctor", "--json", "--models-dir", str(models))
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return msgspec.json.decode(done.stdout)


def rendered(found: dict[str, Any]) -> str:
    """As the command shows it, on the example's machine."""
    output = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": str(_WIDTH)}), redirect_stdout(output):
        show({**found, "cpu": _CPU, "memory": _MEMORY})
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def section(case: Case) -> str:
    with tempfile.TemporaryDirectory() as folder:
        text = rendered(report(case, Path(folder)))
    return f"## {case.title}\n\n```text\n{text}\n```\n"


def page() -> str:
    return "\n".join([_HEAD, *(section(case) for case in CASES)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/doctor.md")
    text = page()
    if parser.parse_args().write:
        PAGE.write_text(text, "utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
