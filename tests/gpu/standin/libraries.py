"""Builds the stand-in driver libraries, and says how a process comes to use them."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import engine

_HERE = Path(__file__).parent
ROOT = _HERE.parents[2]
_COMPILER = "-DPREFIX={} -DIMAGE={} compiler.cpp"
LIBRARIES = {
    "hip": {"libamdhip64.so": "hip.cpp", "libhiprtc.so": _COMPILER.format("hiprtc", "Code")},
    "cuda": {
        "libcuda.so.1": "cuda.cpp",
        "libnvrtc.so.12": _COMPILER.format("nvrtc", "CUBIN"),
        "libnvrtc.so.13": _COMPILER.format("nvrtc", "CUBIN"),
    },
}
# Versions of the vendors' packages, as .ci/gpu_packages installs them.
PACKAGES = ("hip-7.2", "hip-10", "cuda-12", "cuda-13")


def build(vendor: str, folder: Path) -> Path:
    """A folder with the vendor's libraries; skips the test where there is no compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in LIBRARIES[vendor].items():
        command = [compiler, "-std=c++20", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC"]
        # Two drivers in one process are two devices, with nothing in common.
        command += ["-fvisibility=hidden", "-fno-gnu-unique"]
        command += [*arguments.split(), "-o", str(folder / name)]
        done = subprocess.run(command, cwd=_HERE, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def package_folder(package: str) -> Path:
    """Where one of PACKAGES lies; skips the test where it was not installed."""
    folder = ROOT / "build" / "gpu-packages" / package
    if not folder.exists():
        pytest.skip(f"{package} is not installed: run .ci/gpu_packages")
    return folder


def environment(*folders: Path, **settings: str) -> dict[str, str]:
    """Our environment in which libraries are first looked for in `folders`."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("LD_LIBRARY_PATH", "")])
    return {**os.environ, "LD_LIBRARY_PATH": path, **settings}


@dataclass(frozen=True)
class Standin:
    """A vendor's package over the libraries of its stand-in."""

    backend: str
    libraries: Path
    package: Path
    cache: Path

    def run(self, scenario: str, *arguments: str, **settings: str) -> str:
        """What a scenario of exercise.py prints, in a process of its own with the engine that is
        being tested."""
        path = os.pathsep.join([str(self.package), str(Path(engine.__file__).parents[1])])
        variables = environment(
            self.libraries, PYTHONPATH=path, XDG_CACHE_HOME=str(self.cache), **settings
        )
        command = [sys.executable, str(_HERE / "exercise.py"), self.backend, scenario, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
