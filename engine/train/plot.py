"""The course of a training run as a picture: loss and acceptance over time."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure


def plot_history(history: Sequence[dict[str, float]], path: Path) -> None:
    """Write a PNG; rows with "loss" make one curve, rows with "chain" the other."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    losses = [row for row in history if "loss" in row]
    axes.plot([row["step"] for row in losses], [row["loss"] for row in losses], linewidth=0.8)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("weighted cross entropy")
    axes.set_ylim(bottom=0)
    measured = [row for row in history if "chain" in row]
    if measured:
        right = axes.twinx()
        steps = [row["step"] for row in measured]
        right.plot(steps, [row["chain"] for row in measured], "o-", color="tab:green")
        right.set_ylabel("tokens per step, held-out chain", color="tab:green")
        right.set_ylim(bottom=1)
    figure.savefig(path, dpi=120)
