"""Predictions of benchmarks.strix_halo as Markdown."""

from collections.abc import Sequence
from typing import Any

Found = dict[str, Any]
# The published system on Strix Halo, Qwen3.6-27B Q4_K_M, and llama.cpp beside it.
PUBLISHED = {"decode": 12.0, "dflash": 26.85, "dense_ttft_s": 61.6, "pflash_ttft_s": 20.2}
_RATES = {
    "launch_us": ("one launch, µs", "{:.1f}"),
    "bandwidth_share": ("share of the memory's bandwidth", "{:.0%}"),
    "tile_cycles": ("cycles of a SIMD for 16 x 32 x 16 products", "{:.0f}"),
    "matrix_share": ("so, share of the int8 matrix peak", "{:.0%}"),
    "attention_share": ("attention, share of the f16 matrix peak", "{:.0%}"),
}


def markdown(found: Found) -> str:
    factors = found["worst_factor"]
    parts = [
        "## Rates",
        _rates(found["rates"]),
        "## The same formulas on the NVIDIA GPU",
        f"Rates are taken from `{found['calibrated_on']}`; other models they had not seen.",
        *(_check(name, rows, factors[name]) for name, rows in found["checks"].items()),
        *(_model(model) for model in found["models"]),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rates(rates: Found) -> str:
    columns = [rates["measured"], rates["worst"], rates["best"]]
    head = ["", f"measured, {columns[0]['device']}", "gfx1151, worst", "gfx1151, best"]
    rows = [
        [what, *(form.format(column[name]) for column in columns)]
        for name, (what, form) in _RATES.items()
    ]
    return _table(head, rows)


def _check(name: str, rows: Sequence[Found], factor: float) -> str:
    lines = [
        [row["what"], f"{row['measured_ms']:.2f}", f"{row['predicted_ms']:.2f}",
         f"{row['predicted_ms'] / row['measured_ms']:.2f}"]
        for row in rows
    ]  # fmt: skip
    table = _table([f"`{name}`, ms", "measured", "predicted", "ratio"], lines)
    return f"{table}\n\nWithin a factor of {factor:.2f}."


def _model(model: Found) -> str:
    worst, best = model["worst"], model["best"]
    is_published = model["name"].startswith("Qwen3.6-27B")
    rows: list[list[str]] = []

    def add(what: str, low: float, high: float, form: str, published: str = "") -> None:
        row = [what, form.format(low), form.format(high)]
        rows.append([*row, published] if is_published else row)

    for n, low in worst["decode_tokens_per_s"].items():
        llama = f"{PUBLISHED['decode']:.1f} (llama.cpp)" if n == "1024" else ""
        high = best["decode_tokens_per_s"][n]
        add(f"decode after {int(n):,} tokens, tok/s", low, high, "{:.1f}", llama)
    for n, low in worst["verify_ms"].items():
        add(f"step of {n} rows, ms", low, best["verify_ms"][n], "{:.1f}")
    if "draft_ms" in worst:
        add("drafting a block of 16, ms", worst["draft_ms"], best["draft_ms"], "{:.1f}")
        for what, low in worst["dflash_tokens_per_s"].items():
            is_theirs = what.startswith("6.66")
            high, theirs = best["dflash_tokens_per_s"][what], f"{PUBLISHED['dflash']}"
            add(f"DFlash, {what}, tok/s", low, high, "{:.1f}", theirs if is_theirs else "")
    llama = f"{PUBLISHED['dense_ttft_s']} (llama.cpp)"
    add("16,384 tokens read whole, s", worst["dense_ttft_s"], best["dense_ttft_s"], "{:.1f}", llama)
    for keep, low in worst.get("pflash_ttft_s", {}).items():
        high, theirs = best["pflash_ttft_s"][keep], f"{PUBLISHED['pflash_ttft_s']}"
        share = f"scored and {float(keep):.0%} of them read, s"
        add(f"16,384 tokens {share}", low, high, "{:.1f}", theirs)
    head = ["", "worst", "best", *(["published"] if is_published else [])]
    title = f"## `{model['name']}`, {model['weight_bytes'] / 1e9:.2f} GB of weights a step"
    return f"{title}\n\n{_table(head, rows)}"
