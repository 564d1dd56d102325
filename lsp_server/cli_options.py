"""Options that several commands share, and what they say about the engine."""

import argparse
from collections.abc import Callable
from typing import TypeAlias, get_args

from engine.catalogue import DEFAULT_MODEL
from engine.config import (
    MOST_TREE_NODES,
    BackendName,
    EngineConfig,
    KvCacheType,
    SamplingConfig,
    SpeculationMode,
)

# argparse has no public name for what `add_subparsers` returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage]


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


positive.__name__ = "positive number"


def up_to(most: int) -> Callable[[str], int]:
    """An argparse type: a whole number from 1 to `most`."""

    def number(text: str) -> int:
        value = int(text)
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not in 1..{most}")
        return value

    return number


def bounded(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: a number from `low` to `high`."""

    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low:g}..{high:g}")
        return value

    return number


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default=DEFAULT_MODEL, help="known name or GGUF file (default: %(default)s)"
    )
    group.add_argument("--models-dir", metavar="DIR", help="where downloaded models lie")
    group.add_argument(
        "--threads", type=positive, metavar="N", help="default: one per physical core"
    )
    group.add_argument("--context", type=positive, metavar="N", help="context size in tokens")
    group.add_argument(
        "--kv-type",
        choices=get_args(KvCacheType),
        default="f16",
        help="numbers of the KV cache; q8_0 takes half the memory (default: f16)",
    )
    group.add_argument(
        "--backend",
        choices=get_args(BackendName),
        default="cpu",
        help="where the model runs: the processor, a GPU, or auto: a GPU if there is one "
        "(default: cpu)",
    )
    add_speculation_options(parser)


def add_speculation_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speculation")
    group.add_argument(
        "--speculation",
        choices=get_args(SpeculationMode),
        default="auto",
        help="who drafts tokens ahead; never changes the text (default: auto)",
    )
    group.add_argument(
        "--tree-budget",
        type=up_to(MOST_TREE_NODES),
        metavar="N",
        help="drafts of every step (default: what pays on this machine)",
    )
    group.add_argument("--drafter", metavar="FILE", help="drafter model for this model")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-tokens", type=positive, default=128, metavar="N")
    group.add_argument(
        "--temperature",
        type=bounded(0, 2),
        default=0.0,
        metavar="T",
        help="0, the default, always takes the likeliest token",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N")


def engine_config(args: argparse.Namespace) -> EngineConfig:
    return EngineConfig(
        model=args.model,
        n_threads=args.threads,
        n_ctx=args.context,
        models_dir=args.models_dir,
        kv_type=args.kv_type,
        backend=args.backend,
        speculation=args.speculation,
        tree_budget=args.tree_budget,
        drafter=args.drafter,
    )


def sampling_config(args: argparse.Namespace) -> SamplingConfig:
    return SamplingConfig(temperature=args.temperature, seed=args.seed)
