"""A whole run on a toy, from a training folder to the drafter, its figures, picture and card."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from engine.train.export import read_drafter  # noqa: E402
from engine.train.run import Options, run  # noqa: E402
from tests.engine.train.toy import BUCKET, toy_corpus, toy_templates  # noqa: E402
from tests.tiny_gguf import write_tiny_gguf  # noqa: E402


def test_a_folder_becomes_a_drafter_with_its_card(tmp_path: Path) -> None:
    toy_corpus().save(tmp_path / "corpus.npz")
    np.savez(tmp_path / "templates.npz", **toy_templates().save_arrays())
    row = {"package": "p", "licence": "MIT", "language": "go", "n_files": 1, "n_chars": 9}
    (tmp_path / "packages.json").write_text(json.dumps([row | {"held_out": False}]))
    said: list[str] = []

    run(
        Options(
            model=write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", n_layers=6),
            folder=tmp_path,
            out=tmp_path / "out",
            seconds=2,
            name="toy drafter",
            n_layer=1,
            n_ff=64,
            buckets=(replace(BUCKET, n_positions=112, n_new=64),),
            texts_per_language=6,
            evaluate_every=1,
            is_compiled=False,
            first_batches=2,
            n_vocabulary=64,
            n_rows=48,
        ),
        lambda what, figures: said.append(what),
    )

    out = tmp_path / "out"
    drafter, vocabulary = read_drafter(out / "drafter.q4_0.gguf")
    assert len(vocabulary) == 64 and drafter.c.mask_id == toy_templates().mask_id
    figures = json.loads((out / "figures.json").read_text())["acceptance"]
    assert {"as f16", "as q8_0", "as q5_0", "as q4_0", "block 8", "block 12"} <= set(figures)
    assert (out / "history.png").read_bytes().startswith(b"\x89PNG")
    card = (out / "card.md").read_text()
    assert card.startswith("# toy drafter\n") and "| go | 1 | 1 | 0.0 |" in card
    assert "- p: MIT" in card
    assert (out / "checkpoint.pt").exists() and "drafter written" in said
