"""From archives of packages to a training folder: corpus, templates, and where it is from."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from engine.gguf.reader import GgufFile
from engine.tokenizer import Tokenizer
from engine.train import corpus
from engine.train.card import PackageRow
from engine.train.corpus import Ids
from engine.train.prompts import make_templates
from engine.train.sources import LANGUAGES, Source, read_sources

OnProgress = Callable[[str, int, int], None]  # what is being done, done, in all
_ARCHIVES = (".whl", ".tgz", ".deb", ".dsc")


def collect(
    paths: Sequence[Path],
    model: Path,
    out: Path,
    chars_per_language: int,
    held_out: Sequence[str],
    on_progress: OnProgress,
) -> Counter[str]:
    """Write corpus.npz, templates.npz and packages.json; tokens by language.

    Raises ValueError if nothing usable was found, or the vocabulary has no token to be the mask.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = list(_read_all(list(_archives(paths)), on_progress))
    budgets = dict.fromkeys(LANGUAGES, chars_per_language)
    chosen = corpus.select(found, budgets, held_out)
    if not chosen:
        raise ValueError("no source files of permissively licensed packages were found")
    with ProcessPoolExecutor(initializer=_open_tokenizer, initargs=(model,)) as pool:
        documents: list[tuple[Source, bool, Ids, Ids]] = []
        tokenized = pool.map(_tokenize, [source for source, _ in chosen], chunksize=16)
        for (source, is_held), (ids, stems) in zip(chosen, tokenized, strict=True):
            documents.append((source, is_held, ids, stems))
            on_progress("tokenizing", len(documents), len(chosen))
    corpus.build(documents).save(out / "corpus.npz")
    with GgufFile(model) as file:
        tokenizer = Tokenizer.from_gguf(file)
    templates = make_templates(tokenizer.encode, dict(tokenizer.special_tokens), tuple(LANGUAGES))
    np.savez(out / "templates.npz", **templates.save_arrays())
    rows = [asdict(row) for row in _packages(chosen)]
    (out / "packages.json").write_text(json.dumps(rows, indent=1) + "\n")
    n_tokens: Counter[str] = Counter()
    for source, _, ids, _ in documents:
        n_tokens[source.language] += len(ids)
    return n_tokens


def _archives(paths: Iterable[Path]) -> Iterable[Path]:
    """Archives as named or lying in a named folder; a folder without any is source itself."""
    for path in paths:
        inside = (
            sorted(p for p in path.iterdir() if p.name.endswith(_ARCHIVES)) if path.is_dir() else []
        )
        yield from inside or [path]


def _read_all(paths: Sequence[Path], on_progress: OnProgress) -> Iterable[Source]:
    with ProcessPoolExecutor() as pool:
        for index, sources in enumerate(pool.map(_read, paths, chunksize=4)):
            on_progress("reading", index + 1, len(paths))
            yield from sources


def _read(path: Path) -> list[Source]:
    return list(read_sources(path))


_tokenizer: list[Tokenizer] = []  # of a worker process, opened once


def _open_tokenizer(model: Path) -> None:
    with GgufFile(model) as file:
        _tokenizer.append(Tokenizer.from_gguf(file))


def _tokenize(source: Source) -> tuple[Ids, Ids]:
    return corpus.tokenize(source, _tokenizer[0].encode, _tokenizer[0].token_bytes)


def _packages(chosen: Sequence[tuple[Source, bool]]) -> list[PackageRow]:
    n_files: Counter[tuple[str, str, str, bool]] = Counter()
    n_chars: Counter[tuple[str, str, str, bool]] = Counter()
    for source, is_held in chosen:
        key = (source.package, source.licence, source.language, is_held)
        n_files[key] += 1
        n_chars[key] += len(source.text)
    return [
        PackageRow(package, licence, language, n_files[key], n_chars[key], is_held)
        for key in sorted(n_files)
        for package, licence, language, is_held in [key]
    ]
