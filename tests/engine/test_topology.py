"""Cores, memory nodes and quotas, read from made-up machines."""

from pathlib import Path

import pytest

from engine.topology import parse_cpu_list, read_topology

GIB = 2**30


class Machine:
    """Files of /sys and /proc below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")

    def core(self, *cpus: int, name: str = "core_cpus_list") -> None:
        for cpu in cpus:
            listed = ",".join(map(str, cpus))
            self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/{name}", listed)

    def node(self, number: int, cpus: str, free_gib: int, cached_gib: int = 0) -> None:
        folder = f"sys/devices/system/node/node{number}"
        self.write(f"{folder}/cpulist", cpus)
        lines = [
            f"Node {number} MemTotal:       99999999 kB",
            f"Node {number} MemFree:        {free_gib * GIB // 1024} kB",
            f"Node {number} FilePages:      {cached_gib * GIB // 1024} kB",
        ]
        self.write(f"{folder}/meminfo", "\n".join(lines))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def two_sockets(machine: Machine) -> Machine:
    """2 nodes of 4 cores of 2 hyper-threads: cpu 0..7 are the first threads, 8..15 the second."""
    for cpu in range(8):
        machine.core(cpu, cpu + 8)
    machine.node(0, "0-3,8-11", free_gib=4, cached_gib=4)
    machine.node(1, "4-7,12-15", free_gib=64)
    return machine


def threads(machine: Machine, n_cpus: int, model_bytes: int = 0) -> int:
    return read_topology(machine.root, range(n_cpus)).default_threads(model_bytes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", {0}), ("0-3", {0, 1, 2, 3}), ("1,4-5,9\n", {1, 4, 5, 9}), ("", set())],
)
def test_the_kernels_lists_are_read(text: str, expected: set[int]) -> None:
    assert parse_cpu_list(text) == expected


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_hyper_threads_of_a_core_count_once(machine: Machine, name: str) -> None:
    machine.core(0, 2, name=name)
    machine.core(1, 3, name=name)
    topology = read_topology(machine.root, range(4))
    assert topology.cores == ({0, 2}, {1, 3})
    assert topology.default_threads(0) == 2
    assert topology.most_threads == 4  # who asks for hyper-threads gets them


def test_a_core_that_is_half_ours_is_a_core(machine: Machine) -> None:
    machine.core(0, 2)
    machine.core(1, 3)
    topology = read_topology(machine.root, {2, 3})
    assert topology.cores == ({2}, {3})
    assert topology.most_threads == 2


def test_without_a_description_every_logical_processor_is_a_core(machine: Machine) -> None:
    topology = read_topology(machine.root, {0, 5, 6})
    assert topology.default_threads(10 * GIB) == topology.most_threads == 3
    assert topology.nodes == () and topology.quota is None


def test_a_model_stays_on_one_node_that_has_room(two_sockets: Machine) -> None:
    assert threads(two_sockets, 16, model_bytes=7 * GIB) == 4
    topology = read_topology(two_sockets.root, range(16))
    assert [node.available_bytes for node in topology.nodes] == [8 * GIB, 64 * GIB]


def test_a_model_larger_than_every_node_uses_all_of_them(two_sockets: Machine) -> None:
    assert threads(two_sockets, 16, model_bytes=65 * GIB) == 8


def test_only_nodes_with_room_count(two_sockets: Machine) -> None:
    # Of the second node, which alone has room, only two cores are ours.
    assert threads(two_sockets, 6, model_bytes=32 * GIB) == 2
    assert threads(two_sockets, 6, model_bytes=1 * GIB) == 4


def test_a_single_node_too_small_changes_nothing(machine: Machine) -> None:
    machine.node(0, "0-3", free_gib=1)
    assert threads(machine, 4, model_bytes=8 * GIB) == 4


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("300000 100000", 3), ("150000 100000", 1), ("50000 100000", 1)],
)
def test_a_containers_quota_is_respected(machine: Machine, quota: str, expected: int) -> None:
    machine.write("sys/fs/cgroup/cpu.max", quota)
    topology = read_topology(machine.root, range(8))
    assert topology.default_threads(0) == topology.most_threads == expected


def test_the_tightest_quota_of_the_groups_above_counts(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/user.slice/editor.scope")
    machine.write("sys/fs/cgroup/user.slice/cpu.max", "200000 100000")
    machine.write("sys/fs/cgroup/user.slice/editor.scope/cpu.max", "600000 100000")
    assert threads(machine, 8) == 2


def test_a_group_that_is_only_the_hosts_is_passed_over(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/docker/0123")
    machine.write("sys/fs/cgroup/cpu.max", "200000 100000")
    assert threads(machine, 8) == 2


def test_quotas_of_the_old_control_groups_count(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n0::/")
    machine.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "400000")
    machine.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "200000")
    assert threads(machine, 8) == 2
    machine.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1")
    assert threads(machine, 8) == 8


def test_this_machine_has_cores() -> None:
    topology = read_topology()
    assert 1 <= topology.default_threads(0) <= topology.most_threads <= len(topology.cpus)
