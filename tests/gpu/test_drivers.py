"""The vendors' real Python packages, through every call of our drivers, over stand-in libraries."""

import ast
from pathlib import Path

import pytest

from engine.backends.gpu.cuda import CudaDriver
from engine.backends.gpu.driver import Driver
from engine.backends.gpu.emulated import EmulatedDriver
from engine.backends.gpu.hip import HipDriver
from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.engine import Engine
from tests.gpu.standin.exercise import GENERATION
from tests.gpu.standin.libraries import Standin
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.timeout(200)
DEVICES = {
    "hip": ["Stand-in Radeon", "gfx1151", True],
    "cuda": ["Stand-in GeForce", "sm_90", False],
}
SAYS = {"hip": "HIP says <hipError_t.hipError", "cuda": "CUDA says <CUresult.CUDA_ERROR_"}
# What the calls are named in each vendor's library.
CALLS = {
    "launch": {"hip": "hipModuleLaunchKernel", "cuda": "cuLaunchKernelEx"},
    "wait": {"hip": "hipStreamSynchronize", "cuda": "cuStreamSynchronize"},
    "upload": {"hip": "hipMemcpyAsync", "cuda": "cuMemcpyHtoDAsync_v2"},
    "open": {"hip": "hipInit", "cuda": "cuInit"},
}


def test_every_call_works_alone_and_recorded(standin: Standin) -> None:
    name, device, arch, is_unified, compiler = ast.literal_eval(standin.run("every-call"))
    assert [name, device, arch, is_unified] == [standin.backend, *DEVICES[standin.backend]]
    assert compiler.startswith({"hip": "hiprtc ", "cuda": "nvrtc "}[standin.backend])


def test_the_compiler_is_asked_for_the_devices_architecture(standin: Standin, tmp_path) -> None:
    log = tmp_path / "log"
    arch = {"hip": "gfx1100", "cuda": "sm_120"}[standin.backend]
    standin.run("every-call", STANDIN_ARCH=arch, STANDIN_COMPILATIONS=str(log))
    option = {"hip": "--offload-arch=", "cuda": "--gpu-architecture="}[standin.backend]
    assert log.read_text().startswith(option + arch + " ")


def test_features_of_an_architecture_are_no_part_of_its_name(standin: Standin) -> None:
    if standin.backend == "cuda":
        pytest.skip("AMD's affair")
    found = ast.literal_eval(standin.run("every-call", STANDIN_ARCH="gfx1151:sramecc-:xnack-"))
    assert found[2] == "gfx1151"


def test_memory_that_is_not_there_is_asked_for_in_vain(standin: Standin) -> None:
    found = standin.run("too-much", STANDIN_MEMORY=str(2**26))
    assert found.startswith("DeviceMemoryError: needs 1048576 MiB but 64 MiB are free (on Stand-in")


@pytest.mark.parametrize("code", [700, 719, 999])
@pytest.mark.parametrize("call", ["wait", "upload"])
def test_a_lost_device_stays_lost(standin: Standin, call: str, code: int) -> None:
    fail = f"{CALLS[call][standin.backend]}={code}"
    found = standin.run("until-lost", STANDIN_FAIL=fail)
    assert found.startswith("DeviceLostError: "), found
    assert SAYS[standin.backend] in found
    assert f": {code}>" in found


def test_work_on_anothers_memory_loses_the_device(standin: Standin) -> None:
    assert standin.run("outside").startswith("DeviceLostError: waiting for the device: ")


def test_a_kernel_that_traps_loses_the_device(standin: Standin) -> None:
    fail = f"{CALLS['launch'][standin.backend]}=719"
    assert standin.run("every-call", STANDIN_FAIL=fail).startswith("DeviceLostError: launching: ")


def test_a_device_that_does_not_open_is_no_device(standin: Standin) -> None:
    found = standin.run("nothing", STANDIN_FAIL=f"{CALLS['open'][standin.backend]}=100")
    assert found.startswith(f"NoDeviceError: no GPU can be used: {standin.backend}: opening")
    assert found.endswith("see what flash-lsp doctor says")


def test_refused_source_says_where_it_is_wrong(standin: Standin) -> None:
    found = standin.run("bad-source")
    assert found.startswith("CompileError: compiling the GPU kernels: ")
    assert "unknown_name" in found


def test_what_cannot_be_loaded_is_an_error_of_ours(standin: Standin) -> None:
    assert standin.run("bad-image").startswith("NativeError: loading the kernels: ")
    assert standin.run("bad-name").startswith("NativeError: unknown_kernel: ")


def test_a_missing_library_is_no_device(standin: Standin, tmp_path) -> None:
    without = Standin(standin.backend, tmp_path, standin.package, tmp_path)
    assert without.run("nothing").startswith("NoDeviceError: no GPU can be used: ")


@pytest.mark.parametrize("backend", ["hip", "cuda"])
def test_a_missing_package_is_no_device(backend: str, tmp_path) -> None:
    (tmp_path / backend).mkdir()  # a package without the modules it should have
    (tmp_path / backend / "__init__.py").write_text("")
    found = Standin(backend, tmp_path, tmp_path, tmp_path).run("nothing")
    assert found.startswith(f"NoDeviceError: no GPU can be used: {backend}: ")


@pytest.mark.parametrize("standin", ["hip-7.2", "hip-10", "cuda-13"], indirect=True)
def test_a_model_runs_and_its_tokens_are_the_processors(
    standin: Standin, tiny: Path, cpu_tokens: str
) -> None:
    assert standin.run("generate", str(tiny)) == cpu_tokens


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return write_tiny_gguf(folder / "tiny.gguf", "qwen2", "Q8_0", n_ctx=256)


@pytest.fixture(scope="module")
def cpu_tokens(tiny: Path) -> str:
    engine = Engine.load(EngineConfig(model=str(tiny), speculation="off"))
    return str(engine.generate(GENERATION, CancelToken()).tokens)


@pytest.mark.parametrize("driver", [HipDriver, CudaDriver, EmulatedDriver])
def test_drivers_have_what_the_interface_asks_for(driver: type) -> None:
    wanted = {name for name in dir(Driver) if not name.startswith("_")}
    assert wanted - set(dir(driver)) == set()
