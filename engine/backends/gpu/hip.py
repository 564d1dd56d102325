"""AMD devices, through `hip-python` 7.2 or 10 (extra `amd`)."""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.gpu.driver import Address, Event, Function, Graph, Grid
from engine.errors import CompileError, DeviceLostError, DeviceMemoryError, NativeError

# hip_runtime_api.h: hipError_t.
_OUT_OF_MEMORY = 2
_LOST = frozenset({4, 214, 700, 702, 709, 710, 719, 999})
_OPTIONS = (b"-O3", b"-std=c++17", b"-ffp-contract=off")
_NO_TIMING = 2  # hipEventDisableTiming
_NON_BLOCKING = 1  # hipStreamNonBlocking: waits for no other stream


class HipDriver:
    """The HIP device of this number. Raises NativeError where there is none."""

    name = "hip"

    def __init__(self, index: int = 0) -> None:
        self._hip = _module("hip")
        hip = self._hip
        self._check("opening the device", hip.hipInit(0))
        self._check("opening the device", hip.hipSetDevice(index))
        properties = self._properties(index)
        self.device = _text(properties.name)
        self.arch = _text(properties.gcnArchName).partition(":")[0]
        self.n_units = int(properties.multiProcessorCount)
        self.is_unified = bool(properties.integrated)
        created = hip.hipStreamCreateWithFlags(_NON_BLOCKING)
        self._stream = self._check("opening a stream", created)

    def _properties(self, index: int) -> Any:
        what = "asking the device"
        try:  # hip-python 10, which does not say that it is
            return self._check(what, self._hip.hipGetDeviceProperties(index))
        except TypeError:  # 7.2
            properties = self._hip.hipDeviceProp_t()
            self._check(what, self._hip.hipGetDeviceProperties(properties, index))
            return properties

    def free_bytes(self) -> int:
        return int(self._check("asking for memory", self._hip.hipMemGetInfo())[0])

    # ---- kernels ----

    def compile(self, source: str) -> bytes:
        hiprtc = _module("hiprtc")
        made = hiprtc.hiprtcCreateProgram(source.encode(), b"kernels.hip", 0, None, None)
        program = self._check("compiling", made)
        options = [b"--offload-arch=" + self.arch.encode(), *_OPTIONS]
        failed = hiprtc.hiprtcCompileProgram(program, len(options), options)[0]
        if int(failed):
            log = bytearray(self._check("compiling", hiprtc.hiprtcGetProgramLogSize(program)))
            hiprtc.hiprtcGetProgramLog(program, log)
            raise CompileError(log.rstrip(b"\0").decode(errors="replace")[:2000])
        image = bytearray(self._check("compiling", hiprtc.hiprtcGetCodeSize(program)))
        self._check("compiling", hiprtc.hiprtcGetCode(program, image))
        return bytes(image)

    def compiler(self) -> str:
        hiprtc = _module("hiprtc")
        major, minor = self._check("asking the compiler", hiprtc.hiprtcVersion())
        return f"hiprtc {major}.{minor} {b' '.join(_OPTIONS).decode()}"

    def load(self, image: bytes) -> Callable[[str], Function]:
        module = self._check("loading the kernels", self._hip.hipModuleLoadData(image))

        def function(name: str) -> Function:
            return self._check(name, self._hip.hipModuleGetFunction(module, name.encode()))

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
        assert n_cluster == 1, "no AMD device has clusters"
        params = (ctypes.c_void_p * 1)(ctypes.addressof(args))
        where = ctypes.addressof(params)
        done = self._hip.hipModuleLaunchKernel(
            function, *grid, n_threads, 1, 1, shared_bytes, self._stream, where, None
        )
        self._check("launching", done)

    def fence(self) -> None:
        pass  # kernels never begin early

    # ---- memory ----

    def allocate(self, n_bytes: int) -> Address:
        done = self._hip.hipMalloc(max(n_bytes, 256))
        if int(done[0]) == _OUT_OF_MEMORY:
            raise DeviceMemoryError(n_bytes, self.free_bytes(), f"on {self.device}")
        return int(self._check("allocating", done))

    def free(self, address: Address) -> None:
        done = self._hip.hipFree(address)
        if int(done[0]) not in _LOST:  # what is lost is free
            self._check("freeing", done)

    def allocate_host(self, n_bytes: int) -> NDArray[np.uint8]:
        address = int(self._check("allocating", self._hip.hipHostMalloc(max(n_bytes, 1), 0)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(address))

    def upload(self, target: Address, source: NDArray[Any]) -> None:
        kind = self._hip.hipMemcpyKind.hipMemcpyHostToDevice
        self._copy(target, source.ctypes.data, source.nbytes, kind)

    def download(self, target: NDArray[Any], source: Address) -> None:
        kind = self._hip.hipMemcpyKind.hipMemcpyDeviceToHost
        self._copy(target.ctypes.data, source, target.nbytes, kind)

    def copy(self, target: Address, source: Address, n_bytes: int) -> None:
        kind = self._hip.hipMemcpyKind.hipMemcpyDeviceToDevice
        self._copy(target, source, n_bytes, kind)

    def _copy(self, target: int, source: int, n_bytes: int, kind: Any) -> None:
        done = self._hip.hipMemcpyAsync(target, source, n_bytes, kind, self._stream)
        self._check("copying", done)

    def synchronize(self) -> None:
        self._check("waiting for the device", self._hip.hipStreamSynchronize(self._stream))

    # ---- places in the work ----

    def event(self) -> Event:
        created = self._hip.hipEventCreateWithFlags(_NO_TIMING)
        return self._check("making an event", created)

    def mark(self, event: Event) -> None:
        self._check("marking", self._hip.hipEventRecord(event, self._stream))

    def wait(self, event: Event) -> None:
        self._check("waiting for the device", self._hip.hipEventSynchronize(event))

    # ---- recorded work ----

    def record(self, work: Callable[[], None]) -> Graph:
        hip = self._hip
        mode = hip.hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
        self._check("recording", hip.hipStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:
            graph = self._check("recording", hip.hipStreamEndCapture(self._stream))
        return self._check("recording", hip.hipGraphInstantiateWithFlags(graph, 0))

    def run(self, graph: Graph) -> None:
        self._check("running", self._hip.hipGraphLaunch(graph, self._stream))

    def _check(self, what: str, done: tuple[Any, ...]) -> Any:
        """The value of a call. Raises DeviceLostError where nothing can be asked any more."""
        code = int(done[0])
        if code == 0:
            return done[1] if len(done) == 2 else done[1:]
        error = DeviceLostError if code in _LOST else NativeError
        raise error(what, f"HIP says {done[0]!r}")


def _module(name: str) -> Any:
    """A part of the package: a module of its own in 7.2, an attribute in 10."""
    package = importlib.import_module("hip")
    return getattr(package, name, None) or importlib.import_module(f"hip.{name}")


def _text(name: str | bytes) -> str:
    """hip-python 7.2 has bytes where 10 has text."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name
