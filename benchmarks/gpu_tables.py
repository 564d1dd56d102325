"""What one run of benchmarks.gpu found, as the README's tables.

    python -m benchmarks.gpu_tables REPORT.json...

Reports are what `benchmarks.gpu --json` prints: a section for each.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Report = dict[str, Any]
_MOST_LINEARS = 6


def markdown(report: Report) -> str:
    """Speeds, steps by rows, the largest linear launches, and who agrees with whom."""
    parts = [
        f"{report['device']}, `{report['model']}`, `python -m benchmarks.gpu`, one run"
        + (", llama.cpp's `llama-bench` in the same" if report["llama_cpp"] else "")
        + ":",
        _table(*_speeds(report)),
        f"A step of several rows after {report['verify_past']:,} tokens, in milliseconds:",
        _table(*_steps(report)),
        f"Copying memory to memory moves {report['copy_gb_per_s']:,.0f} GB/s, reads and writes "
        "counted; the largest linear launches of a step of one row read:",
        _table(*_linears(report)),
        _agreement(report),
    ]
    return "\n\n".join(parts) + "\n"


def peer_speed(report: Report, name: str) -> float | None:
    """llama.cpp's tokens per second in the best of its runs."""
    return max((run[name] for run in report["llama_cpp"] if name in run), default=None)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _speeds(report: Report) -> tuple[list[str], list[list[str]]]:
    plain = next(name for name in report["speeds"] if name.startswith("tg"))
    rows: list[list[str]] = []

    def add(what: str, ours: float, name: str) -> None:
        peer = peer_speed(report, name)
        row = [what, f"{ours:,.0f}"]
        rows.append(row if peer is None else [*row, f"{peer:,.0f}", f"{ours / peer:.2f}"])

    for name, value in report["speeds"].items():
        if name != plain:
            add(f"prefill of {int(name[2:]):,} tokens", value, name)
    add(f"decode, plain, {plain[2:]} tokens from nothing", report["speeds"][plain], plain)
    for mode, entry in report["modes"].items():
        text = f"decode with `{mode}` after {entry['prompts']} function stems, "
        add(f"{text}{entry['tokens_per_step']:.2f} tokens a step", entry["tokens_per_s"], plain)
    head = ["tok/s", "flash-lsp"]
    return (head if len(rows[0]) == 2 else [*head, "llama.cpp", "ratio"]), rows


def _steps(report: Report) -> tuple[list[str], list[list[str]]]:
    steps: dict[str, float] = report["step_ms"]
    rows = [
        ["flash-lsp", *(f"{ms:.2f}" for ms in steps.values())],
        ["in steps of one row", *(f"{ms / steps['1']:.2f}" for ms in steps.values())],
    ]
    if peer := report["llama_cpp_step_ms"]:
        rows.append(["llama.cpp", *(f"{peer[n]:.2f}" if n in peer else "" for n in steps)])
    return ["rows", *steps], rows


def _linears(report: Report) -> tuple[list[str], list[list[str]]]:
    launches = [row for row in report["launches"]["1"] if row["weight_bytes"]]
    launches.sort(key=lambda row: -row["weight_bytes"])
    rows: list[list[str]] = []
    for row in launches[:_MOST_LINEARS]:
        gb_per_s = row["weight_bytes"] / row["us"] / 1e3
        rows.append(
            [
                f"{row['n']} x `{row['kernel']}` of {row['grid'][0]:,} blocks",
                f"{row['weight_bytes'] / 1e6:.1f}",
                f"{row['us']:.1f}",
                f"{gb_per_s:,.0f}",
                f"{gb_per_s / report['copy_gb_per_s']:.0%}",
            ]
        )
    return ["launch", "MB", "µs", "GB/s", "of copying"], rows


def _agreement(report: Report) -> str:
    drafted = [entry for mode, entry in report["modes"].items() if mode != "off"]
    lines: list[str] = []
    if drafted:
        n_different = sum(entry["different"] for entry in drafted)
        n_texts = sum(entry["prompts"] for entry in drafted)
        lines.append(f"Of {n_texts} drafted texts, {n_different} differ from plain decoding.")
    found = report["agreement"]
    lines.append(
        f"The likeliest token is the processor's in {found['same']:.1%} of {found['n']:,} "
        f"positions of real code, and in {found['same_where_clear']:.1%} of those where its first "
        "leads by 0.3 nats."
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT.json")
    for path in parser.parse_args().reports:
        print(markdown(json.loads(path.read_text("utf-8"))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
