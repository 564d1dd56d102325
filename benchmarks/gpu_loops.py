"""Instructions of the matrix kernels' inner loops, counted in what a compiler makes of them.

    python -m benchmarks.gpu_loops --arch gfx1151 --write

Needs a clang with AMD's targets and its llvm-objdump, and no GPU. `--write` keeps the counts in
benchmarks/measured/ARCH-loops.json, from which benchmarks.strix_halo takes them.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.backends.gpu.ahead import compile_ahead
from engine.backends.gpu.packing import Format
from engine.backends.gpu.source import kernel_source
from engine.errors import CompileError

MEASURED = Path(__file__).parent / "measured"
# A kernel has one loop for each format; these are in the order of their vector instructions.
_BY_COST = (Format.INT8, Format.INT4, Format.INT5, Format.INT6)
# Halves have kernels of their own.
_OF_HALVES = (Format.HALF,)
# Tiles that a warp multiplies at once, where a kernel's name does not say how many rows they have.
_MANY_TILES = {"many": 2 * 4, "narrow_many": 1 * 2}  # native/gpu/linear_many.h
_INSTRUCTION = re.compile(r"\s+(?P<op>\w+)\s*(?P<to>-?\d+)?.*?//\s*(?P<address>[0-9A-F]+):")


class Loop(msgspec.Struct, frozen=True):
    """Vector and matrix instructions of one block of 32 columns of `n_tiles` tiles; a turn of the
    loop may do several."""

    n_tiles: int
    vector: int
    matrix: int


def loops_of(disassembly: str) -> dict[str, list[Loop]]:
    """Innermost loops with matrix instructions, by kernel, from `llvm-objdump -d`."""
    found: dict[str, list[Loop]] = {}
    for part in re.split(r"^(?=[0-9a-f]+ <\w+>:$)", disassembly, flags=re.MULTILINE):
        name = re.match(r"[0-9a-f]+ <(\w+)>:", part)
        rows = re.search(r"<linear(?:_tall)?(?:_half)?_(\d+|(?:narrow_)?many)>:", part)
        if name and rows:
            n_tiles = _MANY_TILES.get(rows[1]) or max(int(rows[1]) // 16, 1)
            found[name[1]] = _loops(part, n_tiles)
    return found


def _loops(kernel: str, n_tiles: int) -> list[Loop]:
    of_block = 2 * n_tiles  # matrix instructions: two halves of 16 columns for each tile
    rows = [m for line in kernel.splitlines() if (m := _INSTRUCTION.match(line))]
    at = {int(row["address"], 16): i for i, row in enumerate(rows)}
    turns = [
        range(begin, i + 1)
        for i, row in enumerate(rows)
        if (begin := _begin_of_loop(row, at, i)) is not None
        and any("wmma" in other["op"] for other in rows[begin : i + 1])
    ]
    found: list[Loop] = []
    for turn in turns:
        if any(other[0] in turn and other[-1] in turn for other in turns if other != turn):
            continue
        ops = [rows[i]["op"] for i in turn]
        matrix = sum("wmma" in op for op in ops)
        vector = sum(op.startswith("v_") for op in ops) - matrix
        found.append(Loop(n_tiles, round(vector * of_block / matrix), of_block))
    return found


def _begin_of_loop(row: re.Match[str], at: Mapping[int, int], i: int) -> int | None:
    """Where instruction i branches back to."""
    if not row["op"].startswith(("s_cbranch", "s_branch")) or row["to"] is None:
        return None
    words = int(row["to"])
    target = int(row["address"], 16) + 4 + 4 * (words - 2**16 if words >= 2**15 else words)
    begin = at.get(target, i)
    return begin if begin < i else None


def by_format(kernel: str, loops: list[Loop]) -> dict[str, Loop]:
    """Raises ValueError where a kernel has not one loop for each of its formats."""
    formats = _OF_HALVES if "_half_" in kernel else _BY_COST
    if len(loops) != len(formats):
        raise ValueError(f"{len(loops)} loops, expected one for each of {len(formats)} formats")
    ordered = sorted(loops, key=lambda loop: loop.vector)
    return {kind.name: loop for kind, loop in zip(formats, ordered, strict=True)}


def disassemble(image: bytes) -> str:
    """Raises CompileError."""
    program = shutil.which("llvm-objdump-19") or shutil.which("llvm-objdump")
    if program is None:
        raise CompileError("no llvm-objdump: install llvm-19")
    with tempfile.NamedTemporaryFile(suffix=".hsaco") as file:
        file.write(image)
        file.flush()
        return subprocess.run([program, "-d", file.name], capture_output=True, text=True).stdout


def kept(arch: str) -> dict[str, dict[str, Loop]]:
    """By kernel and format."""
    path = MEASURED / f"{arch}-loops.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Loop]])


def show(found: Mapping[str, Mapping[str, Loop]]) -> None:
    for kernel, loops in found.items():
        for kind, loop in loops.items():
            print(f"{kernel:16} {kind:5} {loop.vector:4} vector {loop.matrix:3} matrix")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="gfx1151")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    loops = loops_of(disassemble(compile_ahead(args.arch, kernel_source())))
    found = {kernel: by_format(kernel, some) for kernel, some in loops.items()}
    show(found)
    if args.write:
        path = MEASURED / f"{args.arch}-loops.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
