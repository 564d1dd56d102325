"""Identifiers of code as search terms: each as a whole and, if it is made of words, the words."""

import re
from functools import lru_cache

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
_LEAST_CHARS = 3
_MOST_CHARS = 64

# Words that are in so many chunks that they tell none of them apart.
_COMMON_WORDS = """
    abstract and any args as async await bool boolean break byte case catch char class const
    continue def default del delete do double elif else enum except export extends extern false
    final finally float for from fn func function get global goto if impl implements import in
    include instanceof int interface is lambda let long match mod module mut namespace new nil none
    nonlocal not null or override package pass private protected pub public raise return self set
    short signed static str string struct super switch template this throw throws trait true try
    type typedef typeof undefined union unsigned use using val var virtual void volatile where while
    with yield
"""
_COMMON = frozenset(_COMMON_WORDS.split())


class Occurrence:
    """An identifier of a text, as it is written, and where it begins."""

    __slots__ = ("name", "start")

    def __init__(self, name: str, start: int) -> None:
        self.name, self.start = name, start


def occurrences(text: str, start: int = 0, end: int | None = None) -> list[Occurrence]:
    """List the identifiers between two places of a text that are worth searching for."""
    found = _IDENTIFIER.finditer(text, start, len(text) if end is None else end)
    return [Occurrence(m.group(), m.start()) for m in found if is_telling(m.group())]


def is_telling(name: str) -> bool:
    """Tell whether an identifier is long and rare enough to be searched for."""
    return _LEAST_CHARS <= len(name) <= _MOST_CHARS and name.lower() not in _COMMON


@lru_cache(maxsize=2**16)
def terms_of_name(name: str) -> tuple[str, ...]:
    """Split a name: the whole in lower case first, then its words; parse_config, parse, config."""
    whole = name.lower()
    words = [word.lower() for word in _WORD.findall(name)]
    return (whole, *(w for w in words if w != whole and len(w) >= _LEAST_CHARS and is_telling(w)))


def terms_of_text(text: str) -> str:
    """List a text's terms, each once and in order, as what full-text search stores of it."""
    terms: set[str] = set()
    for name in set(_IDENTIFIER.findall(text)):
        if is_telling(name):
            terms.update(terms_of_name(name))
    return " ".join(sorted(terms))
