"""What models would do on a Strix Halo (gfx1151), predicted from their Programs: no such machine
has run them.

    python -m benchmarks.strix_halo --models qwen2.5-coder-0.5b qwen2.5-coder-1.5b

Bytes and products of every fused op (benchmarks.roofline) over rates between a worst and a best
case (benchmarks.device_rates), which rest on reports of benchmarks.gpu in benchmarks/measured. The
same formulas with the NVIDIA GPU's own limits stand beside what was measured there, also for models
the rates were not taken from. Beside known models there is a Program of Qwen3.6-27B's shape, the
published system's. Prints Markdown, with --json the same for programs.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import gpu_loops, qwen36_shape
from benchmarks.device_rates import STRIX, Measured, measured, strix_halo
from benchmarks.roofline import Rates, Work, count, prefill_s
from benchmarks.strix_halo_tables import markdown
from engine import catalogue, loading, weights
from engine.backends.gpu.packing import Format, is_packable
from engine.gguf.reader import GgufFile
from engine.models.blocks import Hyperparameters
from engine.models.dflash import PREFIX
from engine.pflash.scorer import probe_of
from engine.program import Program
from engine.speculation.drafter_file import open_drafter

MEASURED = Path(__file__).parent / "measured"
CALIBRATED_ON = "qwen2.5-coder-0.5b"
SCORER = "qwen2.5-coder-0.5b"
CONTEXTS, WIDTHS = (0, 1024, 16384), (1, 4, 8, 9, 16, 23, 32)
VERIFY_PAST, PROMPT, QUERY = 1024, 16384, 320
KEEPS = (0.05, 0.3)
SCORER_ROWS = 128
# Tokens a step, and the rows it verifies: SPEC G.1 for gfx1151, and the 3090's 8.31 with 22.
ACCEPTED = ((4.0, 23), (5.56, 9), (6.66, 23), (8.31, 23))


@dataclass(frozen=True)
class Subject:
    """A model: alone and with its drafter's context in its steps, the drafter, what scores prompts
    for it, and what its steps do beside the op table's ops (rows, whether they are a tree)."""

    name: str
    target: Program
    drafted: Program | None
    block: Program | None
    scorer: Program | None
    extra: Callable[[int, bool], Sequence[Work]] = lambda _, __: ()

    @property
    def usual(self) -> Program:
        """As the engine loads it."""
        return self.drafted or self.target


def of_gguf(name: str, models_dir: Path | None = None) -> Subject:
    """A model of the catalogue, or a file. Raises ModelNotFoundError."""
    with GgufFile(catalogue.find(name, models_dir)) as file:
        tensors = weights.of_gguf(file, is_packable)
        target = loading.build_program(file, tensors)
        n_layer = Hyperparameters.from_gguf(file).n_layer
        scorer = loading.build_program(file, tensors, probe_of(n_layer))
        drafted = block = None
        if (path := catalogue.drafter_of(loading.shape_of(file))) is not None:
            drafter = open_drafter(path, is_packable)
            tensors.add(PREFIX, drafter.weights)
            drafted = loading.build_program(file, tensors)
            block = loading.add_drafter(drafted, drafter, tensors)
    return Subject(name, target, drafted, block, scorer)


def of_qwen36(scorer: Program | None) -> Subject:
    shape = qwen36_shape.build()

    def extra(n_rows: int, is_tree: bool) -> Sequence[Work]:
        return [qwen36_shape.recurrence(n_rows, is_tree=is_tree)]

    return Subject(qwen36_shape.NAME, shape.target, shape.drafted, shape.block, scorer, extra)


def predict(subject: Subject, rates: Rates) -> dict[str, Any]:
    """Seconds and tokens per second of one model at given rates."""
    target, extra = subject.target, subject.extra

    def step_s(program: Program, n_rows: int, n_past: int) -> float:
        more = extra(n_rows, n_rows > 1)
        return rates.step_s(count(program, n_rows, n_past, n_rows, more))

    def prompt_s(n_tokens: int) -> float:
        return prefill_s(rates, subject.usual, n_tokens, lambda n: extra(n, False))

    found: dict[str, Any] = {
        "decode_tokens_per_s": {str(n): 1 / step_s(target, 1, n) for n in CONTEXTS},
        "verify_ms": {str(n): 1e3 * step_s(target, n, VERIFY_PAST) for n in WIDTHS},
        "dense_ttft_s": prompt_s(PROMPT),
    }
    if subject.block is not None and subject.drafted is not None:
        n_block = min(16, qwen36_shape.DRAFTER.block_size)
        draft_s = rates.step_s(count(subject.block, n_block, VERIFY_PAST, n_block - 1))
        found["draft_ms"] = 1e3 * draft_s
        found["dflash_tokens_per_s"] = {
            f"{n_tokens:g} a step of {n_rows} rows": n_tokens
            / (draft_s + step_s(subject.drafted, n_rows, VERIFY_PAST))
            for n_tokens, n_rows in ACCEPTED
        }
    if subject.scorer is not None:
        score_s = prefill_s(rates, subject.scorer, PROMPT, n_rows=SCORER_ROWS)
        found["score_s"] = score_s
        found["pflash_ttft_s"] = {
            str(keep): score_s + prompt_s(round(keep * PROMPT) + QUERY) for keep in KEEPS
        }
    return found


