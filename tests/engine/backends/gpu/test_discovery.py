"""Which GPUs are found, and what is said about those that cannot be used: over the stand-in
drivers, in machines made of files."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.backends.gpu.discovery import Discovery, discover
from engine.backends.gpu.probe import Probe
from engine.backends.gpu.system import System
from tests.gpu.standin import libraries

ALL_PACKAGES = {"hip-python": "10.0.0", "cuda-bindings": "13.5.0", "nvidia-cuda-nvrtc": "13.0.88"}
AMD, NVIDIA = "0x1002", "0x10de"


@dataclass(frozen=True)
class Machine(System):
    """A machine made of files, with these Python packages."""

    packages: dict[str, str] = field(default_factory=lambda: dict(ALL_PACKAGES))

    def version_of(self, *packages: str) -> str | None:
        return next((self.packages[name] for name in packages if name in self.packages), None)

    def add(self, path: str, text: str = "", mode: int = 0o666) -> "Machine":
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return self

    def add_card(self, vendor: str) -> "Machine":
        # Radeons have a sound device, too, listed first.
        for function, kind in enumerate(("0x040300", "0x030000")):
            where = f"sys/bus/pci/devices/0000:{vendor[-2:]}:00.{function}"
            self.add(f"{where}/vendor", vendor).add(f"{where}/class", kind)
        return self

    def add_amd(self, gfx_version: int = 110501, mode: int = 0o666) -> "Machine":
        properties = f"cpu_cores_count 0\ngfx_target_version {gfx_version}\n"
        self.add_card(AMD).add("sys/class/kfd/kfd/topology/nodes/1/properties", properties)
        return self.add("dev/kfd", mode=mode).add("dev/dri/renderD128", mode=mode)

    def add_nvidia(self, mode: int = 0o666) -> "Machine":
        return self.add_card(NVIDIA).add("dev/nvidiactl", mode=mode).add("dev/nvidia0", mode=mode)


@pytest.fixture(scope="session")
def standins(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("standins")
    return {vendor: libraries.build(vendor, folder / vendor) for vendor in libraries.LIBRARIES}


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    # Tests may run as root, who may open everything: rights are those the mode gives to all.
    def access(path: str | Path, mode: int) -> bool:
        return not Path(path).is_relative_to(tmp_path) or os.stat(path).st_mode & mode == mode

    monkeypatch.setattr("engine.backends.gpu.system.os.access", access)
    return Machine(tmp_path)


@pytest.fixture
def find(standins, monkeypatch):
    """Discovers with the libraries of these vendors and these settings of the stand-ins."""

    def find(machine: Machine, *vendors: str, **settings: str) -> Discovery:
        folders = [standins[vendor] for vendor in vendors]
        for name, value in libraries.environment(*folders, **settings).items():
            monkeypatch.setenv(name, value)
        return discover(machine)

    return find


def test_a_machine_without_a_gpu_has_no_problem(machine, find) -> None:
    assert find(machine) == Discovery([], [])


def test_an_integrated_amd_gpu_is_found(machine, find) -> None:
    found = find(machine.add_amd(), "hip", STANDIN_MEMORY=str(2**33), STANDIN_UNITS="20")
    assert found.problems == []
    gpu = found.gpus[0]
    assert (gpu.backend, gpu.name, gpu.arch) == ("hip", "Stand-in Radeon", "gfx1151")
    assert (gpu.memory_bytes, gpu.free_bytes, gpu.n_units) == (2**33, 2**33, 20)
    assert gpu.is_integrated
    assert gpu.driver == "ROCm 7.2"
    assert found.usable("auto") == found.usable("hip") == gpu
    assert found.usable("cuda") is None


def test_an_nvidia_gpu_is_found(machine, find) -> None:
    found = find(machine.add_nvidia(), "cuda", STANDIN_ARCH="sm_120")
    assert found.problems == []
    gpu = found.gpus[0]
    assert (gpu.backend, gpu.name, gpu.arch) == ("cuda", "Stand-in GeForce", "sm_120")
    assert not gpu.is_integrated
    assert gpu.driver == "CUDA 13.0"
    assert found.usable("cuda") == gpu


def test_one_usable_gpu_beside_another_that_is_not(machine, find) -> None:
    machine = machine.add_amd().add_nvidia()
    found = find(machine, "hip", "cuda", STANDIN_FAIL="cuInit=999")
    assert [gpu.backend for gpu in found.gpus if gpu.is_usable] == ["hip"]
    assert [problem.what for problem in found.problems] == [
        "NVIDIA's driver does not start: error 999"
    ]


OLD_CUDA = {"STANDIN_VERSION": "12080"}
CASES = {
    # name: (machine, vendors with libraries, settings, what, do)
    "no NVIDIA driver": (
        lambda m: m.add_card(NVIDIA),
        (),
        {},
        "an NVIDIA GPU is there but its driver is not",
        "580 or later",
    ),
    "no permission on NVIDIA": (
        lambda m: m.add_nvidia(mode=0o660),
        ("cuda",),
        {"STANDIN_FAIL": "cuInit=100"},
        "no permission for /dev/nvidiactl, /dev/nvidia0",
        "sudo usermod -aG root $USER",
    ),
    "old NVIDIA driver": (
        lambda m: m.add_nvidia(),
        ("cuda",),
        OLD_CUDA,
        "NVIDIA's driver is of CUDA 12.8, expected 13.0 or later",
        "update NVIDIA's driver to 580 or later, or: pip install",
    ),
    "very old NVIDIA driver": (
        lambda m: m.add_nvidia(),
        ("cuda",),
        {"STANDIN_VERSION": "11040"},
        "NVIDIA's driver is of CUDA 11.4, expected 13.0 or later",
        "update NVIDIA's driver to 580 or later",
    ),
    "updated libraries under a running kernel": (
        lambda m: m.add_nvidia(),
        ("cuda",),
        {"STANDIN_FAIL": "cuInit=803"},
        "NVIDIA's kernel driver and its libraries are of different versions",
        "restart the machine",
    ),
    "no cuda-bindings": (
        lambda m: Machine(m.root, {}).add_nvidia(),
        ("cuda",),
        {},
        "the Python package cuda-bindings is missing",
        'pip install "flash-lsp[nvidia]"',
    ),
    "no NVRTC": (
        lambda m: Machine(m.root, {"cuda-bindings": "13.5"}).add_nvidia(),
        ("cuda",),
        {},
        "the Python package nvidia-cuda-nvrtc is missing",
        'pip install "flash-lsp[nvidia]"',
    ),
    "old NVIDIA GPU": (
        lambda m: m.add_nvidia(),
        ("cuda",),
        {"STANDIN_ARCH": "sm_75"},
        "Stand-in GeForce is sm_75; supported are sm_80 and later, gfx1100",
        "the processor is used instead",
    ),
    "no amdgpu": (
        lambda m: m.add_card(AMD),
        (),
        {},
        "an AMD GPU is there but the kernel's driver for it is not",
        "--device /dev/kfd --device /dev/dri",
    ),
    "no permission on AMD": (
        lambda m: m.add_amd(mode=0o660),
        ("hip",),
        {"STANDIN_DEVICES": "0"},
        "no permission for /dev/kfd, /dev/dri/renderD128",
        "sudo usermod -aG root $USER",
    ),
    "no ROCm": (
        lambda m: m.add_amd(),
        (),
        {},
        "an AMD GPU is there but ROCm's runtime, libamdhip64.so, is not found",
        "install ROCm 6.4 or later",
    ),
    "old ROCm": (
        lambda m: m.add_amd(),
        ("hip",),
        {"STANDIN_VERSION": "60032830"},
        "ROCm is 6.0, expected 6.4 or later",
        "update ROCm",
    ),
    "ROCm hides the GPU": (
        lambda m: m.add_amd(),
        ("hip",),
        {"STANDIN_DEVICES": "0"},
        "ROCm does not list the AMD GPU that is there",
        "HIP_VISIBLE_DEVICES",
    ),
    "ROCm does not start": (
        lambda m: m.add_amd(),
        ("hip",),
        {"STANDIN_FAIL": "hipInit=3"},
        "ROCm's runtime does not start: error 3",
        "rocminfo",
    ),
    "no hip-python": (
        lambda m: Machine(m.root, {}).add_amd(),
        ("hip",),
        {},
        "the Python package hip-python is missing",
        'pip install "flash-lsp[amd]"',
    ),
    "old AMD GPU": (
        lambda m: m.add_amd(gfx_version=90012),
        (),
        {},
        "the AMD GPU is gfx90c; supported are gfx1100",
        "the processor is used instead",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_in_the_way_is_named_with_a_remedy(name, machine, find) -> None:
    make, vendors, settings, what, do = CASES[name]
    found = find(make(machine), *vendors, **settings)
    assert len(found.problems) == 1, found
    assert found.problems[0].what.startswith(what)
    assert do in found.problems[0].do
    assert found.usable("auto") is None


def test_a_compiler_is_missed_only_where_no_object_spares_it(
    machine, standins, tmp_path, monkeypatch
) -> None:
    lone, objects = tmp_path / "lone", tmp_path / "objects"
    for folder in (lone, objects):
        folder.mkdir()
    shutil.copy(standins["hip"] / "libamdhip64.so", lone)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(lone))
    monkeypatch.setattr("engine.backends.gpu.discovery.OBJECTS", objects)
    (objects / "gfx1100-0123.hsaco").touch()
    found = discover(machine.add_amd())
    assert found.problems[0].what == "ROCm's run-time compiler, libhiprtc.so, is not found"
    assert found.problems[0].backend == "hip"
    (objects / "gfx1151-0123.hsaco").touch()
    assert discover(machine).problems == []


def test_a_driver_that_hangs_or_dies_is_a_problem_only_where_there_is_a_gpu(machine) -> None:
    class Deadly(Machine):
        def probe(self) -> Probe | None:
            return None

    assert discover(Deadly(machine.root)) == Discovery([], [])
    found = discover(Deadly(machine.root).add_amd())
    assert found.problems[0].what.startswith("a GPU driver ended or hung")
    assert found.gpus == []


def test_the_probe_survives_a_driver_that_ends_its_process(machine, tmp_path, monkeypatch) -> None:
    source = tmp_path / "deadly.c"
    source.write_text("#include <stdlib.h>\nint cuInit(unsigned f) { abort(); return (int)f; }\n")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert machine.probe() is None
