"""Packages become a folder that a run can start from."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.train.collect import collect  # noqa: E402
from engine.train.corpus import Corpus  # noqa: E402
from engine.train.prompts import PromptMaker, Templates  # noqa: E402
from tests.engine.train.test_sources import CODE, tarball, wheel  # noqa: E402
from tests.tiny_gguf import write_tiny_gguf  # noqa: E402


def test_a_folder_of_packages_is_ready_to_train_on(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    wheel(packages, "License: MIT", {"thing/a.py": CODE})
    script = "".join(f"function f{i}(x) {{\n  return x + {i}\n}}\n" for i in range(30))
    files = {"package/package.json": '{"name": "kept", "license": "ISC"}', "package/a.js": script}
    tarball(packages / "kept.tgz", files)
    model, out = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2"), tmp_path / "out"

    n_tokens = collect([packages], model, out, 10**6, ["kept"], lambda *_: None)

    corpus = Corpus.load(out / "corpus.npz")
    assert sorted(n_tokens) == ["javascript", "python"] and len(corpus.ids) == n_tokens.total()
    assert corpus.held_out.tolist() == [name == "javascript" for name in _languages(corpus)]
    assert len(corpus.stems) == 42
    with np.load(out / "templates.npz") as arrays:
        templates = Templates.from_arrays(dict(arrays), len(corpus.language_names))
    assert PromptMaker(corpus, templates, 0).draw(5, 32, 64)
    rows = json.loads((out / "packages.json").read_text())
    assert [(row["package"], row["licence"], row["held_out"]) for row in rows] == [
        ("kept", "ISC", True),
        ("thing", "MIT", False),
    ]


def _languages(corpus: Corpus) -> list[str]:
    return [corpus.language_names[index] for index in corpus.languages]
