"""Which GPUs can be used and, for those that cannot, what is in the way and what to do about it.

Reasons are looked for from the hardware up: kernel driver, rights, the vendor's library, its
version, the device itself, our own packages. Only the first one in the way is told: the next may
well be gone once it is.
"""

from typing import Literal

import msgspec

from engine.backends.gpu.images import OBJECTS
from engine.backends.gpu.probe import Device, Probe, VendorProbe
from engine.backends.gpu.system import System

_AMD, _NVIDIA = "0x1002", "0x10de"  # PCI vendors
_NVRTC = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")
# What native/gpu is written for: RDNA 3 and 4 in wave32; NVIDIA from Ampere on.
AMD_ARCHS = (
    *("gfx1100", "gfx1101", "gfx1102", "gfx1103"),
    *("gfx1150", "gfx1151", "gfx1152", "gfx1153"),
    *("gfx1200", "gfx1201"),
)
_OLDEST_SM = 80
_OLDEST_ROCM = (6, 4)
_OLDEST_CUDA = 12
# A driver of CUDA N runs what the packages of CUDA N compile.
_LINUX_DRIVERS = {12: "525", 13: "580"}
_CUDA_NO_DEVICE, _CUDA_MISMATCH = 100, 803


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. `backend` is what runs on it: "hip" or "cuda"."""

    backend: Literal["hip", "cuda"]
    name: str
    arch: str
    memory_bytes: int
    free_bytes: int
    n_units: int
    is_integrated: bool
    driver: str
    is_usable: bool


class Problem(msgspec.Struct, frozen=True):
    """What is in the way of a GPU, and what its owner can do. `backend` is what would run on it,
    or "" where that is not known."""

    what: str
    do: str
    backend: str = ""


class Discovery(msgspec.Struct, frozen=True):
    gpus: list[Gpu]
    problems: list[Problem]

    def usable(self, backend: str) -> Gpu | None:
        """The first GPU that a backend, or with "auto" any, can run on."""
        for gpu in self.gpus:
            if gpu.is_usable and backend in ("auto", gpu.backend):
                return gpu
        return None


def discover(system: System | None = None) -> Discovery:
    """Takes a moment: the drivers are asked in a process of their own."""
    system = system or System()
    probe = system.probe()
    if probe is None:
        if not (system.has_hardware(_AMD) or system.has_hardware(_NVIDIA)):
            return Discovery([], [])
        what = "a GPU driver ended or hung the process that asked it for its devices"
        return Discovery(
            [], [Problem(what, "restart the machine; reinstall the driver if it stays")]
        )
    problems = [_nvidia_problem(system, probe.cuda), _amd_problem(system, probe.hip)]
    is_clear = {"cuda": problems[0] is None, "hip": problems[1] is None}
    gpus = _gpus(probe, is_clear)
    found = [
        msgspec.structs.replace(problem, backend=backend)
        for problem, backend in zip(problems, is_clear, strict=True)
        if problem is not None
    ]
    return Discovery(gpus, found + _unsupported(gpus))


def _gpus(probe: Probe, is_clear: dict[str, bool]) -> list[Gpu]:
    drivers: list[tuple[Literal["hip", "cuda"], VendorProbe, str]] = [
        (
            "cuda",
            probe.cuda,
            f"CUDA {probe.cuda.version // 1000}.{probe.cuda.version % 1000 // 10}",
        ),
        ("hip", probe.hip, "ROCm {}.{}".format(*_rocm_version(probe.hip))),
    ]
    return [
        Gpu(
            backend=backend,
            driver=driver,
            is_usable=is_clear[backend] and _is_supported(device),
            **msgspec.structs.asdict(device),
        )
        for backend, found, driver in drivers
        for device in found.devices
    ]


def _is_supported(device: Device | Gpu) -> bool:
    if device.arch.startswith("sm_"):
        return int(device.arch.removeprefix("sm_")) >= _OLDEST_SM
    return device.arch in AMD_ARCHS


def _unsupported(gpus: list[Gpu]) -> list[Problem]:
    """Devices no kernel of ours is written for. Of no concern where another can be used."""
    if any(gpu.is_usable for gpu in gpus):
        return []
    return [
        Problem(
            f"{gpu.name} is {gpu.arch}; supported are sm_{_OLDEST_SM} and later, "
            + ", ".join(AMD_ARCHS),
            "nothing: the processor is used instead",
            gpu.backend,
        )
        for gpu in gpus
        if not _is_supported(gpu)
    ]


# ---- NVIDIA ----


def _nvidia_problem(system: System, found: VendorProbe) -> Problem | None:
    if found.code is None and not system.has_hardware(_NVIDIA):
        return None
    if forbidden := system.forbidden_files("dev/nvidiactl", "dev/nvidia[0-9]*", "dev/nvidia-uvm"):
        names = ", ".join(f"/dev/{path.name}" for path in forbidden)
        return Problem(
            f"no permission for {names}",
            f"add yourself to their group and log in again: "
            f"sudo usermod -aG {system.group_of(forbidden[0])} $USER",
        )
    if found.code is None or (found.code != 0 and not system.has_file("dev/nvidiactl")):
        if not system.has_hardware(_NVIDIA):
            return None
        return Problem(
            "an NVIDIA GPU is there but its driver is not",
            f"install NVIDIA's driver, {_LINUX_DRIVERS[13]} or later; "
            "in a container, start it with --gpus all",
        )
    if found.code == _CUDA_MISMATCH:
        return Problem(
            "NVIDIA's kernel driver and its libraries are of different versions",
            "restart the machine; in a container, update the host's driver",
        )
    if found.code not in (0, _CUDA_NO_DEVICE):
        return Problem(
            f"NVIDIA's driver does not start: error {found.code}",
            "see what nvidia-smi says; restart the machine, then reinstall the driver",
        )
    if found.code == _CUDA_NO_DEVICE or not found.devices:
        return None
    return _nvidia_version_problem(system, found.version)


def _nvidia_version_problem(system: System, version: int) -> Problem | None:
    bindings = system.version_of("cuda-bindings")
    compiler = system.version_of(*_NVRTC)
    majors = [int(v.partition(".")[0]) for v in (bindings, compiler) if v is not None]
    needed = max([_OLDEST_CUDA, *majors])
    if version // 1000 < needed:
        do = f"update NVIDIA's driver to {_LINUX_DRIVERS.get(needed, 'the latest')} or later"
        if version // 1000 >= _OLDEST_CUDA:
            older = version // 1000
            do += f', or: pip install "cuda-bindings=={older}.*" "nvidia-cuda-nvrtc-cu{older}"'
        return Problem(
            f"NVIDIA's driver is of CUDA {version // 1000}.{version % 1000 // 10}, "
            f"expected {needed}.0 or later",
            do,
        )
    if bindings is None or compiler is None:
        missing = "cuda-bindings" if bindings is None else "nvidia-cuda-nvrtc"
        return Problem(
            f"the Python package {missing} is missing", 'pip install "flash-lsp[nvidia]"'
        )
    return None


# ---- AMD ----


def _rocm_version(found: VendorProbe) -> tuple[int, int]:
    return found.version // 10_000_000, found.version // 100_000 % 100


def _amd_problem(system: System, found: VendorProbe) -> Problem | None:
    archs = system.amd_archs()
    is_there = bool(archs) or system.has_hardware(_AMD) or bool(found.devices)
    if not is_there:
        return None
    if not found.devices and not system.has_file("dev/kfd"):
        return Problem(
            "an AMD GPU is there but the kernel's driver for it is not",
            "load it: sudo modprobe amdgpu; "
            "in a container, start it with --device /dev/kfd --device /dev/dri",
        )
    if forbidden := system.forbidden_files("dev/kfd", "dev/dri/renderD*"):
        groups = sorted({system.group_of(path) for path in forbidden})
        names = ", ".join("/" + str(path.relative_to(system.root)) for path in forbidden)
        return Problem(
            f"no permission for {names}",
            f"join their group and log in again: sudo usermod -aG {','.join(groups)} $USER",
        )
    if archs and not any(arch in AMD_ARCHS for arch in archs):
        return Problem(
            f"the AMD GPU is {', '.join(archs)}; supported are {', '.join(AMD_ARCHS)}",
            "nothing: the processor is used instead",
        )
    return _rocm_problem(system, found)


def _rocm_problem(system: System, found: VendorProbe) -> Problem | None:
    oldest = ".".join(map(str, _OLDEST_ROCM))
    if found.code is None:
        return Problem(
            "an AMD GPU is there but ROCm's runtime, libamdhip64.so, is not found",
            f"install ROCm {oldest} or later, or add its lib folder to LD_LIBRARY_PATH",
        )
    if found.version and _rocm_version(found) < _OLDEST_ROCM:
        major, minor = _rocm_version(found)
        return Problem(
            f"ROCm is {major}.{minor}, expected {oldest} or later", "update ROCm and its driver"
        )
    if found.code != 0:
        return Problem(
            f"ROCm's runtime does not start: error {found.code}",
            "see what rocminfo says; restart the machine, then reinstall ROCm",
        )
    if not found.devices:
        return Problem(
            "ROCm does not list the AMD GPU that is there",
            "see what rocminfo says; HIP_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES may hide it",
        )
    if system.version_of("hip-python") is None:
        return Problem("the Python package hip-python is missing", 'pip install "flash-lsp[amd]"')
    shipped = {path.name.partition("-")[0] for path in OBJECTS.glob("*.hsaco")}
    if not found.has_compiler and not any(device.arch in shipped for device in found.devices):
        return Problem(
            "ROCm's run-time compiler, libhiprtc.so, is not found",
            "install ROCm's package hip-runtime-amd, or add its lib folder to LD_LIBRARY_PATH",
        )
    return None
