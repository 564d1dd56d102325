"""Floors of the kernel workbench: speeds once measured, and when a run falls below them."""

import re
from pathlib import Path
from statistics import median

import msgspec

LEAST_NOISE = 0.1  # runs minutes apart differ by more than the runs of one minute


class FloorError(Exception):
    """A floor file cannot be used for this run."""


class Result(msgspec.Struct):
    """A case's time per operation over all runs, and what that means.

    `noise` is the spread of the runs without the fastest and the slowest, as a share of the median.
    """

    name: str
    median_us: float
    min_us: float
    max_us: float
    noise: float
    runs: int
    gb_per_s: float
    gmac_per_s: float
    roofline_share: float | None  # None: no roofline for it


class Machine(msgspec.Struct):
    """What the figures depend on."""

    cpu: str
    isa: str
    threads: int


class Floor(msgspec.Struct):
    """A case's median, and how far slower than it a run may be by noise, as a share of speed."""

    us: float
    noise: float


class Floors(msgspec.Struct):
    """A committed floor file: one machine, all cases.

    `busy_share_of_others` says how busy others kept the machine in the busiest of the runs that the
    floors were taken from; None where it is unknown.
    """

    machine: Machine
    busy_share_of_others: float | None
    cases: dict[str, Floor]


class Miss(msgspec.Struct):
    """A case that was slower than its floor allows."""

    name: str
    us: float
    allowed_us: float


def summarize(
    name: str, times_us: list[float], n_bytes: float, n_macs: float, roofline_us: float | None
) -> Result:
    """A case's result from its runs; bytes and multiply-accumulates are per operation."""
    middle_us = median(times_us)
    inner_us = sorted(times_us)[1:-1] or [middle_us]
    return Result(
        name=name,
        median_us=middle_us,
        min_us=min(times_us),
        max_us=max(times_us),
        noise=(inner_us[-1] - inner_us[0]) / middle_us,
        runs=len(times_us),
        gb_per_s=n_bytes / middle_us / 1e3,
        gmac_per_s=n_macs / middle_us / 1e3,
        roofline_share=None if roofline_us is None else roofline_us / middle_us,
    )


def floors_of(
    machine: Machine, results: list[Result], busy_share_of_others: float | None = None
) -> Floors:
    cases = {
        result.name: Floor(
            us=round(result.median_us, 3), noise=round(max(result.noise, LEAST_NOISE), 3)
        )
        for result in results
    }
    busy = busy_share_of_others
    return Floors(machine, None if busy is None else round(busy, 3), cases)


def tightened(kept: Floors, found: Floors) -> Floors:
    """The faster floor of each case: what others do to a run only ever slows it."""
    cases = dict(kept.cases)
    for name, floor in found.cases.items():
        cases[name] = min(floor, cases.get(name, floor), key=lambda either: either.us)
    shares = [f.busy_share_of_others for f in (kept, found) if f.busy_share_of_others is not None]
    return Floors(found.machine, max(shares, default=None), cases)


def path_of(folder: Path, machine: Machine) -> Path:
    """Where that machine's floors are kept."""
    name = "-".join(re.findall(r"[a-z0-9]+", machine.cpu.lower()))
    return folder / f"{name}-{machine.isa}-{machine.threads}.json"


def write(path: Path, floors: Floors) -> None:
    """Write JSON that a diff can be read of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(floors), indent=1) + b"\n")


def read(path: Path) -> Floors:
    """Raises FloorError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Floors)
    except (OSError, msgspec.DecodeError) as error:
        raise FloorError(f"could not read the floors of {path}: {error}") from error


def misses(floors: Floors, machine: Machine, results: list[Result]) -> list[Miss]:
    """The cases slower than their floor by more than its noise; cases without a floor pass.

    Raises FloorError if the floors are another machine's, or none of the cases has one.
    """
    if floors.machine != machine:
        raise FloorError(f"the floors are of {floors.machine}, this run is of {machine}")
    known = [result for result in results if result.name in floors.cases]
    if not known:
        raise FloorError("none of the cases measured has a floor; write them with --write")
    found: list[Miss] = []
    for result in known:
        floor = floors.cases[result.name]
        # A speed of (1 - noise) of the floor's, said as a time.
        allowed_us = floor.us / max(1 - floor.noise, 0.1)
        if result.median_us > allowed_us:
            found.append(Miss(result.name, result.median_us, allowed_us))
    return found
