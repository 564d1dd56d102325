"""Options that several commands share, and what they say about the engine."""

import argparse
from collections.abc import Callable
from typing import TypeAlias

from engine.catalogue import DEFAULT_MODEL
from engine.config import EngineConfig, SamplingConfig

# argparse has no public name for what `add_subparsers` returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage]


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


positive.__name__ = "positive number"


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
    group.add_argument("--threads", type=positive, metavar="N", help="default: all usable cores")
    group.add_argument("--context", type=positive, metavar="N", help="context size in tokens")


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
    )


def sampling_config(args: argparse.Namespace) -> SamplingConfig:
    return SamplingConfig(temperature=args.temperature, seed=args.seed)
