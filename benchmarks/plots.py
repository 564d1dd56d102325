"""Pictures of what the quality of repository contexts costs.

    python -m benchmarks.plots --cross-file cross.jsonl --needle needle.jsonl --output FOLDER

Reads what `benchmarks.cross_file` and `benchmarks.needle` wrote with `--output`, and writes
cross_file.png (edit similarity and exact match against the tokens of the prompt) and needle.png
(needles found by keep ratio and size of the haystack). Needs the extra `bench`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure

from benchmarks import cross_file, needle

_COLOURS = {"none": "gray", "nearest": "tab:brown", "search": "tab:orange", "full": "tab:red"}
_METHODS = {"incremental": "tab:blue", "joint": "tab:green"}


def plot_cross_file(lines: Sequence[cross_file.Line], path: Path) -> None:
    """Two panels: each context by the median size of its prompt, with 95 % intervals."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(lines), (2000, len(lines)))
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, what in zip(panels, ("exact match", "edit similarity"), strict=True):
        for label in lines[0].outcomes:
            found = [line.outcomes[label] for line in lines]
            values = np.array(
                [one.is_exact if what == "exact match" else one.similarity for one in found], float
            )
            low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
            mean, n_tokens = values.mean(), float(np.median([one.n_prompt for one in found]))
            method, _, keep = label.partition(" ")
            colour = _METHODS.get(method) or _COLOURS[label]
            marker = "o" if keep else "s"
            error = [[mean - low], [high - mean]]
            axes.errorbar(n_tokens, mean, error, color=colour, marker=marker, capsize=3)
            name = f"keep {keep}" if keep else label
            axes.annotate(name, (n_tokens, mean), (5, 5), textcoords="offset points", fontsize=8)
        axes.set_xlabel("tokens of the prompt, median")
        axes.set_ylabel(f"{what}, 95 % interval")
    figure.suptitle(f"{len(lines)} masked lines that need another file; circles: PFlash")
    figure.savefig(path, dpi=110)


def plot_needle(results: Sequence[needle.Result], path: Path) -> None:
    """A grid of shares: found, of those that all of the context finds."""
    full = {(r.n_tokens, r.trial) for r in results if r.keep == 1 and r.is_found}
    sizes, keeps = sorted({r.n_tokens for r in results}), sorted({r.keep for r in results})
    figure = Figure(figsize=(1.6 + 1.1 * len(keeps), 1.2 + 0.7 * len(sizes)), layout="constrained")
    axes = figure.add_subplot()
    grid = np.full((len(sizes), len(keeps)), np.nan)
    for row, n_tokens in enumerate(sizes):
        for column, keep in enumerate(keeps):
            some = [r for r in results if (r.n_tokens, r.keep) == (n_tokens, keep)]
            asked = [r for r in some if (r.n_tokens, r.trial) in full]
            if asked:
                n_found = sum(r.is_found for r in asked)
                grid[row, column] = n_found / len(asked)
                text = f"{n_found} of {len(asked)}"
                axes.text(column, row, text, ha="center", va="center", color="white", fontsize=8)
    axes.imshow(grid, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(keeps)), ["all" if k == 1 else f"{k:g}" for k in keeps])
    axes.set_yticks(range(len(sizes)), [f"{n:,}" for n in sizes])
    axes.set_xlabel("share of the context kept")
    axes.set_ylabel("tokens of code")
    axes.set_title("needles found, of those found with all of it", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cross-file", type=Path, metavar="F")
    parser.add_argument("--needle", type=Path, metavar="F")
    parser.add_argument("--output", type=Path, default=Path())
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.cross_file is not None:
        rows = args.cross_file.read_bytes().splitlines()
        lines = [msgspec.json.decode(row, type=cross_file.Line) for row in rows]
        plot_cross_file(lines, args.output / "cross_file.png")
    if args.needle is not None:
        rows = args.needle.read_bytes().splitlines()
        results = [msgspec.json.decode(row, type=needle.Result) for row in rows]
        plot_needle(results, args.output / "needle.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
