"""A tokenized corpus: documents of source code, and where functions have just been opened.

On disk one compressed NumPy archive; token ids are renumbered by frequency so that they pack well.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.train.sources import LANGUAGES, Source

Ids = npt.NDArray[np.int32]

# Where a person would stop and wait: after a Python signature with its docstring, after the line
# that opens a body elsewhere.
_STEMS = {
    "python": re.compile(
        r'^[ \t]*(?:async )?def [^\n]+:\n(?:[ \t]+"""(?:[^"\\]|"(?!""))*"""\n)?', re.M
    ),
    "lua": re.compile(r"^[ \t]*(?:local )?function [^\n]*\)\n", re.M),
    "ruby": re.compile(r"^[ \t]*def [^\n]*\n", re.M),
}
_BRACED_STEM = re.compile(r"^[ \t]*[\w\[<(*&][^\n;=]*\)[^\n;=]*\{\n", re.M)
_PACKAGE_SHARE = 0.08  # of a language's budget: no one package sets the tone


@dataclass(frozen=True)
class Corpus:
    """Documents as one run of ids: document i is `ids[starts[i]:starts[i + 1]]`.

    `languages` indexes `language_names`; `held_out` marks documents that are never trained on;
    `stems` (n, 2) holds (document, position after an opened function) in order of documents.
    """

    ids: Ids  # (n_tokens,)
    starts: npt.NDArray[np.int64]  # (n_documents + 1,)
    languages: npt.NDArray[np.uint8]  # (n_documents,)
    held_out: npt.NDArray[np.bool_]  # (n_documents,)
    stems: Ids  # (n_stems, 2)
    language_names: tuple[str, ...]

    def document(self, index: int) -> Ids:
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def save(self, path: Path) -> None:
        kept, compact = np.unique(self.ids, return_inverse=True)
        order = np.argsort(-np.bincount(compact), kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        kind = np.uint16 if len(kept) <= 1 << 16 else np.uint32
        np.savez_compressed(
            path,
            table=kept[order].astype(np.int32),
            ids=rank[compact].astype(kind),
            starts=self.starts,
            languages=self.languages,
            held_out=self.held_out,
            stems=self.stems,
            language_names=np.array(self.language_names),
        )

    @classmethod
    def load(cls, path: Path) -> "Corpus":
        with np.load(path) as file:
            return cls(
                ids=file["table"][file["ids"]],
                starts=file["starts"],
                languages=file["languages"],
                held_out=file["held_out"],
                stems=file["stems"],
                language_names=tuple(str(name) for name in file["language_names"]),
            )


def select(
    sources: Iterable[Source], budgets: dict[str, int], held_out: Sequence[str]
) -> list[tuple[Source, bool]]:
    """Drop copies and keep each language, and each package in it, within its characters.

    A package whose name matches a pattern of `held_out` is marked, and so is no copy of it kept.
    """
    ordered = sorted(sources, key=lambda s: not _matches(s.package, held_out))
    seen: set[bytes] = set()
    used: Counter[str] = Counter()
    used_by_package: Counter[tuple[str, str]] = Counter()
    chosen: list[tuple[Source, bool]] = []
    for source in ordered:
        digest = hashlib.sha1("".join(source.text.split()).encode()).digest()
        budget, key = budgets.get(source.language, 0), (source.language, source.package)
        n_chars = len(source.text)
        is_over = used_by_package[key] + n_chars > max(_PACKAGE_SHARE * budget, 600_000)
        if digest in seen or is_over or used[source.language] + n_chars > budget:
            continue
        seen.add(digest)
        used[source.language] += n_chars
        used_by_package[key] += n_chars
        chosen.append((source, _matches(source.package, held_out)))
    return chosen


def stem_ends(source: Source) -> list[int]:
    """Character offsets just after the openings of functions."""
    return [
        match.end() for match in _STEMS.get(source.language, _BRACED_STEM).finditer(source.text)
    ]


def tokenize(
    source: Source, encode: Callable[[str], Sequence[int]], token_bytes: Callable[[int], bytes]
) -> tuple[Ids, Ids]:
    """A document's ids, and the positions in them that follow an opened function."""
    ids = np.array(encode(source.text), np.int32)
    ends = np.cumsum([len(token_bytes(token)) for token in ids.tolist()])
    offsets = [len(source.text[:end].encode()) for end in stem_ends(source)]
    # A token that reaches past the line's end belongs to what follows.
    return ids, np.searchsorted(ends, offsets, side="right").astype(np.int32)


def build(documents: Sequence[tuple[Source, bool, Ids, Ids]]) -> Corpus:
    names = tuple(LANGUAGES)
    return Corpus(
        ids=np.concatenate([ids for _, _, ids, _ in documents]),
        starts=np.cumsum([0, *(len(ids) for _, _, ids, _ in documents)]).astype(np.int64),
        languages=np.array([names.index(s.language) for s, _, _, _ in documents], np.uint8),
        held_out=np.array([held for _, held, _, _ in documents], np.bool_),
        stems=np.array(
            [(i, at) for i, (_, _, _, stems) in enumerate(documents) for at in stems.tolist()],
            np.int32,
        ).reshape(-1, 2),
        language_names=names,
    )


def _matches(package: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(package, pattern) for pattern in patterns)
