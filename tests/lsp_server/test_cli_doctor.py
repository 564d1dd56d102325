"""What doctor says of the processors."""

from engine.topology import Node, Topology
from lsp_server.cli_doctor import describe_topology, processor_rows

GIB = 2**30
CPUS = frozenset(range(8))
PAIRS = tuple(frozenset({core, core + 4}) for core in range(4))


def rows(topology: Topology, model_bytes: int = GIB) -> dict[str, str]:
    return dict(processor_rows({"name": "Z80", **describe_topology(topology, model_bytes)}))


def test_a_plain_machine_takes_few_words() -> None:
    cores = tuple(frozenset({cpu}) for cpu in range(2))
    node = Node(0, frozenset({0, 1}), 8 * GIB)
    assert rows(Topology(node.cpus, cores, (node,), None)) == {
        "processor": "Z80",
        "usable": "2 cores",
        "threads": "2 by default",
    }


def test_hyper_threads_nodes_and_quota_are_named() -> None:
    nodes = (
        Node(0, frozenset({0, 1, 4, 5}), 8 * GIB),
        Node(1, frozenset({2, 3, 6, 7}), 16 * GIB),
    )
    found = rows(Topology(CPUS, PAIRS, nodes, 1.5))
    assert found["usable"] == (
        "4 cores with up to 2 hyper-threads each, of which this container gets 1.5"
    )
    assert found["memory nodes"] == (
        "node 0: 4 logical processors, 8 GiB\nnode 1: 4 logical processors, 16 GiB"
    )
    assert found["threads"] == "1 by default"


def test_the_threads_are_those_of_the_model_asked_about() -> None:
    nodes = (Node(0, frozenset({0, 4}), 8 * GIB), Node(1, CPUS - {0, 4}, 2 * GIB))
    topology = Topology(CPUS, PAIRS, nodes, None)
    assert rows(topology, 1 * GIB)["threads"] == "3 by default"
    assert rows(topology, 4 * GIB)["threads"] == "1 by default"
    assert rows(topology, 9 * GIB)["threads"] == "4 by default"
