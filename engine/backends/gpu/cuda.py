"""NVIDIA devices, through `cuda-bindings` (extra `nvidia`)."""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.gpu.driver import Address, Event, Function, Graph, Grid
from engine.errors import CompileError, DeviceLostError, DeviceMemoryError, NativeError

_OUT_OF_MEMORY = 2
# More shared memory than this must be allowed to a kernel first: of 48 KiB, what is left beside the
# 17 KiB that the largest has of its own.
_SHARED_BYTES = 30 * 1024
_OPTIONS = (b"--fmad=false", b"--std=c++17", b"-default-device")


class CudaDriver:
    """The CUDA device of this number. Raises NativeError where there is none."""

    name = "cuda"
    is_unified = False

    def __init__(self, index: int = 0) -> None:
        self._cuda: Any = importlib.import_module("cuda.bindings.driver")
        cuda = self._cuda
        self._check("opening the device", cuda.cuInit(0))
        device = self._check("opening the device", cuda.cuDeviceGet(index))
        context = self._check("opening the device", cuda.cuDevicePrimaryCtxRetain(device))
        self._check("opening the device", cuda.cuCtxSetCurrent(context))
        name = self._check("asking the device", cuda.cuDeviceGetName(128, device))
        self.device = name.split(b"\0")[0].decode()
        attribute = cuda.CUdevice_attribute
        major, minor, self.n_units = (
            self._check("asking the device", cuda.cuDeviceGetAttribute(which, device))
            for which in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )
        )
        self.arch = f"sm_{major}{minor}"
        self._stream = self._check("opening a stream", cuda.cuStreamCreate(1))
        self._attributes = [self._early_launch()] if major >= 9 else []
        self._is_fenced = False

    def _early_launch(self) -> Any:
        """Has a kernel's blocks placed while the one before it ends; it waits for that one itself
        (platform.h: begin_after_others)."""
        attribute = self._cuda.CUlaunchAttribute()
        kinds = self._cuda.CUlaunchAttributeID
        attribute.id = kinds.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        attribute.value.programmaticStreamSerializationAllowed = 1
        return attribute

    def _cluster(self, n_blocks: int) -> Any:
        attribute = self._cuda.CUlaunchAttribute()
        attribute.id = self._cuda.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        shape = attribute.value.clusterDim
        shape.x, shape.y, shape.z = n_blocks, 1, 1
        return attribute

    def free_bytes(self) -> int:
        return self._check("asking for memory", self._cuda.cuMemGetInfo())[0]

    # ---- kernels ----

    def compile(self, source: str) -> bytes:
        nvrtc: Any = importlib.import_module("cuda.bindings.nvrtc")
        program = self._check(
            "compiling", nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, None, None)
        )
        options = [b"--gpu-architecture=" + self.arch.encode(), *_OPTIONS]
        failed = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
        if int(failed):
            log = b" " * self._check("compiling", nvrtc.nvrtcGetProgramLogSize(program))
            nvrtc.nvrtcGetProgramLog(program, log)
            raise CompileError(log.decode(errors="replace")[:2000])
        image = b" " * self._check("compiling", nvrtc.nvrtcGetCUBINSize(program))
        self._check("compiling", nvrtc.nvrtcGetCUBIN(program, image))
        return image

    def compiler(self) -> str:
        nvrtc: Any = importlib.import_module("cuda.bindings.nvrtc")
        major, minor = self._check("asking the compiler", nvrtc.nvrtcVersion())
        return f"nvrtc {major}.{minor} {b' '.join(_OPTIONS).decode()}"

    def load(self, image: bytes) -> Callable[[str], Function]:
        module = self._check("loading the kernels", self._cuda.cuModuleLoadData(image))

        def function(name: str) -> Function:
            return self._check(name, self._cuda.cuModuleGetFunction(module, name.encode()))

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
        if shared_bytes > _SHARED_BYTES:
            self._allow_shared(function, shared_bytes)
        params = (ctypes.c_void_p * 1)(ctypes.addressof(args))
        config = self._cuda.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = grid
        config.blockDimX, config.blockDimY, config.blockDimZ = n_threads, 1, 1
        config.hStream = self._stream
        config.sharedMemBytes = shared_bytes
        attributes = [] if self._is_fenced else [*self._attributes]
        self._is_fenced = False
        if n_cluster > 1:
            attributes.append(self._cluster(n_cluster))
        config.attrs, config.numAttrs = attributes, len(attributes)
        done = self._cuda.cuLaunchKernelEx(config, function, ctypes.addressof(params), 0)
        self._check("launching", done)

    def fence(self) -> None:
        self._is_fenced = True

    def _allow_shared(self, function: Function, n_bytes: int) -> None:
        which = self._cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        done = self._cuda.cuFuncSetAttribute(function, which, n_bytes)
        self._check("asking for shared memory", done)

    # ---- memory ----

    def allocate(self, n_bytes: int) -> Address:
        done = self._cuda.cuMemAlloc(max(n_bytes, 256))
        if int(done[0]) == _OUT_OF_MEMORY:
            raise DeviceMemoryError(n_bytes, self.free_bytes(), f"on {self.device}")
        return int(self._check("allocating", done))

    def free(self, address: Address) -> None:
        done = self._cuda.cuMemFree(address)
        if not _is_lost(int(done[0])):  # what is lost is free
            self._check("freeing", done)

    def allocate_host(self, n_bytes: int) -> NDArray[np.uint8]:
        address = int(self._check("allocating", self._cuda.cuMemHostAlloc(n_bytes, 0)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(address))

    def upload(self, target: Address, source: NDArray[Any]) -> None:
        where, n_bytes = source.ctypes.data, source.nbytes
        done = self._cuda.cuMemcpyHtoDAsync(target, where, n_bytes, self._stream)
        self._check("copying", done)

    def download(self, target: NDArray[Any], source: Address) -> None:
        where, n_bytes = target.ctypes.data, target.nbytes
        done = self._cuda.cuMemcpyDtoHAsync(where, source, n_bytes, self._stream)
        self._check("copying", done)

    def copy(self, target: Address, source: Address, n_bytes: int) -> None:
        done = self._cuda.cuMemcpyDtoDAsync(target, source, n_bytes, self._stream)
        self._check("copying", done)

    def synchronize(self) -> None:
        self._check("waiting for the device", self._cuda.cuStreamSynchronize(self._stream))

    # ---- places in the work ----

    def event(self) -> Event:
        flag = self._cuda.CUevent_flags.CU_EVENT_DISABLE_TIMING
        return self._check("making an event", self._cuda.cuEventCreate(flag))

    def mark(self, event: Event) -> None:
        self._check("marking", self._cuda.cuEventRecord(event, self._stream))

    def wait(self, event: Event) -> None:
        self._check("waiting for the device", self._cuda.cuEventSynchronize(event))

    # ---- recorded work ----

    def record(self, work: Callable[[], None]) -> Graph:
        cuda = self._cuda
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._check("recording", cuda.cuStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:
            graph = self._check("recording", cuda.cuStreamEndCapture(self._stream))
        return self._check("recording", cuda.cuGraphInstantiate(graph, 0))

    def run(self, graph: Graph) -> None:
        self._check("running", self._cuda.cuGraphLaunch(graph, self._stream))

    def _check(self, what: str, done: tuple[Any, ...]) -> Any:
        """The value of a call. Raises DeviceLostError where nothing can be asked any more."""
        code = int(done[0])
        if code == 0:
            return done[1] if len(done) == 2 else done[1:]
        error = DeviceLostError if _is_lost(code) else NativeError
        raise error(what, f"CUDA says {done[0]!r}")


def _is_lost(code: int) -> bool:
    # From 700 on: a kernel trapped or read what is not its own; the context is gone.
    return 700 <= code < 800 or code in (4, 46, 999)
