"""The README's GPU tables, from a report; no GPU."""

import copy
import json
from typing import Any

from benchmarks import gpu_tables
from benchmarks.gpu_tables import markdown

REPORT: dict[str, Any] = {
    "model": "a-model",
    "backend": "cuda (A GPU, sm_90)",
    "device": "A GPU",
    "speeds": {"tg128": 1500.4, "pp2048": 60000.0},
    "verify_past": 1024,
    "step_ms": {"1": 1.0, "16": 1.25},
    "copy_gb_per_s": 2500.0,
    "launches": {
        "1": [
            {"kernel": "linear_16", "grid": [72, 1, 1], "weight_bytes": 10**6, "n": 24, "us": 4.0},
            {"kernel": "linear_16", "grid": [9496, 1, 1], "weight_bytes": 15 * 10**7, "n": 1,
             "us": 100.0},
            {"kernel": "argmax", "grid": [1, 1, 1], "weight_bytes": 0, "n": 1, "us": 2.0},
        ]
    },
    "modes": {
        "off": {"tokens_per_s": 1400.0, "tokens_per_step": 1.0, "prompts": 200, "different": 0},
        "auto": {"tokens_per_s": 3000.0, "tokens_per_step": 4.25, "prompts": 200, "different": 1},
    },
    "llama_cpp": [{"tg128": 750.0, "pp2048": 39000.0}, {"tg128": 740.0, "pp2048": 40000.0}],
    "llama_cpp_step_ms": {"1": 1.5, "16": 3.0},
    "agreement": {"n": 2048, "same": 0.991, "same_where_clear": 1.0},
}  # fmt: skip

EXPECTED = """\
A GPU, `a-model`, `python -m benchmarks.gpu`, one run, llama.cpp's `llama-bench` in the same:

| tok/s | flash-lsp | llama.cpp | ratio |
| --- | --- | --- | --- |
| prefill of 2,048 tokens | 60,000 | 40,000 | 1.50 |
| decode, plain, 128 tokens from nothing | 1,500 | 750 | 2.00 |
| decode with `off` after 200 function stems, 1.00 tokens a step | 1,400 | 750 | 1.87 |
| decode with `auto` after 200 function stems, 4.25 tokens a step | 3,000 | 750 | 4.00 |

A step of several rows after 1,024 tokens, in milliseconds:

| rows | 1 | 16 |
| --- | --- | --- |
| flash-lsp | 1.00 | 1.25 |
| in steps of one row | 1.00 | 1.25 |
| llama.cpp | 1.50 | 3.00 |

Copying memory to memory moves 2,500 GB/s, reads and writes counted; the largest linear launches \
of a step of one row read:

| launch | MB | µs | GB/s | of copying |
| --- | --- | --- | --- | --- |
| 1 x `linear_16` of 9,496 blocks | 150.0 | 100.0 | 1,500 | 60% |
| 24 x `linear_16` of 72 blocks | 1.0 | 4.0 | 250 | 10% |

Of 200 drafted texts, 1 differ from plain decoding.
The likeliest token is the processor's in 99.1% of 2,048 positions of real code, and in 100.0% of \
those where its first leads by 0.3 nats.
"""


def test_a_report_becomes_the_readmes_tables() -> None:
    assert markdown(REPORT) == EXPECTED


def test_without_llama_cpp_nothing_is_said_of_it() -> None:
    alone = copy.deepcopy(REPORT)
    alone["llama_cpp"], alone["llama_cpp_step_ms"] = [], {}
    assert "llama" not in markdown(alone)
    assert "| prefill of 2,048 tokens | 60,000 |\n" in markdown(alone)


def test_kept_reports_are_tabulated_one_after_another(tmp_path, capsys, monkeypatch) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORT))
    monkeypatch.setattr("sys.argv", ["gpu_tables", str(path), str(path)])
    assert gpu_tables.main() == 0
    assert capsys.readouterr().out.count(EXPECTED) == 2
