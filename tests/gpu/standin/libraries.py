"""Builds the stand-in driver libraries, and says how a process comes to load them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_COMPILER = "-DPREFIX={} -DIMAGE={} compiler.cpp"
LIBRARIES = {
    "hip": {"libamdhip64.so": "hip.cpp", "libhiprtc.so": _COMPILER.format("hiprtc", "Code")},
    "cuda": {
        "libcuda.so.1": "cuda.cpp",
        "libnvrtc.so.12": _COMPILER.format("nvrtc", "CUBIN"),
        "libnvrtc.so.13": _COMPILER.format("nvrtc", "CUBIN"),
    },
}


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


def environment(*folders: Path, **settings: str) -> dict[str, str]:
    """Our environment in which libraries are first looked for in `folders`."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("LD_LIBRARY_PATH", "")])
    return {**os.environ, "LD_LIBRARY_PATH": path, **settings}
