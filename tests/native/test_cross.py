"""The kernels on other processors: ARM's, emulated by qemu, against this x86 machine's."""

import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / "tests/native/cross/print_kernels.cpp"
SHARED_SOURCES = (ROOT / "native/cpu/kernels.cpp", ROOT / "native/cpu/quants.cpp")
AVX2_FLAGS = ("-mavx2", "-mfma", "-mf16c")
AVX512_FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni")
# As in CMakeLists.txt.
FLAGS = ("-std=c++20", "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi")
X86_SETS = {
    "portable": ("-DKERNEL_PORTABLE",),
    "avx2": AVX2_FLAGS,
    "avx512": (*AVX2_FLAGS, *AVX512_FLAGS, "-Wno-maybe-uninitialized"),
}
ARM_SETS = {"portable": ("-DKERNEL_PORTABLE",), "neon": ("-march=armv8.2-a+dotprod",)}

HOST_COMPILER = shutil.which("c++")
CROSS_COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64")
# Processors with and without the dot product, and with little else beyond it.
WITH_DOT_PRODUCT, WITHOUT_DOT_PRODUCT = "cortex-a76", "cortex-a53"
UNAVAILABLE = 3  # the program's exit status for a set this processor lacks

# Sums of a few hundred products, relative to the largest result; the portable path fuses nothing.
TOLERANCE = 2e-5
INTEGER_CASES = ("quantize", "argmax", "top_k_ids", "to_half")

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="compares against an x86 machine"),
    pytest.mark.skipif(
        not (HOST_COMPILER and CROSS_COMPILER and EMULATOR),
        reason="needs c++, aarch64-linux-gnu-g++ and qemu-aarch64",
    ),
]

Results = dict[str, list[str]]


def build(compiler: str, sets: Mapping[str, tuple[str, ...]], folder: Path) -> Path:
    tables: list[Path] = []
    for isa, flags in sets.items():
        tables.append(folder / f"{isa}.o")
        source = ROOT / "native/cpu/kernels/table.cpp"
        command = [compiler, *FLAGS, *flags, f"-DKERNEL_ISA={isa}", "-c", source, "-o", tables[-1]]
        subprocess.run(command, check=True)
    program = folder / "print_kernels"
    command = [compiler, *FLAGS, "-static", PROGRAM, *SHARED_SOURCES, *tables, "-o", program]
    subprocess.run(command, check=True)
    return program


def output(command: list[str | Path]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode == UNAVAILABLE:
        pytest.skip(ended.stderr)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def parse(text: str) -> Results:
    lines = [line.split() for line in text.splitlines()]
    results = {name: values for name, *values in lines}
    assert len(results) == len(lines), "two cases share a name"
    return results


@pytest.fixture(scope="module")
def x86(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(str(HOST_COMPILER), X86_SETS, tmp_path_factory.mktemp("x86"))


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(str(CROSS_COMPILER), ARM_SETS, tmp_path_factory.mktemp("arm"))


def emulated(program: Path, processor: str, isa: str) -> str:
    return output([str(EMULATOR), "-cpu", processor, program, isa])


def assert_same_bits(found: Results, expected: Results) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def floats(values: list[str]) -> NDArray[np.float32]:
    return np.array([int(value, 16) for value in values], np.uint32).view(np.float32)


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_neon_equals_the_other_fused_paths_bit_for_bit(x86: Path, arm: Path, isa: str) -> None:
    expected = parse(output([x86, isa]))
    assert_same_bits(parse(emulated(arm, WITH_DOT_PRODUCT, "neon")), expected)


def test_the_portable_path_is_the_same_on_every_processor(x86: Path, arm: Path) -> None:
    expected = parse(output([x86, "portable"]))
    assert_same_bits(parse(emulated(arm, WITHOUT_DOT_PRODUCT, "portable")), expected)


def test_neon_agrees_with_the_portable_path(arm: Path) -> None:
    neon = parse(emulated(arm, WITH_DOT_PRODUCT, "neon"))
    portable = parse(emulated(arm, WITH_DOT_PRODUCT, "portable"))
    assert neon.keys() == portable.keys()
    for name, values in portable.items():
        if name.startswith(INTEGER_CASES):
            assert neon[name] == values, name
            continue
        expected = floats(values)
        assert np.isfinite(expected).all(), name
        limit = TOLERANCE * float(np.abs(expected).max())
        np.testing.assert_allclose(floats(neon[name]), expected, rtol=0, atol=limit, err_msg=name)


@pytest.mark.parametrize(
    ("processor", "isa"), [(WITH_DOT_PRODUCT, "neon"), (WITHOUT_DOT_PRODUCT, "portable")]
)
def test_neon_is_chosen_where_the_processor_has_the_dot_product(
    arm: Path, processor: str, isa: str
) -> None:
    assert emulated(arm, processor, "best").split() == [isa]


def test_every_weight_type_is_compared(arm: Path) -> None:
    listed = (ROOT / "native/cpu/quants.cpp").read_text("utf-8").split("kTypes[] = {")[1]
    types = [row.split('"')[1] for row in listed.split("};")[0].splitlines() if '"' in row]
    compared = {name.split(":")[1] for name in parse(emulated(arm, "max", "neon")) if ":" in name}
    assert len(types) > 10
    assert set(types) <= compared
