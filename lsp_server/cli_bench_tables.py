"""How `flash-lsp bench decode` and `bench edit` look: a table for each set of texts."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lsp_server.cli_bench_rows import BASELINE

_BAR_CELLS = 8
_BAR, _HEIGHTS = "█", " ▁▂▃▄▅▆▇█"
_LEVELS = (0, 1, 2, 3, 4, 6, 8, 16, 32, 48)  # accepted drafts of a step: from each level on


def is_speculation(entry: dict[str, Any]) -> bool:
    return "acceptance_length" in entry


def show_speculation(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """One table for each set: speeds as bars, ratios, tokens per step; nothing without rows."""
    mine = [entry for entry in rows if is_speculation(entry)]
    for name, group in groupby(mine, key=lambda entry: entry["name"]):
        _show_set(console, name, list(group))
    if not mine:
        return
    levels = " ".join(str(level) for level in _LEVELS)
    console.print(
        "\n/llama, /plain: times as fast as plain decoding of llama.cpp and of flash-lsp. "
        "/step: tokens per step.\n"
        f"accepted: how many steps accepted how many drafts, from {levels} on."
    )
    if any(entry.get("different_texts") for entry in mine):
        console.print("Texts DIFFER from plain decoding: that is a bug, please report it.")
    else:
        console.print("Every text is the same in all modes of flash-lsp, token for token.")


def _show_set(console: Console, name: str, rows: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in (name, "tok/s", "", "/llama", "/plain", "/step", "accepted"):
        table.add_column(column, no_wrap=True)
    has_copies = any(entry["copied_share"] is not None for entry in rows)
    if has_copies:
        table.add_column("copied", no_wrap=True)
    fastest = max(entry["value"] for entry in rows)
    for entry in rows:
        spread = (entry["max"] - entry["min"]) / 2 / entry["value"]
        cells = [
            ("llama: " if entry["engine"] == BASELINE else "") + entry["mode"],
            f"{entry['value']:.1f} ±{spread:.0%}",
            bar(entry["value"] / fastest),
            "-" if entry["ratio"] is None else f"{entry['ratio']:.2f}",
            f"{entry['plain_ratio']:.2f}",
            f"{entry['acceptance_length']:.2f}",
            histogram(entry.get("accepted_lengths", [])),
        ]
        if has_copies:
            copied = entry["copied_share"]
            cells.append("-" if copied is None else f"{copied:.0%}")
        table.add_row(*cells)
    console.print()
    console.print(table)


def bar(share: float) -> str:
    """A bar for 0..1 of the longest one."""
    return _BAR * max(round(share * _BAR_CELLS), 1)


def histogram(counts: Sequence[int]) -> str:
    """`counts[n]` steps accepted n drafts: a column for each level, as high as its share."""
    by_level = [0] * len(_LEVELS)
    for n, count in enumerate(counts):
        level = max(i for i, start in enumerate(_LEVELS) if start <= n)
        by_level[level] += count
    most = max(by_level, default=0)
    if most == 0:
        return ""
    return "".join(_HEIGHTS[-(-count * (len(_HEIGHTS) - 1) // most)] for count in by_level)
