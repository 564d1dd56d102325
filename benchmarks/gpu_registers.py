"""Registers, shared memory, spills and occupancy of every GPU kernel, held to committed budgets.

    python -m benchmarks.gpu_registers [--arch sm_90] [--write]

Compiles native/gpu for each architecture, without a GPU. Fails on any spill, on registers or
shared memory above a budget, and on a kernel without one; an absent compiler is said and skipped.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from engine.backends.gpu import ahead
from engine.backends.gpu.source import UNITS, kernel_source

BUDGETS = Path(__file__).parent / "budgets"
NVIDIA = "sm_90"
_NVCC_OPTIONS = ("-cubin", "-fmad=false", "-std=c++17", "--resource-usage")
# Compute capability 9.0, of a scheduler: the file of 32-bit registers, and the most warps.
_FILE_REGISTERS, _MOST_WARPS, _GRANULE = 16384, 16, 8


class BudgetError(Exception):
    """A budget file cannot be used."""


class Usage(msgspec.Struct, frozen=True):
    """What one kernel takes.

    `spills` counts AMD's registers, vector and scalar, and NVIDIA's bytes stored and loaded;
    `occupancy` is the waves of a SIMD, or the warps of a scheduler as far as registers decide.
    """

    registers: int
    scalar_registers: int  # 0 on NVIDIA
    shared_bytes: int
    scratch_bytes: int  # of one thread
    spills: int
    occupancy: int


class Budget(msgspec.Struct, frozen=True):
    """The most a kernel may take. Nothing may ever spill."""

    registers: int
    shared_bytes: int


class Budgets(msgspec.Struct):
    """A committed file: one architecture, by the compiler that its figures are of."""

    compiler: str
    kernels: dict[str, Budget]


# ---- what compilers say ----


def of_clang(remarks: str) -> dict[str, Usage]:
    """From clang's -Rpass-analysis=kernel-resource-usage."""
    found: dict[str, dict[str, int]] = {}
    kernel: dict[str, int] = {}
    for name, value in re.findall(r"remark: +([^:\n]+): (\S+) \[-Rpass", remarks):
        if name == "Function Name":
            kernel = found[value] = {}
        elif value.isdigit():
            kernel[name] = int(value)
    return {
        name: Usage(
            registers=k["VGPRs"],
            scalar_registers=k.get("TotalSGPRs", k.get("SGPRs", 0)),
            shared_bytes=k["LDS Size [bytes/block]"],
            scratch_bytes=k["ScratchSize [bytes/lane]"],
            spills=k["VGPRs Spill"] + k["SGPRs Spill"],
            occupancy=k["Occupancy [waves/SIMD]"],
        )
        for name, k in found.items()
    }


_PTXAS = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


