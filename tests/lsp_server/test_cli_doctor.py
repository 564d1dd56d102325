"""What doctor says of the processors, the GPUs and the memory."""

import subprocess

import msgspec
import pytest

from engine.topology import Node, Topology
from lsp_server.cli_doctor import (
    calibration,
    describe_topology,
    gpu_rows,
    memory_text,
    processor_rows,
    show,
)
from tests.e2e.command import flash_lsp, source_path
from tests.gpu.standin import libraries

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


GPU = {
    "name": "Radeon 8060S",
    "arch": "gfx1151",
    "n_units": 20,
    "driver": "ROCm 7.2",
    "free_bytes": 90 * GIB,
    "memory_bytes": 96 * GIB,
    "is_integrated": True,
    "is_usable": True,
}


def test_a_gpu_is_described_in_a_line() -> None:
    line = "Radeon 8060S (gfx1151, 20 units, ROCm 7.2), 90.0 of 96.0 GiB shared memory free"
    assert gpu_rows([GPU]) == [("GPU", line)]
    assert gpu_rows([{**GPU, "is_usable": False}]) == [("GPU", line + "\nnot usable: see below")]
    assert gpu_rows([]) == [("GPU", "none: the processor computes")]


def test_memory_says_what_the_model_takes_of_it() -> None:
    assert memory_text(8 * GIB, GIB) == (
        "8.0 GiB available; the default model and its caches take up to 1.0"
    )
    assert memory_text(None, None) == "unknown"


def test_remedies_are_shown_to_the_letter(capsys) -> None:
    nothing = Topology(CPUS, PAIRS, (Node(0, CPUS, 8 * GIB),), None)
    problem = {"what": "a package is missing", "do": 'pip install "flash-lsp[nvidia]"'}
    found = {
        "cpu": {"name": "Z80", "instruction_set": "avx2", **describe_topology(nothing, GIB)},
        "gpus": [],
        "models": [],
        "memory": {
            "available_bytes": GIB,
            "default_model_bytes": None,
            "disk_free_bytes": GIB,
            "models_dir": "/models",
        },
        "calibration": calibration(),
        "speed": {"default_model_tokens_per_s": None},
        "recommended_model": "a",
        "problems": [problem],
    }
    show(found)
    assert f"{problem['what']}\n  → {problem['do']}" in capsys.readouterr().out


KEYS = {"cpu", "gpus", "models", "memory", "calibration", "speed", "problems", "recommended_model"}


@pytest.mark.parametrize("vendor", ["none", "hip", "cuda"])
def test_the_command_reports_what_the_drivers_say(vendor, tmp_path) -> None:
    folders = [] if vendor == "none" else [libraries.build(vendor, tmp_path / vendor)]
    command = flash_lsp("doctor", "--models-dir", str(tmp_path))
    environment = libraries.environment(*folders, COLUMNS="200", **source_path())
    text = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    json = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, env=environment, check=True
    )
    found = msgspec.json.decode(json.stdout)
    assert found.keys() == KEYS
    assert all(problem.keys() == {"what", "do"} for problem in found["problems"])
    if vendor == "none":
        assert found["gpus"] == []
        assert "none: the processor computes" in text.stdout
    else:
        assert [gpu["backend"] for gpu in found["gpus"]] == [vendor]
        assert found["gpus"][0]["name"] in text.stdout
    assert "no model is here" in text.stdout
