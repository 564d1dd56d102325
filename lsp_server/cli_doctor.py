"""`flash-lsp doctor`: what was found on this machine, what it means, and what to do about it."""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import platformdirs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine import catalogue, memory
from engine.backends.gpu.discovery import discover
from engine.calibration import kept_calibrations
from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import EngineError
from engine.machine import cpu_name
from engine.request import GenerateRequest, PromptPart
from engine.topology import Topology, read_topology
from lsp_server.cli_calibrate import describe as describe_calibration
from lsp_server.cli_models import describe
from lsp_server.cli_options import Commands

_BETTER = "qwen2.5-coder-1.5b"
# Below this, a line of ghost text comes too late to be worth waiting for.
_USEFUL_TOKENS_PER_S = 8.0
_MOST_LOAD_RATIO = 1.6  # KV cache and activations beside the weights
_PROBE_TOKENS = 16
_MOST_CALIBRATIONS = 4


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor", help="say what was found on this machine and what to do about it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--models-dir", metavar="DIR", help="where downloaded models lie")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    found = examine(Path(args.models_dir) if args.models_dir else None)
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        show(found)
    return 0


def examine(models_dir: Path | None) -> dict[str, Any]:
    """Everything `doctor --json` prints. Runs the default model for a moment if it is here."""
    models = [describe(entry, models_dir) for entry in catalogue.entries()]
    free = memory.available_bytes()
    trial = try_default_model(models_dir) if models[0]["path"] else None
    gpus = discover()
    problems = [{"what": found.what, "do": found.do} for found in gpus.problems]
    if isinstance(trial, EngineError):
        do = "see the message; flash-lsp models fetch repairs files"
        problems.append({"what": str(trial), "do": do})
        trial = None
    speed = None if trial is None else trial.tokens_per_s
    if not any(model["path"] for model in models):
        problems.append(
            {"what": "no model is here", "do": "run: flash-lsp models fetch, or flash-lsp demo"}
        )
    default_bytes = int(models[0]["bytes"])
    directory = models_dir or catalogue.models_dir()
    existing = next(p for p in (directory, *directory.parents) if p.exists())
    disk_free = shutil.disk_usage(existing).free
    if disk_free < models[0]["bytes"] * 2 and not models[0]["path"]:
        problems.append(
            {
                "what": f"only {disk_free / 1e9:.1f} GB are free for models in {directory}",
                "do": "make room or choose another folder with --models-dir",
            }
        )
    return {
        "cpu": {
            "name": cpu_name(),
            **describe_topology(read_topology(), default_bytes),
            "instruction_set": instruction_set(),
        },
        "gpus": [msgspec.to_builtins(gpu) for gpu in gpus.gpus],
        "models": models,
        "memory": {
            "available_bytes": free,
            "default_model_bytes": None if trial is None else trial.memory_bytes,
            "disk_free_bytes": disk_free,
            "models_dir": str(directory),
        },
        "calibration": calibration(),
        "speed": {"default_model_tokens_per_s": speed},
        "recommended_model": recommend(speed, free, models),
        "problems": problems,
    }


def describe_topology(topology: Topology, model_bytes: int) -> dict[str, Any]:
    """What may be computed on, and the threads that a model of `model_bytes` gets by default."""
    return {
        "logical_processors": len(topology.cpus),
        "cores": len(topology.cores),
        "threads_per_core": max(len(core) for core in topology.cores),
        "nodes": [
            {
                "number": node.number,
                "logical_processors": len(node.cpus),
                "available_bytes": node.available_bytes,
            }
            for node in topology.nodes
        ],
        "quota": topology.quota,
        "default_threads": topology.default_threads(model_bytes),
    }


