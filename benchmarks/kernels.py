"""The kernel workbench: how fast each operation is at real shapes, next to what the machine can do.

    python -m benchmarks.kernels [--isa NAME] [--threads 1,2] [--only TEXT]
                                 [--check [FOLDER] | --write [FOLDER]] [--json]

The roofline is measured on the spot: see `measure_peaks`. A share is the time that the machine's
limits allow over the time taken, so 100 % means that nothing can be gained.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.kernel_cases import Case, CaseSteps, Shape, all_cases, linear_case
from benchmarks.kernel_floors import (
    FloorError,
    Machine,
    Miss,
    Result,
    floors_of,
    misses,
    path_of,
    read,
    summarize,
    tightened,
    write,
)
from engine.backends.cpu import isa_name
from engine.errors import NativeError
from engine.machine import cpu_name
from engine.topology import read_topology
from lsp_server.cli_bench_machine import OtherUse, read_bytes_per_s

LEAST_RUN_S = 0.01  # a run repeats its step until it is this long
DEFAULT_CACHE_BYTES = 32 * 2**20
CACHES = 4  # weights rotate through as many: of twice a cache, some of it still hits
BUSY_SHARE = 0.05  # above it, the report warns that others were using the machine
TABLE_COLUMNS = 100

# A float32 product in BLAS on its own threads: a process of its own, so their number can be set.
_BLAS_PROBE = """
import time, numpy as np
a = np.ones((1024, 1024), np.float32)
best = 1e9
for _ in range(8):
    start = time.perf_counter(); a @ a; best = min(best, time.perf_counter() - start)
print(1024**3 / best)
"""
# Products of many rows with weights that stay in cache.
_INT8_PROBES = (Shape("Q8_0", 512, 512), Shape("Q4_0", 512, 512), Shape("Q4_K", 512, 512))
_INT8_PROBE_BYTES = 2**20


FLOORS = Path(__file__).parent / "floors"


class Peaks(msgspec.Struct):
    """What the machine can do with this many threads: the roofline."""

    read_bytes_per_s: float
    int8_macs_per_s: float
    float_macs_per_s: float

    def roofline_us(self, case: Case) -> float | None:
        """The least time for what a case must read and compute; None without a roofline."""
        if case.peak is None:
            return None
        macs_per_s = self.int8_macs_per_s if case.peak == "int8" else self.float_macs_per_s
        return max(case.n_bytes / self.read_bytes_per_s, case.n_macs / macs_per_s) * 1e6


class Report(msgspec.Struct):
    """All of a run; what --json prints."""

    machine: Machine
    peaks: Peaks
    least_bytes: int
    busy_share_of_others: float | None
    results: list[Result]


def measure_peaks(machine: Machine) -> Peaks:
    """Memory: NumPy's best pass over 256 MiB. float: BLAS's float32 product, with its threads
    limited to as many. int8: our own kernels with weights that stay in cache and 128 rows.

    `measure` raises each to what any case reached. So the int8 peak is our best kernel's: shares
    of it say which shapes lag behind, not what the silicon could do.
    """
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    n_threads = machine.threads
    threads = {name: str(n_threads) for name in names}
    probe = subprocess.run(
        [sys.executable, "-c", _BLAS_PROBE],
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        check=True,
    )
    int8 = 0.0
    for shape in _INT8_PROBES:
        case = linear_case(shape, 128)
        times_us = time_case(case, machine, 3, _INT8_PROBE_BYTES)
        int8 = max(int8, case.n_macs / min(times_us) * 1e6)
    return Peaks(read_bytes_per_s(n_threads), int8, float(probe.stdout))


def time_case(
    case: Case,
    machine: Machine,
    n_runs: int,
    least_bytes: float,
    clock: Callable[[], float] | None = None,
) -> list[float]:
    """Microseconds per operation of every run, after one that does not count.

    By the processor's time for one thread, which others on its core do not lengthen.
    """
    clock = clock or (process_time if machine.threads == 1 else perf_counter)
    steps = CaseSteps(case, machine.threads, least_bytes, machine.isa)
    steps.run()
    start_s = clock()
    steps.run()
    n_repeats = max(1, round(LEAST_RUN_S / max(clock() - start_s, 1e-9)))
    times_us: list[float] = []
    for _ in range(n_runs):
        start_s = clock()
        for _ in range(n_repeats):
            steps.run()
        times_us.append((clock() - start_s) * 1e6 / n_repeats / steps.n_copies)
    return times_us


def measure(
    cases: Iterable[Case],
    machine: Machine,
    n_runs: int,
    least_bytes: int,
    say: Callable[[str], object] = lambda _: None,
) -> Report:
    """Time every case, with the machine's peaks taken before and after."""
    others = OtherUse([])
    say("measuring the machine's peaks")
    before = measure_peaks(machine)
    timed: list[tuple[Case, list[float]]] = []
    for case in cases:
        say(case.name)
        timed.append((case, time_case(case, machine, n_runs, least_bytes)))
    say("measuring the machine's peaks again")
    peaks = _highest(before, measure_peaks(machine), timed)
    results = [
        summarize(case.name, times_us, case.n_bytes, case.n_macs, peaks.roofline_us(case))
        for case, times_us in timed
    ]
    return Report(machine, peaks, least_bytes, others.share(), results)


