"""Asks the vendors' drivers what devices there are: `python -m engine.backends.gpu.probe`.

Speaks to the C libraries themselves, so that it needs no package, and in a process of its own: a
broken driver may hang or end whoever loads it. Prints one `Probe` as JSON.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p

import msgspec

CUDA_LIBRARIES = ("libcuda.so.1",)
HIP_LIBRARIES = ("libamdhip64.so",)
HIP_COMPILERS = ("libhiprtc.so",)
_NO_DEVICE = 100  # in both vendors' numbering

# cuda.h: CUdevice_attribute.
_MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76
# hip_runtime_api.h: where members of hipDeviceProp_tR0600 lie, and its size.
_PROPERTY_BYTES = 1472
_TOTAL_MEMORY, _UNITS, _IS_INTEGRATED, _ARCH = 288, 388, 396, 1160


class Device(msgspec.Struct, frozen=True):
    """One GPU as its driver describes it."""

    name: str
    arch: str
    memory_bytes: int
    free_bytes: int
    n_units: int
    is_integrated: bool


class VendorProbe(msgspec.Struct, frozen=True):
    """What one vendor's driver says. `code` is its error code, 0 for success, None where the
    library is not there; `version` is the driver's (CUDA: 13000 is 13.0) or the runtime's (HIP:
    70253211 is 7.2)."""

    code: int | None = None
    version: int = 0
    devices: list[Device] = []
    has_compiler: bool = False


class Probe(msgspec.Struct, frozen=True):
    cuda: VendorProbe = VendorProbe()
    hip: VendorProbe = VendorProbe()


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


def main() -> int:
    found = Probe(
        cuda=_guarded(_probe_cuda, CUDA_LIBRARIES), hip=_guarded(_probe_hip, HIP_LIBRARIES)
    )
    # What drivers print must not end up in the middle of it.
    sys.stdout.write("\n" + msgspec.json.encode(found).decode() + "\n")
    sys.stdout.flush()
    os._exit(0)  # a driver's own clean-up may hang


def _guarded(ask: Callable[[ctypes.CDLL], VendorProbe], libraries: tuple[str, ...]) -> VendorProbe:
    library = _load(libraries)
    if library is None:
        return VendorProbe()
    try:
        return ask(library)
    except _Refused as error:
        return VendorProbe(code=error.code, version=_version(library))
    except AttributeError:  # a function is missing: the library is older than what we ask
        return VendorProbe(code=0, version=_version(library))


def _load(names: tuple[str, ...]) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _check(code: int) -> None:
    if code != 0:
        raise _Refused(code)


def _version(library: ctypes.CDLL) -> int:
    version = c_int()
    for name in ("cuDriverGetVersion", "hipRuntimeGetVersion"):
        ask = getattr(library, name, None)
        if ask is not None and ask(byref(version)) == 0:
            return version.value
    return 0


# ---- NVIDIA ----


def _probe_cuda(cuda: ctypes.CDLL) -> VendorProbe:
    _check(cuda.cuInit(0))
    count = c_int()
    _check(cuda.cuDeviceGetCount(byref(count)))
    devices = [_cuda_device(cuda, index) for index in range(count.value)]
    return VendorProbe(0, _version(cuda), devices)


def _cuda_device(cuda: ctypes.CDLL, index: int) -> Device:
    device, context = c_int(), c_void_p()
    name = ctypes.create_string_buffer(256)
    total, free = c_size_t(), c_size_t()

    def attribute(number: int) -> int:
        value = c_int()
        _check(cuda.cuDeviceGetAttribute(byref(value), number, device))
        return value.value

    _check(cuda.cuDeviceGet(byref(device), index))
    _check(cuda.cuDeviceGetName(name, len(name), device))
    _check(cuda.cuDeviceTotalMem_v2(byref(total), device))
    free.value = total.value
    # What is free is known only within a context; a device that has no room for one is full.
    if cuda.cuDevicePrimaryCtxRetain(byref(context), device) != 0:
        free.value = 0
    elif cuda.cuCtxSetCurrent(context) == 0:
        cuda.cuMemGetInfo_v2(byref(free), byref(total))
    return Device(
        name=name.value.decode(errors="replace"),
        arch=f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}",
        memory_bytes=total.value,
        free_bytes=free.value,
        n_units=attribute(_MULTIPROCESSORS),
        is_integrated=attribute(_INTEGRATED) != 0,
    )


# ---- AMD ----


def _probe_hip(hip: ctypes.CDLL) -> VendorProbe:
    _check(hip.hipInit(0))
    count = c_int()
    code = hip.hipGetDeviceCount(byref(count))
    _check(0 if code == _NO_DEVICE else code)
    devices = [_hip_device(hip, index) for index in range(count.value)]
    return VendorProbe(0, _version(hip), devices, _load(HIP_COMPILERS) is not None)


def _hip_device(hip: ctypes.CDLL, index: int) -> Device:
    found = ctypes.create_string_buffer(2 * _PROPERTY_BYTES)  # room for what later versions add
    _check(hip.hipGetDevicePropertiesR0600(found, index))
    total = c_size_t.from_buffer(found, _TOTAL_MEMORY)
    free, all_bytes = c_size_t(total.value), c_size_t()
    if hip.hipSetDevice(index) == 0:
        hip.hipMemGetInfo(byref(free), byref(all_bytes))
    arch = c_char_p(ctypes.addressof(found) + _ARCH).value or b""
    return Device(
        name=found.value.decode(errors="replace"),
        arch=arch.decode(errors="replace").partition(":")[0],
        memory_bytes=total.value,
        free_bytes=free.value,
        n_units=c_int.from_buffer(found, _UNITS).value,
        is_integrated=c_int.from_buffer(found, _IS_INTEGRATED).value != 0,
    )


if __name__ == "__main__":
    sys.exit(main())