def processor_rows(cpu: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's rows about processors."""
    cores = "1 core" if cpu["cores"] == 1 else f"{cpu['cores']} cores"
    if cpu["threads_per_core"] > 1:
        cores += f" with up to {cpu['threads_per_core']} hyper-threads each"
    if cpu["quota"] is not None:
        cores += f", of which this container gets {cpu['quota']:g}"
    rows = [("processor", cpu["name"]), ("usable", cores)]
    if len(cpu["nodes"]) > 1:
        nodes = [
            f"node {node['number']}: {node['logical_processors']} logical processors, "
            f"{node['available_bytes'] / 2**30:.0f} GiB"
            for node in cpu["nodes"]
        ]
        rows.append(("memory nodes", "\n".join(nodes)))
    return [*rows, ("threads", f"{cpu['default_threads']} by default")]


def gpu_rows(gpus: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The table's rows about GPUs."""
    if not gpus:
        return [("GPU", "none: the processor computes")]
    rows: list[tuple[str, str]] = []
    for gpu in gpus:
        memory_kind = "shared memory" if gpu["is_integrated"] else "memory"
        units = "1 unit" if gpu["n_units"] == 1 else f"{gpu['n_units']} units"
        text = (
            f"{gpu['name']} ({gpu['arch']}, {units}, {gpu['driver']}), "
            f"{gpu['free_bytes'] / 2**30:.1f} of {gpu['memory_bytes'] / 2**30:.1f} GiB "
            f"{memory_kind} free"
        )
        rows.append(("GPU", text if gpu["is_usable"] else f"{text}\nnot usable: see below"))
    return rows


@dataclass(frozen=True)
class Trial:
    """The default model, loaded as the server would and run for a moment."""

    tokens_per_s: float
    memory_bytes: int


def try_default_model(models_dir: Path | None) -> Trial | EngineError:
    """What came of trying; the error says why nothing did."""
    try:
        config = EngineConfig(
            model=catalogue.DEFAULT_MODEL,
            speculation="off",
            models_dir=str(models_dir) if models_dir else None,
        )
        engine = Engine.load(config)
        request = GenerateRequest(
            prompt=(PromptPart("def fibonacci(n):\n    "),), max_tokens=_PROBE_TOKENS
        )
        engine.generate(request, CancelToken())  # the first run also pages the weights in
        started = monotonic()
        result = engine.generate(request, CancelToken())
        elapsed_s = monotonic() - started
        engine.close()
    except EngineError as error:
        return error
    return Trial(max(result.n_steps, 1) / elapsed_s, engine.info.memory_bytes)


def calibration() -> dict[str, Any]:
    """What was measured or compiled for this machine and is kept between starts."""
    folder = Path(platformdirs.user_cache_dir("flash-lsp"))
    return {
        "folder": str(folder),
        "models_with_step_costs": len(list(folder.glob("step_costs/*.json"))),
        "gpu_kernel_images": len(list(folder.glob("kernels/*.image"))),
        "gpus": [describe_calibration(found) for found in kept_calibrations()],
    }


def recommend(speed: float | None, free: int | None, models: list[dict[str, Any]]) -> str:
    """The best model this machine runs fast enough: decoding speed goes with the bytes read."""
    sizes = {model["name"]: model["bytes"] for model in models}
    default, better = sizes[catalogue.DEFAULT_MODEL], sizes[_BETTER]
    is_fast = speed is not None and speed * default / better >= _USEFUL_TOKENS_PER_S
    fits = free is None or better * _MOST_LOAD_RATIO < free
    return _BETTER if is_fast and fits else catalogue.DEFAULT_MODEL


def instruction_set() -> str:
    from engine.backends.cpu import isa_name

    return isa_name()


def memory_text(free: int | None, default_model_bytes: int | None) -> str:
    text = "unknown" if free is None else f"{free / 2**30:.1f} GiB available"
    if default_model_bytes is None:
        return text
    return f"{text}; the default model and its caches take up to {default_model_bytes / 2**30:.1f}"


def calibration_text(kept: dict[str, Any]) -> str:
    n_costs, n_images = kept["models_with_step_costs"], kept["gpu_kernel_images"]
    costs = f"step costs of {n_costs} models are known" if n_costs else "no step costs known yet"
    lines = [costs + (f"; GPU kernels are compiled ({n_images})" if n_images else "")]
    lines += [
        f"{one['model']} on {one['device']}: a step takes {one['step_ms'][1]:.2f} ms, "
        f"up to {one['cheap_rows']} rows at most a quarter more"
        for one in kept["gpus"][:_MOST_CALIBRATIONS]
    ]
    return "\n".join(lines)


def show(found: dict[str, Any]) -> None:
    console = Console(highlight=False)
    cpu, where = found["cpu"], found["memory"]
    free = where["available_bytes"]
    speed = found["speed"]["default_model_tokens_per_s"]
    table = Table(show_header=False)
    for name, value in processor_rows(cpu):
        table.add_row(name, value)
    table.add_row("kernels", cpu["instruction_set"])
    for name, value in gpu_rows(found["gpus"]):
        table.add_row(name, escape(value))
    table.add_row("memory", memory_text(free, where["default_model_bytes"]))
    table.add_row(
        "models in", f"{where['models_dir']} ({where['disk_free_bytes'] / 1e9:.0f} GB free)"
    )
    for model in found["models"]:
        table.add_row(
            model["name"], model["path"] or f"not here: flash-lsp models fetch {model['name']}"
        )
    table.add_row(
        "speed", "not measured" if speed is None else f"{speed:.0f} tok/s (default model)"
    )
    table.add_row("calibration", escape(calibration_text(found["calibration"])))
    table.add_row("recommended", found["recommended_model"])
    console.print(table)
    for problem in found["problems"]:
        text = f"[red]{escape(problem['what'])}[/red]\n  → {escape(problem['do'])}"
        console.print(text, soft_wrap=True)  # a command is copied as one line
    if not found["problems"]:
        console.print("[green]no problems found[/green]")
