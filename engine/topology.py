"""Which processors there are to compute on: physical cores, memory nodes, and what a container
leaves of them. Says how many threads; pins none."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Cpus = frozenset[int]


@dataclass(frozen=True)
class Node:
    """A part of the memory and the processors close to it (NUMA)."""

    number: int
    cpus: Cpus
    available_bytes: int


@dataclass(frozen=True)
class Topology:
    """`cpus` are the logical processors this process may run on; `cores` groups those that share a
    physical core. `quota` is the processor time its container grants, in processors."""

    cpus: Cpus
    cores: tuple[Cpus, ...]
    nodes: tuple[Node, ...]
    quota: float | None

    @property
    def most_threads(self) -> int:
        """More than these would spend the time waiting for each other."""
        return self._within_quota(len(self.cpus))

    def default_threads(self, model_bytes: int) -> int:
        """One for each physical core: a second one on the same core only shares its arithmetic.

        With several nodes, one for each core of the largest that has room for the model: memory is
        placed where it is first used, and the other nodes would read it across their link.
        """
        n_cores = len(self.cores)
        counts = [
            sum(1 for core in self.cores if core & node.cpus)
            for node in self.nodes
            if node.available_bytes >= model_bytes
        ]
        if len(self.nodes) > 1 and max(counts, default=0) > 0:
            n_cores = max(counts)
        return self._within_quota(n_cores)

    def _within_quota(self, n_threads: int) -> int:
        return n_threads if self.quota is None else min(n_threads, max(int(self.quota), 1))


def read_topology(root: Path = Path("/"), affinity: Iterable[int] | None = None) -> Topology:
    """This machine as /sys and /proc under `root` describe it; where they do not, every logical
    processor counts as a core. `affinity` is asked of the system if not given."""
    cpus = frozenset(_affinity() if affinity is None else affinity)
    return Topology(cpus, _cores(root, cpus), _nodes(root, cpus), _quota(root))


def parse_cpu_list(text: str) -> Cpus:
    """The kernel's list format: "0-3,8,10-11"."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _affinity() -> Iterable[int]:
    affinity = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity else range(os.cpu_count() or 1)


def _cores(root: Path, cpus: Cpus) -> tuple[Cpus, ...]:
    cores: set[Cpus] = set()
    for cpu in cpus:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = _read(folder / "core_cpus_list") or _read(folder / "thread_siblings_list")
        cores.add(parse_cpu_list(siblings or str(cpu)) & cpus)
    return tuple(sorted(cores, key=min))


def _nodes(root: Path, cpus: Cpus) -> tuple[Node, ...]:
    """The nodes some of whose processors may be used."""
    nodes: list[Node] = []
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        usable = parse_cpu_list(_read(folder / "cpulist") or "") & cpus
        if usable:
            number = int(folder.name.removeprefix("node"))
            nodes.append(Node(number, usable, _available_bytes(folder / "meminfo")))
    return tuple(sorted(nodes, key=lambda node: node.number))


def _available_bytes(meminfo: Path) -> int:
    """What is free, and the file cache, which gives way and holds mapped weights already."""
    total = 0
    for line in (_read(meminfo) or "").splitlines():
        # "Node 0 MemFree:  1024 kB"
        words = line.split()
        if len(words) >= 4 and words[2] in ("MemFree:", "FilePages:"):
            total += int(words[3]) * 1024
    return total


def _quota(root: Path) -> float | None:
    """The tightest of the limits of this process's control groups, of either version."""
    quotas: list[float] = []
    for line in (_read(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, read = root / "sys/fs/cgroup", _quota_of_group
        elif "cpu" in controllers.split(","):
            base, read = root / "sys/fs/cgroup" / controllers, _quota_of_old_group
        else:
            continue
        own = base / path.lstrip("/")
        # Inside a container the path may be the host's and not be there; the base always counts.
        for group in (own, *own.parents):
            if group.is_relative_to(base) and (quota := read(group)) is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _quota_of_group(group: Path) -> float | None:
    share, _, period = (_read(group / "cpu.max") or "max").partition(" ")
    return None if share == "max" else int(share) / int(period or 100_000)


def _quota_of_old_group(group: Path) -> float | None:
    share, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    if share is None or period is None or int(share) <= 0:
        return None
    return int(share) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
