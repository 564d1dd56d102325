"""Rates of devices: an NVIDIA GPU's from what benchmarks.gpu measured on it, Strix Halo's from its
published limits and from shares of them that are measured elsewhere or assumed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gpu_loops import Loop
from benchmarks.roofline import KERNELS, PREFILL_ROWS, Rates, count
from engine.backends.gpu.packing import Format
from engine.program import Program


@dataclass(frozen=True)
class Limits:
    """What a device can do at most. `cycles_per_s` are of all its SIMDs together (NVIDIA: of its
    schedulers), each of which issues one instruction of 32 lanes a cycle."""

    bytes_per_s: float
    cache_bytes: int
    cycles_per_s: float
    matrix_flops: float


LIMITS = {
    # 132 multiprocessors of 4 schedulers at 1.755 GHz; 50 MB of L2; int8 through mma.
    "NVIDIA H100 80GB HBM3": Limits(3352e9, 50 * 10**6, 132 * 4 * 1.755e9, 1979e12),
    "NVIDIA H200": Limits(4800e9, 50 * 10**6, 132 * 4 * 1.755e9, 1979e12),
    # 40 units of 2 SIMDs at 2.9 GHz; 32 MB beside the memory; WMMA, the same for f16 and int8.
    "gfx1151": Limits(256e9, 32 * 10**6, 40 * 2 * 2.9e9, 59.4e12),
}
STRIX = LIMITS["gfx1151"]
# WMMA of 16 x 16 x 16: 8,192 operations at 512 a cycle and unit, of two SIMDs.
MATRIX_CYCLES = 32
COPY_SHARE = 215 / 256  # what copies reach of Strix Halo's bandwidth (SPEC B.10)
MATRIX_SHARE = 0.4  # of good kernels (SPEC B.10)
# What copies that run beside the work, which AMD's kernels do without, were worth on an H200 for
# prompts: gates and ups of the 1.5B took 324 us before and 197 with them, attention 862 and 504.
BESIDE_LINEAR, BESIDE_ATTENTION = 1.65, 1.71
GAP_US = 5.0  # between two launches on RDNA 3, at most (SPEC G.5: 3 to 5)


@dataclass(frozen=True)
class Measured:
    """What the kernels reach on an NVIDIA GPU. `tile_cycles` are spent on a tile's products
    (roofline.Work), stalls included."""

    device: str
    launch_us: float
    bytes_per_s: float
    tile_cycles: float
    attention_flops_per_s: float

    @property
    def limits(self) -> Limits:
        return LIMITS[self.device]

    def rates(self) -> Rates:
        return Rates(
            launch_us=self.launch_us,
            bytes_per_s=self.bytes_per_s,
            cache_bytes=self.limits.cache_bytes,
            cycles_per_s=self.limits.cycles_per_s,
            cycles={(kernel, kind): self.tile_cycles for kernel in KERNELS for kind in Format},
            attention_flops_per_s=self.attention_flops_per_s,
        )


def measured(report: dict[str, Any], program: Program) -> Measured:
    """From a report of benchmarks.gpu over `program`.

    Bytes per second: the slope of the linear launches' times over their weights. Cycles of a tile
    and the speed of attention: what prompts take per token, a line over their lengths. Launches
    take what is left of a step of one row.
    """
    device = report["device"]
    limits = LIMITS[device]
    linears = [row for row in report["launches"]["1"] if row["weight_bytes"]]
    slope = np.polyfit([r["weight_bytes"] for r in linears], [r["us"] for r in linears], 1)[0]
    speeds = {int(k[2:]): v for k, v in report["speeds"].items() if k.startswith("pp")}
    per_pair, per_token = np.polyfit(list(speeds), [1 / speed for speed in speeds.values()], 1)
    chunk = count(program, PREFILL_ROWS, 0, 1)
    n_tiles = sum(sum(work.tiles.values()) for work in chunk) / PREFILL_ROWS
    n_launches = sum(work.n_launches for work in chunk)
    pair_flops = sum(w.attention_flops for w in count(program, 10**6, 0, 1)) / 1e12
    one = count(program, 1, report["verify_past"], 1)
    launch_us = 0.0
    for _ in range(10):  # what prompts spend on launches depends on it
        token_s = per_token - launch_us / 1e6 * n_launches / PREFILL_ROWS
        found = Measured(
            device=device,
            launch_us=launch_us,
            bytes_per_s=float(1e6 / slope),
            tile_cycles=float(token_s * limits.cycles_per_s / n_tiles),
            attention_flops_per_s=float(pair_flops / per_pair),
        )
        left_s = report["step_ms"]["1"] / 1e3 - found.rates().step_s(one)
        launch_us += left_s * 1e6 / sum(work.n_launches for work in one)
    return found


def strix_halo(found: Measured, loops: dict[str, dict[str, Loop]], *, is_best: bool) -> Rates:
    """Between these two the truth should lie.

    At best copies' bandwidth is reached, a tile takes the instructions of the compiled loop, one a
    cycle and none of them waited for, and launches take what they take on NVIDIA's. At worst the
    share of the bandwidth is NVIDIA's, a tile takes the cycles that it took there without copies
    that run beside the work, as attention does, and those of its matrix instructions besides, and
    launches wait for each other.
    """
    limits, theirs = STRIX, found.limits
    alone = found.attention_flops_per_s / BESIDE_ATTENTION
    waiting = limits.cycles_per_s / theirs.cycles_per_s * alone
    cycles: dict[tuple[str, Format], float] = {}
    for kernel in KERNELS:
        of_formats = loops[f"linear_{kernel}"] | loops.get(f"linear_half_{kernel}", {})
        for name, loop in of_formats.items():
            matrix = loop.matrix * MATRIX_CYCLES / loop.n_tiles
            vector = loop.vector / loop.n_tiles
            own = vector if is_best else max(BESIDE_LINEAR * found.tile_cycles, vector)
            cycles[kernel, Format[name]] = own + matrix
    share = COPY_SHARE if is_best else min(found.bytes_per_s / theirs.bytes_per_s, COPY_SHARE)
    worst_attention = 1 / (1 / waiting + 1 / limits.matrix_flops)
    return Rates(
        launch_us=found.launch_us + (0 if is_best else GAP_US),
        bytes_per_s=share * limits.bytes_per_s,
        cache_bytes=limits.cache_bytes,
        cycles_per_s=limits.cycles_per_s,
        cycles=cycles,
        attention_flops_per_s=MATRIX_SHARE * limits.matrix_flops if is_best else worst_attention,
    )