def _highest(before: Peaks, after: Peaks, timed: list[tuple[Case, list[float]]]) -> Peaks:
    """The best that was ever seen, so that no share exceeds 100 % by more than noise."""
    highest = Peaks(
        max(before.read_bytes_per_s, after.read_bytes_per_s),
        max(before.int8_macs_per_s, after.int8_macs_per_s),
        max(before.float_macs_per_s, after.float_macs_per_s),
    )
    for case, times_us in timed:
        per_s = 1e6 / median(times_us)
        if case.peak is not None and case.n_rows == 1:
            highest.read_bytes_per_s = max(highest.read_bytes_per_s, case.n_bytes * per_s)
        if case.peak == "int8":
            highest.int8_macs_per_s = max(highest.int8_macs_per_s, case.n_macs * per_s)
        if case.peak == "float":
            highest.float_macs_per_s = max(highest.float_macs_per_s, case.n_macs * per_s)
    return highest


def cache_bytes() -> int:
    """The last-level cache's size as Linux tells it, else a usual one."""
    kib = [
        int(path.read_text().strip().removesuffix("K"))
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    return max(kib) * 1024 if kib else DEFAULT_CACHE_BYTES


def show(report: Report) -> None:
    """The report as a table, and what a reader must know to trust it."""
    console = Console(highlight=False, markup=False, soft_wrap=True, width=TABLE_COLUMNS)
    machine, peaks = report.machine, report.peaks
    console.print(f"{machine.cpu} · {machine.isa} · {machine.threads} threads")
    console.print(
        f"reads {peaks.read_bytes_per_s / 1e9:.1f} GB/s · "
        f"int8 {peaks.int8_macs_per_s / 1e9:.0f} GMAC/s · "
        f"float {peaks.float_macs_per_s / 1e9:.0f} GMAC/s (measure_peaks says how)"
    )
    table = Table("", "µs", "least - most", "noise", "GB/s", "GMAC/s", "of roofline")
    for result in report.results:
        share = result.roofline_share
        table.add_row(
            result.name,
            f"{result.median_us:.1f}",
            f"{result.min_us:.1f} - {result.max_us:.1f}",
            f"{result.noise:.0%}",
            f"{result.gb_per_s:.1f}",
            f"{result.gmac_per_s:.1f}" if result.gmac_per_s else "-",
            "-" if share is None else f"{share:.0%}",
        )
    console.print(table)
    busy = report.busy_share_of_others
    if busy is not None and busy > BUSY_SHARE:
        console.print(f"Other processes used {busy:.0%} of the processors: measure again.")


def show_misses(found: list[Miss]) -> None:
    for miss in found:
        print(
            f"{miss.name}: {miss.us:.1f} µs, expected at most {miss.allowed_us:.1f}",
            file=sys.stderr,
        )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains it")
    parser.add_argument(
        "--isa", default="", metavar="NAME", help="avx512, avx2, neon or portable; default: best"
    )
    parser.add_argument(
        "--threads",
        type=thread_counts,
        default=[read_topology().default_threads(0)],
        metavar="N[,N]",
        help="one report for each; default: one per physical core",
    )
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="default: 7")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    floors = parser.add_mutually_exclusive_group()
    kept = {"type": Path, "nargs": "?", "const": FLOORS, "metavar": "FOLDER"}
    floors.add_argument("--check", help="fail below the floors kept there", **kept)
    floors.add_argument("--write", help="keep these there where they are faster", **kept)
    return parser.parse_args(arguments)


def thread_counts(text: str) -> list[int]:
    counts = [int(count) for count in text.split(",")]
    if min(counts) < 1:
        raise ValueError(text)
    return counts


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 if a case is below its floor, or 2 if there are no floors or no such kernels."""
    args = parse(arguments)
    try:
        machines = [Machine(cpu_name(), isa_name(args.isa), n) for n in args.threads]
        cases = [case for case in all_cases() if args.only in case.name]
        with Console(stderr=True).status("") as status:
            reports = [
                measure(cases, machine, args.runs, CACHES * cache_bytes(), status.update)
                for machine in machines
            ]
        if args.json:
            print(msgspec.json.encode(reports).decode())
        else:
            for report in reports:
                show(report)
        if args.write:
            for report in reports:
                keep(args.write, report)
        return max(check(args.check, report) for report in reports) if args.check else 0
    except (FloorError, NativeError) as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 2


def keep(folder: Path, report: Report) -> None:
    """Makes the report's cases the floors unless there are faster ones."""
    path = path_of(folder, report.machine)
    floors = floors_of(report.machine, report.results, report.busy_share_of_others)
    write(path, tightened(read(path), floors) if path.exists() else floors)


def check(folder: Path, report: Report) -> int:
    """1 if a case is below its floor, else 0. Raises FloorError."""
    found = misses(read(path_of(folder, report.machine)), report.machine, report.results)
    show_misses(found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
