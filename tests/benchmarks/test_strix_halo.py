"""Rates are recovered from reports, and predictions keep their order; nothing is timed."""

import json
from functools import partial
from typing import Any

import pytest

from benchmarks import qwen36_shape
from benchmarks.device_rates import COPY_SHARE, GAP_US, STRIX, Measured, measured, strix_halo
from benchmarks.gpu_loops import kept
from benchmarks.roofline import count, prefill_s
from benchmarks.strix_halo import (
    MEASURED,
    PROMPT,
    check,
    of_qwen36,
    predict,
    reports_of,
    worst_factor,
)
from benchmarks.strix_halo_tables import markdown
from engine.backends.gpu.packing import Format

TRUE = Measured("NVIDIA H100 80GB HBM3", 4.0, 2e12, 200.0, 40e12)
SHAPE = qwen36_shape.build()


def report_of(found: Measured) -> dict[str, Any]:
    """What benchmarks.gpu would say of a device with these rates."""
    rates, program = found.rates(), SHAPE.target
    one = partial(count, program, n_past=1024)
    linears = [work for work in one(1, n_out=1) if work.weight_bytes]
    launches = [
        {"weight_bytes": w.weight_bytes, "us": 3 + w.weight_bytes / found.bytes_per_s * 1e6}
        for w in linears
    ]
    return {
        "device": found.device,
        "verify_past": 1024,
        "speeds": {f"pp{n}": n / prefill_s(rates, program, n) for n in (2048, 8192, 16384)},
        "step_ms": {str(n): 1e3 * rates.step_s(one(n, n_out=n)) for n in (1, 16)},
        "launches": {"1": launches},
    }


def test_rates_are_recovered_from_what_they_made() -> None:
    found = measured(report_of(TRUE), SHAPE.target)
    assert found.bytes_per_s == pytest.approx(TRUE.bytes_per_s, rel=0.01)
    assert found.tile_cycles == pytest.approx(TRUE.tile_cycles, rel=0.1)
    assert found.attention_flops_per_s == pytest.approx(TRUE.attention_flops_per_s, rel=0.1)
    assert found.launch_us == pytest.approx(TRUE.launch_us, rel=0.1)
    subject = of_qwen36(None)
    assert subject.drafted is not None
    rows = check(report_of(TRUE), subject, TRUE.rates())
    assert [row["what"] for row in rows][:2] == ["step of 1 after 1,024", "step of 16 after 1,024"]
    assert worst_factor(rows) < 1.1  # the drafter's context is all that differs


def test_the_worst_case_is_worse_in_everything() -> None:
    loops = kept("gfx1151")
    worst, best = (strix_halo(TRUE, loops, is_best=is_best) for is_best in (False, True))
    assert worst.launch_us == best.launch_us + GAP_US
    assert best.bytes_per_s == COPY_SHARE * STRIX.bytes_per_s > worst.bytes_per_s
    assert best.attention_flops_per_s > worst.attention_flops_per_s
    for key, cycles in best.cycles.items():
        assert cycles <= worst.cycles[key]
        assert cycles > 64  # its two matrix instructions alone
    assert best.cycles["many", Format.INT4] < best.cycles["16", Format.INT4]


def test_a_device_that_reaches_more_than_copies_do_is_no_better_than_they() -> None:
    fast = Measured(TRUE.device, 4.0, 3.3e12, 200.0, 40e12)
    worst = strix_halo(fast, kept("gfx1151"), is_best=False)
    assert worst.bytes_per_s == COPY_SHARE * STRIX.bytes_per_s


def test_the_shape_is_the_published_models() -> None:
    assert qwen36_shape.gguf_bytes() / 2**30 == pytest.approx(14.99, rel=0.01)
    assert pytest.approx(48 * (3.15e6 + 123e3), rel=0.01) == qwen36_shape.STATE_BYTES
    per_token = sum(2 * kv.n_kv * kv.head_dim * 2 for kv in SHAPE.target.kv_layers)
    assert per_token == 64 * 1024
    drafter = sum(work.weight_bytes for work in count(SHAPE.block, 16, 0, 15))
    head = sum(w.weight_bytes for w in count(SHAPE.target, 1, 0, 1) if w.weight_bytes > 1e9)
    context = 1.84e9 - 5 * 5120 * 5120 * 8.5 / 8  # the file without the target's part of it
    assert drafter - head == pytest.approx(context * 9 / 8.5, rel=0.02)


def test_predictions_have_their_order() -> None:
    loops, subject = kept("gfx1151"), of_qwen36(None)
    low, high = (predict(subject, strix_halo(TRUE, loops, is_best=b)) for b in (False, True))
    for name in ("decode_tokens_per_s", "dflash_tokens_per_s"):
        assert all(low[name][key] < value for key, value in high[name].items())
    assert all(high["verify_ms"][key] < value for key, value in low["verify_ms"].items())
    for found in (low, high):
        assert found["dense_ttft_s"] > 2 * 27e9 * PROMPT / STRIX.matrix_flops
        assert list(found["verify_ms"].values()) == sorted(found["verify_ms"].values())
        speeds = list(found["decode_tokens_per_s"].values())
        assert speeds == sorted(speeds, reverse=True)


def test_figures_become_tables_with_what_was_published() -> None:
    loops, subject = kept("gfx1151"), of_qwen36(None)
    rates = [strix_halo(TRUE, loops, is_best=is_best) for is_best in (False, True)]
    shares = {"launch_us": 1.0, "bandwidth_share": 0.5, "tile_cycles": 100.0,
              "matrix_share": 0.25, "attention_share": 0.1}  # fmt: skip
    found = {
        "calibrated_on": "a",
        "rates": {name: {"device": "A", **shares} for name in ("measured", "worst", "best")},
        "checks": {"a": [{"what": "step of 1", "measured_ms": 2.0, "predicted_ms": 1.0}]},
        "worst_factor": {"a": 2.0},
        "models": [
            {
                "name": subject.name,
                "weight_bytes": 17 * 10**9,
                **{
                    which: {**predict(subject, some), "pflash_ttft_s": {"0.05": 6.0}}
                    for which, some in zip(("worst", "best"), rates, strict=True)
                },
            }
        ],
    }
    text = markdown(json.loads(json.dumps(found)))
    assert "| step of 1 | 2.00 | 1.00 | 0.50 |" in text
    assert "Within a factor of 2.00." in text
    assert "| share of the memory's bandwidth | 50% | 50% | 50% |" in text
    assert "## `Qwen3.6-27B Q4_K_M`, 17.00 GB of weights a step" in text
    assert "12.0 (llama.cpp) |" in text
    assert "| 16,384 tokens scored and 5% of them read, s | 6.0 | 6.0 | 20.2 |" in text


def test_the_kept_reports_can_be_used() -> None:
    for report in reports_of(MEASURED).values():
        assert {"device", "verify_past", "speeds", "step_ms", "launches"} <= report.keys()
        assert any(row["weight_bytes"] for row in report["launches"]["1"])