def check(report: dict[str, Any], subject: Subject, rates: Rates) -> list[dict[str, Any]]:
    """What was measured on the NVIDIA GPU beside what the formulas say of it."""
    past, program = report["verify_past"], subject.usual
    rows: list[dict[str, Any]] = []

    def add(what: str, measured_ms: float, predicted_s: float) -> None:
        rows.append({"what": what, "measured_ms": measured_ms, "predicted_ms": 1e3 * predicted_s})

    for name, ms in report["step_ms"].items():
        n = int(name)
        if n in (1, 8, 16, 32):
            predicted = rates.step_s(count(program, n, past, n))
            add(f"step of {n} after {past:,}", ms, predicted)
    for name, speed in report["speeds"].items():
        if name.startswith("pp"):
            n = int(name[2:])
            add(f"prompt of {n:,}", 1e3 * n / speed, prefill_s(rates, program, n))
    return rows


def worst_factor(rows: Sequence[dict[str, Any]]) -> float:
    ratios = [row["predicted_ms"] / row["measured_ms"] for row in rows]
    return max(max(ratio, 1 / ratio) for ratio in ratios)


def reports_of(folder: Path) -> dict[str, dict[str, Any]]:
    """By model."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))
             if not path.name.endswith("-loops.json")]  # fmt: skip
    return {Path(report["model"]).name.removesuffix(".gguf"): report for report in found}


def examine(
    reports: dict[str, dict[str, Any]], models: Sequence[str], models_dir: Path | None
) -> dict[str, Any]:
    calibrating = of_gguf(CALIBRATED_ON, models_dir)
    found = measured(reports[CALIBRATED_ON], calibrating.usual)
    subjects = {CALIBRATED_ON: calibrating}
    for name in {*models, *reports} - {CALIBRATED_ON}:
        subjects[name] = of_gguf(name, models_dir)
    loops = gpu_loops.kept("gfx1151")
    worst, best = (strix_halo(found, loops, is_best=is_best) for is_best in (False, True))
    checks = {
        name: check(report, subjects[name], found.rates()) for name, report in reports.items()
    }
    shown = [*(subjects[name] for name in models), of_qwen36(subjects[SCORER].scorer)]
    return {
        "calibrated_on": CALIBRATED_ON,
        "rates": {"measured": _rates(found), "worst": _strix(worst), "best": _strix(best)},
        "checks": checks,
        "worst_factor": {name: worst_factor(rows) for name, rows in checks.items()},
        "models": [
            {
                "name": subject.name,
                "weight_bytes": sum(w.weight_bytes for w in count(subject.target, 1, 0, 1)),
                "worst": predict(subject, worst),
                "best": predict(subject, best),
            }
            for subject in shown
        ],
    }


def _rates(found: Measured) -> dict[str, Any]:
    limits = found.limits
    operations = 2 * 16 * 16 * 32 * limits.cycles_per_s / found.tile_cycles
    return {
        "device": found.device,
        "launch_us": found.launch_us,
        "bandwidth_share": found.bytes_per_s / limits.bytes_per_s,
        "tile_cycles": found.tile_cycles,
        "matrix_share": operations / limits.matrix_flops,
        "attention_share": 2 * found.attention_flops_per_s / limits.matrix_flops,
    }


def _strix(rates: Rates) -> dict[str, Any]:
    cycles = rates.cycles["many", Format.INT4]
    operations = 2 * 16 * 16 * 32 * rates.cycles_per_s / cycles
    return {
        "device": "gfx1151",
        "launch_us": rates.launch_us,
        "bandwidth_share": rates.bytes_per_s / STRIX.bytes_per_s,
        "tile_cycles": cycles,
        "matrix_share": operations / STRIX.matrix_flops,
        "attention_share": rates.attention_flops_per_s / STRIX.matrix_flops,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measured", type=Path, default=MEASURED, metavar="FOLDER")
    parser.add_argument("--models", nargs="*", default=[CALIBRATED_ON], metavar="NAME")
    parser.add_argument("--models-dir", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = examine(reports_of(args.measured), args.models, args.models_dir)
    print(json.dumps(found) if args.json else markdown(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