def of_ptxas(report: str) -> dict[str, Usage]:
    """From nvcc's --resource-usage."""
    found: dict[str, Usage] = {}
    for match in _PTXAS.finditer(report):
        registers = int(match["registers"])
        of_warp = 32 * (-(-registers // _GRANULE) * _GRANULE)
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        found[match["name"]] = Usage(
            registers=registers,
            scalar_registers=0,
            shared_bytes=int(shared[1]) if shared else 0,
            scratch_bytes=int(match["stack"]),
            spills=int(match["stores"]) + int(match["loads"]),
            occupancy=min(_FILE_REGISTERS // of_warp, _MOST_WARPS),
        )
    return found


# ---- compilers ----


def compiler_of(arch: str) -> str | None:
    return shutil.which("nvcc") if arch == NVIDIA else ahead.compiler()


def version_of(compiler: str) -> str:
    """As in "clang version 19.1.7" or "release 13.0", without what distributions add."""
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(?:clang version|release) [\d.]+", said)
    return found[0] if found else said.partition("\n")[0]


def measure(arch: str, compiler: str, source: str) -> dict[str, Usage]:
    """What each kernel of `source` takes. Raises CalledProcessError."""
    is_nvidia = arch == NVIDIA
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("kernels.cu" if is_nvidia else "kernels.hip")
        path.write_text(source, "utf-8")
        if is_nvidia:
            command = [compiler, f"-arch={arch}", *_NVCC_OPTIONS]
        else:
            command = [
                *ahead.command_of(compiler, arch),
                "-Rpass-analysis=kernel-resource-usage",
            ]
        done = subprocess.run(
            [*command, str(path), "-o", str(Path(folder) / "image")],
            capture_output=True,
            text=True,
            check=True,
        )
    # ptxas reports on one stream or the other, by version.
    return (of_ptxas if is_nvidia else of_clang)(done.stdout + done.stderr)


# ---- budgets ----


def path_of(arch: str) -> Path:
    return BUDGETS / f"{arch}.json"


def read(path: Path) -> Budgets:
    """Raises BudgetError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Budgets)
    except (OSError, msgspec.DecodeError) as error:
        raise BudgetError(f"could not read {path.name}: {error}; --write makes it") from error


def write(path: Path, compiler: str, usages: Mapping[str, Usage]) -> None:
    kernels = {
        name: Budget(usage.registers, usage.shared_bytes) for name, usage in sorted(usages.items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.encode(Budgets(compiler, kernels))
    path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def excesses(usages: Mapping[str, Usage], budgets: Mapping[str, Budget]) -> list[str]:
    """What is wrong, a sentence each: spills, more than a budget, no kernel or no budget."""
    found: list[str] = []
    for name, usage in usages.items():
        if usage.spills or usage.scratch_bytes:
            found.append(
                f"{name} spills {usage.spills} and has {usage.scratch_bytes} bytes of scratch, "
                "expected none"
            )
        budget = budgets.get(name)
        if budget is None:
            found.append(f"{name} has no budget; --write gives it one")
            continue
        for what, used, most in (
            ("registers", usage.registers, budget.registers),
            ("bytes of shared memory", usage.shared_bytes, budget.shared_bytes),
        ):
            if used > most:
                found.append(f"{name} takes {used} {what}, expected at most {most}")
    missing = sorted(budgets.keys() - usages.keys())
    return found + [f"{name} has a budget and was not compiled" for name in missing]


# ---- the report ----


def table(usages: Mapping[str, Usage]) -> str:
    columns = ("registers", "scalar", "shared", "scratch", "spills", "occupancy")
    lines = [f"{'kernel':<22}" + "".join(f"{column:>11}" for column in columns)]
    for name, usage in sorted(usages.items()):
        lines.append(f"{name:<22}" + "".join(f"{n:>11}" for n in msgspec.structs.astuple(usage)))
    return "\n".join(lines)


def check(arch: str, sources: Sequence[str], *, is_written: bool) -> list[str]:
    """Print the table of an architecture, and return what is wrong with it."""
    compiler = compiler_of(arch)
    if compiler is None:
        print(f"== {arch}: no compiler for it was found; not checked")
        return []
    version = version_of(compiler)
    usages: dict[str, Usage] = {}
    try:
        for source in sources:
            usages |= measure(arch, compiler, source)
    except subprocess.CalledProcessError as error:
        return [f"does not compile: {error.stderr[:2000]}"]
    print(f"== {arch}, {version}\n{table(usages)}\n", flush=True)
    if not usages:
        return [f"{version} said nothing about the kernels"]
    path = path_of(arch)
    if is_written:
        write(path, version, usages)
    try:
        budgets = read(path)
    except BudgetError as error:
        return [str(error)]
    found = excesses(usages, budgets.kernels)
    if found and budgets.compiler != version:
        found.append(f"the budgets are of {budgets.compiler}, this is {version}")
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    archs = (*ahead.ARCHS, NVIDIA)
    parser.add_argument("--arch", nargs="+", choices=archs, default=archs)
    parser.add_argument("--write", action="store_true", help="make this the budget")
    options = parser.parse_args(arguments)
    sources, failed = [kernel_source(unit) for unit in UNITS], False
    for arch in options.arch:
        for problem in check(arch, sources, is_written=options.write):
            failed = True
            print(f"{arch}: {problem}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
