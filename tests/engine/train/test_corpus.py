"""Documents survive the archive, copies do not, and stems are where functions open."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.train.corpus import Corpus, build, select, stem_ends, tokenize  # noqa: E402
from engine.train.sources import Source  # noqa: E402


def source(text: str, package: str = "p", language: str = "python") -> Source:
    return Source(package, "MIT", "a.py", language, text)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    ids = np.array([70000, 5, 5, 9, 70000], np.int32)
    documents = [
        (source("a"), False, ids, np.array([2], np.int32)),
        (source("b", language="rust"), True, ids[:2], np.array([], np.int32)),
    ]
    corpus = build(documents)

    corpus.save(tmp_path / "corpus.npz")
    again = Corpus.load(tmp_path / "corpus.npz")

    assert again.document(0).tolist() == ids.tolist()
    assert again.document(1).tolist() == [70000, 5]
    assert again.held_out.tolist() == [False, True]
    assert again.stems.tolist() == [[0, 2]]
    assert [again.language_names[i] for i in again.languages] == ["python", "rust"]


def test_a_copy_of_a_held_out_file_is_never_trained_on() -> None:
    kept = select([source("x = 1\n", "b"), source("x  = 1", "a")], {"python": 100}, ["a"])

    assert [(s.package, is_held) for s, is_held in kept] == [("a", True)]


def test_a_language_stays_within_its_characters() -> None:
    sources = [source(f"{i}" * 40, f"p{i}") for i in range(9)]

    assert len(select(sources, {"python": 100}, [])) == 2


@pytest.mark.parametrize(
    ("language", "text", "stems"),
    [
        ("python", 'x = 1\ndef f(a):\n    """Doc.\n\n    More."""\n    return a\n', ['"""\n']),
        ("python", "class A:\n    async def g(self) -> int:\n        return 1\n", ["int:\n"]),
        ("go", "package a\n\nfunc f(a int) error {\n\treturn nil\n}\n", ["error {\n"]),
        ("rust", "let a = b;\npub fn g(x: u8) -> u8 {\n    x\n}\n", ["u8 {\n"]),
        ("lua", "local function h(a)\n  return a\nend\n", ["(a)\n"]),
    ],
)
def test_stems_end_where_a_function_opens(language: str, text: str, stems: list[str]) -> None:
    ends = stem_ends(source(text, language=language))

    assert len(ends) == len(stems)
    assert all(text[:end].endswith(stem) for end, stem in zip(ends, stems, strict=True))


def test_a_stem_counts_whole_tokens_before_it() -> None:
    text = "def é():\n    return 1\n"
    pieces = ["def ", "é", "():", "\n", "    return", " 1", "\n"]

    ids, stems = tokenize(source(text), lambda _: range(7), lambda i: pieces[i].encode())

    assert ids.tolist() == [*range(7)] and stems.tolist() == [4]
