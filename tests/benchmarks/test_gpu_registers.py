"""The budgets of GPU kernels, over what compilers say; none is run here."""

import re
from pathlib import Path

import pytest

from benchmarks import gpu_registers
from benchmarks.gpu_registers import Budget, Usage, excesses, of_clang, of_ptxas
from engine.backends.gpu import ahead
from engine.backends.gpu.source import Q8_KERNELS, kernel_source

CLANG = """\
k.hip:771:1: remark: Function Name: embed [-Rpass-analysis=kernel-resource-usage]
  771 | KERNEL(embed, kRowThreads, EmbedArgs) {
      | ^
k.hip:771:1: remark:     SGPRs: 20 [-Rpass-analysis=kernel-resource-usage]
k.hip:771:1: remark:     VGPRs: 14 [-Rpass-analysis=kernel-resource-usage]
k.hip:771:1: remark:     ScratchSize [bytes/lane]: 152 [-Rpass-analysis=kernel-resource-usage]
k.hip:771:1: remark:     Dynamic Stack: False [-Rpass-analysis=kernel-resource-usage]
k.hip:771:1: remark:     Occupancy [waves/SIMD]: 16 [-Rpass-analysis=kernel-resource-usage]
k.hip:771:1: remark:     SGPRs Spill: 3 [-Rpass-analysis=kernel-resource-usage]
k.hip:771:1: remark:     VGPRs Spill: 4 [-Rpass-analysis=kernel-resource-usage]
k.hip:771:1: remark:     LDS Size [bytes/block]: 64 [-Rpass-analysis=kernel-resource-usage]
"""
PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'linear_64' for 'sm_90'
ptxas info    : Function properties for linear_64
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 130 registers, used 1 barriers, 8704 bytes smem
ptxas info    : Compile time = 336.081 ms
ptxas info    : Compiling entry function 'embed' for 'sm_90'
ptxas info    : Function properties for embed
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 0 barriers
"""
GOOD = Usage(registers=40, scalar_registers=9, shared_bytes=64, scratch_bytes=0, spills=0,
             occupancy=16)  # fmt: skip


def usage(**changed: int) -> dict[str, Usage]:
    fields = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__}
    return {"linear": Usage(**{**fields, **changed})}


def test_what_clang_says() -> None:
    assert of_clang(CLANG) == {"embed": Usage(14, 20, 64, 152, 7, 16)}


def test_what_ptxas_says() -> None:
    assert of_ptxas(PTXAS) == {
        "linear_64": Usage(130, 0, 8704, 8, 16, 3),
        "embed": Usage(24, 0, 0, 0, 0, 16),
    }


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"registers": 41}, "41 registers, expected at most 40"),
        ({"shared_bytes": 65}, "65 bytes of shared memory, expected at most 64"),
        ({"spills": 1}, "spills 1"),
        ({"scratch_bytes": 16}, "16 bytes of scratch"),
    ],
)
def test_more_than_the_budget_is_said(changed: dict[str, int], problem: str) -> None:
    (found,) = excesses(usage(**changed), {"linear": Budget(40, 64)})
    assert problem in found


def test_within_the_budget_all_is_well() -> None:
    assert excesses(usage(), {"linear": Budget(40, 64)}) == []


def test_kernels_and_budgets_must_match() -> None:
    unknown, missing = excesses(usage(), {"gone": Budget(1, 0)})
    assert unknown.startswith("linear has no budget")
    assert missing.startswith("gone has a budget")


def test_what_is_written_is_what_is_held(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    gpu_registers.write(path, "clang version 19", usage())
    budgets = gpu_registers.read(path)
    assert budgets.compiler == "clang version 19"
    assert excesses(usage(), budgets.kernels) == []


def test_a_budget_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(gpu_registers.BudgetError, match="--write"):
        gpu_registers.read(tmp_path / "none.json")


def test_an_absent_compiler_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert gpu_registers.main([]) == 0
    assert capsys.readouterr().out.count("not checked") == 4


@pytest.mark.parametrize("arch", [*ahead.ARCHS, gpu_registers.NVIDIA])
def test_every_architecture_has_a_budget_for_every_kernel(arch: str) -> None:
    # AMD's devices have no clusters.
    kinds = "DENSE_|CLUSTER_" if arch == gpu_registers.NVIDIA else "DENSE_"
    declared = re.compile(rf"^(?:{kinds})?(KV_)?KERNEL\((\w+),", re.MULTILINE)
    kernels = {name for _, name in declared.findall(kernel_source())}
    of_q8 = declared.findall(kernel_source(Q8_KERNELS))
    assert all(is_of_kv for is_of_kv, _ in of_q8)  # the others are not compiled again
    kernels |= {f"{name}_q8" for _, name in of_q8}
    assert set(gpu_registers.read(gpu_registers.path_of(arch)).kernels) == kernels
