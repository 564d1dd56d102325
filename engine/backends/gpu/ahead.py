"""Compiles the kernels for AMD GPUs ahead of time, with a clang that knows them:
`python -m engine.backends.gpu.ahead [FOLDER]`. Objects in the package's own folder go into wheels
and spare their users a compiler.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.backends.gpu.images import OBJECTS, object_name
from engine.backends.gpu.source import UNITS, kernel_source
from engine.errors import CompileError

ARCHS = ("gfx1151", "gfx1100", "gfx1201")
_COMPILERS = ("amdclang++", "clang-19", "clang-20", "clang-21")
_OPTIONS = (
    *("-x", "hip", "--offload-device-only", "--no-gpu-bundle-output", "-nogpuinc", "-nogpulib"),
    *("-O3", "-std=c++17", "-ffp-contract=off"),
)


def compiler() -> str | None:
    return next((found for name in _COMPILERS if (found := shutil.which(name))), None)


def command_of(found: str, arch: str) -> list[str]:
    return [found, f"--offload-arch={arch}", *_OPTIONS]


def compile_ahead(arch: str, source: str) -> bytes:
    """Raises CompileError."""
    found = compiler()
    if found is None:
        raise CompileError(f"no compiler for AMD GPUs: install one of {', '.join(_COMPILERS)}")
    with tempfile.TemporaryDirectory() as folder:
        path, image = Path(folder) / "kernels.hip", Path(folder) / "image"
        path.write_text(source, "utf-8")
        command = [*command_of(found, arch), str(path), "-o", str(image)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise CompileError(done.stderr[:2000])
        return image.read_bytes()


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0]) if arguments else OBJECTS
    for older in folder.glob("*.hsaco"):
        older.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for source in map(kernel_source, UNITS):
        for arch in ARCHS:
            image = compile_ahead(arch, source)
            path = folder / object_name(arch, source)
            path.write_bytes(image)
            print(f"{path}: {len(image)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
