"""Inner loops found in a disassembly; no compiler."""

import pytest

from benchmarks.gpu_loops import Loop, by_format, kept, loops_of
from engine.backends.gpu.packing import Format

# An outer loop around an inner one of three vector and two matrix instructions, then a loop without
# any matrix instruction. Branches count words from the instruction behind them.
DISASSEMBLY = """
0000000000001000 <linear_16>:
	s_mov_b32 s0, 0                                            // 000000001000: BE800080
	v_mov_b32_e32 v0, 0                                        // 000000001004: 7E000280
	v_wmma_i32_16x16x16_iu8 v[0:7], v[8:11], v[12:15], v[0:7]  // 000000001008: CC444000
	v_cvt_f32_i32_e32 v1, v1                                   // 000000001010: 7E020B01
	v_dual_fmac_f32 v2, v3, v4 :: v_dual_mov_b32 v5, v6        // 000000001014: C8000000
	global_load_b32 v7, v8, s[0:1]                             // 00000000101C: DC520000
	v_wmma_i32_16x16x16_iu8 v[0:7], v[8:11], v[12:15], v[0:7]  // 000000001024: CC444000
	v_add_nc_u32_e32 v9, 1, v9                                 // 00000000102C: 4A121281
	s_cbranch_scc1 65525                                       // 000000001030: BFA2FFF5
	s_cbranch_scc0 65523                                       // 000000001034: BFA1FFF3
	v_nop                                                      // 000000001038: 7E000000
	s_cbranch_vccnz 65534                                      // 00000000103C: BFA4FFFE
	s_endpgm                                                   // 000000001040: BFB00000

0000000000002000 <argmax>:
	s_endpgm                                                   // 000000002000: BFB00000
"""


def test_innermost_loops_with_matrix_instructions_are_counted() -> None:
    assert loops_of(DISASSEMBLY) == {"linear_16": [Loop(n_tiles=1, vector=3, matrix=2)]}


def test_formats_are_told_by_what_they_cost() -> None:
    loops = [Loop(1, n, 2) for n in (176, 40, 83, 60)]
    found = by_format("linear_16", loops)
    assert [found[kind.name].vector for kind in (Format.INT8, Format.INT4, Format.INT5)] == [
        40, 60, 83,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="3 loops"):
        by_format("linear_16", loops[:3])
    assert by_format("linear_half_16", loops[:1]) == {"HALF": loops[0]}


def test_the_kept_counts_have_every_kernel_and_format() -> None:
    found = kept("gfx1151")
    for n in (1, 2, 4):
        loops = found[f"linear_{16 * n}"] | found[f"linear_half_{16 * n}"]
        assert set(loops) == {kind.name for kind in Format if kind is not Format.FLOAT}
        assert all(loop.n_tiles == n and loop.matrix == 2 * n for loop in loops.values())
    for name, n in (("many", 8), ("narrow_many", 2)):
        assert {loop.n_tiles for loop in found[f"linear_{name}"].values()} == {n}
        assert found[f"linear_{name}"].keys() == found[f"linear_tall_{name}"].keys()
