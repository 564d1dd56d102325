"""The host as a device: the same kernel source, compiled by the host's C++ compiler, with fibers
for threads (native/gpu/platform_emulated.h). For tests and for machines without a GPU.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import memory
from engine.backends.gpu.driver import Address, Event, Function, Graph, Grid
from engine.errors import CompileError, NativeError

_OPTIONS = ("-std=c++20", "-O2", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-DGPU_EMULATED")
# What a launch returns (platform_emulated.h).
_FAILURES = {
    1: "threads of a block wait for others that never come",
    2: "a block wrote behind its shared memory",
    3: "the grid is not made of such clusters",
    4: "lanes of a warp wait for one that has left",
}


class EmulatedDriver:
    name = "emulated"
    device = "this machine's processor, as a GPU"
    n_units = 2
    is_unified = True

    def __init__(self, *, is_quads: bool = False) -> None:
        """With `is_quads` the matrix unit's tiles lie in lanes as NVIDIA's do, else as AMD's."""
        self.arch = "host-quads" if is_quads else "host"
        self._options = (*_OPTIONS, "-DEMULATED_QUADS") if is_quads else _OPTIONS
        self._memory: dict[Address, NDArray[np.uint8]] = {}
        self._recorded: list[Callable[[], None]] | None = None

    def free_bytes(self) -> int:
        return memory.available_bytes() or 2**34

    # ---- kernels ----

    def compile(self, source: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path, image = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
            path.write_text(source, "utf-8")
            command = [
                *_compiler(),
                *self._options,
                "-w",
                "-shared",
                "-fPIC",
                str(path),
                "-o",
                str(image),
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise CompileError(done.stderr[:2000])
            return image.read_bytes()

    def compiler(self) -> str:
        done = subprocess.run([*_compiler(), "--version"], capture_output=True, text=True)
        return done.stdout.partition("\n")[0]

    def load(self, image: bytes) -> Callable[[str], Function]:
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(image)
            file.flush()
            library = ctypes.CDLL(file.name)

        def function(name: str) -> Function:
            found = getattr(library, f"{name}__launch")
            found.argtypes = [ctypes.c_int] * 6 + [ctypes.c_void_p]
            found.restype = ctypes.c_int
            n_bytes = getattr(library, f"{name}__args_bytes")()
            return found, n_bytes

        return function

    def launch(
        self,
        function: Function,
        grid: Grid,
        n_threads: int,
        args: ctypes.Structure,
        shared_bytes: int = 0,
        n_cluster: int = 1,
    ) -> None:
        call, n_bytes = function
        if n_bytes != ctypes.sizeof(args):
            detail = f"{type(args).__name__} has {ctypes.sizeof(args)} bytes, expected {n_bytes}"
            raise NativeError("launch", detail)
        kept = type(args).from_buffer_copy(args)

        def run() -> None:
            failed = call(*grid, n_threads, shared_bytes, n_cluster, ctypes.byref(kept))
            if failed:
                raise NativeError("launch", _FAILURES[failed])

        self._do(run)

    def fence(self) -> None:
        pass

    # ---- memory ----

    def allocate(self, n_bytes: int) -> Address:
        # Whoever reads what was never written shall notice.
        block = np.full(n_bytes + 256, 0xFF, np.uint8)
        address = block.ctypes.data + -block.ctypes.data % 256
        self._memory[address] = block
        return address

    def free(self, address: Address) -> None:
        del self._memory[address]

    def allocate_host(self, n_bytes: int) -> NDArray[np.uint8]:
        return np.zeros(n_bytes, np.uint8)

    def upload(self, target: Address, source: NDArray[Any]) -> None:
        self._do(lambda: _move(target, source.ctypes.data, source.nbytes))

    def download(self, target: NDArray[Any], source: Address) -> None:
        self._do(lambda: _move(target.ctypes.data, source, target.nbytes))

    def copy(self, target: Address, source: Address, n_bytes: int) -> None:
        self._do(lambda: _move(target, source, n_bytes))

    def synchronize(self) -> None:
        pass

    # ---- places in the work ----

    def event(self) -> Event:
        return None

    def mark(self, event: Event) -> None:
        pass

    def wait(self, event: Event) -> None:
        pass

    # ---- recorded work ----

    def record(self, work: Callable[[], None]) -> Graph:
        self._recorded = []
        try:
            work()
            return self._recorded
        finally:
            self._recorded = None

    def run(self, graph: Graph) -> None:
        for step in graph:
            step()

    def _do(self, step: Callable[[], None]) -> None:
        if self._recorded is None:
            step()
        else:
            self._recorded.append(step)


def _move(target: Address, source: Address, n_bytes: int) -> None:
    ctypes.memmove(target, source, n_bytes)


def _compiler() -> list[str]:
    named = os.environ.get("CXX")
    if named:
        return named.split()
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise CompileError("no C++ compiler was found; install g++ or set CXX")
