"""Where in an earlier text a copy of it has got to, across the changes made on the way.

An edit repeats most of a text and changes some of it. After a change the latest tokens match
nothing, but the copy is known to go on near where it left off. What was put in place of what is
remembered: a name that was changed once is changed again.
"""

from dataclasses import dataclass

from engine.speculation.corpus import Corpus, Occurrences

_WINDOW_TOKENS = 64  # how far ahead a copy is looked for after a change
_MOST_PENDING_TOKENS = 48  # a change longer than this has lost its place
_GUESSED_TOKENS = 3  # so long a change is supposed to replace as many tokens as it has
_MOST_OLD_TOKENS, _MOST_NEW_TOKENS = 4, 6
_MOST_REPLACEMENTS = 32

_Replacement = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Place:
    """Where the copy goes on, and how many tokens have agreed since the last change."""

    start: int
    n_agreed: int


class EditPointer:
    """Follows the copy of a text that begins at `start`, or of whatever is copied at length."""

    def __init__(self, corpus: Corpus, start: int | None) -> None:
        self._corpus = corpus
        self._at = start  # the text up to here corresponds to ...
        self._seen = corpus.n  # ... the latest tokens up to here
        self._n_agreed = 0
        self._replacements: dict[int, list[_Replacement]] = {}
        self._n_replacements = 0

    def jump(self, start: int, length: int) -> None:
        """The latest `length` tokens are a copy of those before `start`."""
        self._at, self._seen, self._n_agreed = start, self._corpus.n, length

    def follow(self) -> Place | None:
        """The place after all tokens so far; None when it is lost."""
        if self._at is None:
            return None
        self._at = self._advance(self._at)
        n_pending = self._corpus.n - self._seen
        if n_pending == 0:
            return Place(self._at, self._n_agreed)
        if n_pending > _MOST_PENDING_TOKENS:
            self._at = None
            return None
        straight, end = self._at + n_pending, min(self._at + _WINDOW_TOKENS, self._seen)
        nearby = self._corpus.find(self._at, end, straight)
        if nearby is not None:
            return self._resume(self._at, nearby, straight)
        return Place(self._at + n_pending, 0) if n_pending <= _GUESSED_TOKENS else None

    def run(self, start: int, n_tokens: int) -> list[int]:
        """What followed at `start`, with the replacements made so far."""
        old = self._corpus.run(start, n_tokens)
        if not self._replacements:
            return old
        new: list[int] = []
        i = 0
        while i < len(old) and len(new) < n_tokens:
            replacement = self._replacement_of(old[i : i + _MOST_OLD_TOKENS])
            new += [old[i]] if replacement is None else replacement[1]
            i += 1 if replacement is None else len(replacement[0])
        return new[:n_tokens]

    def _advance(self, at: int) -> int:
        """Takes the tokens that agree, and changes that were made before."""
        corpus = self._corpus
        while self._seen < corpus.n:
            if corpus[at] == corpus[self._seen]:
                n_old = n_new = 1
            else:
                replacement = self._replacement_of(corpus.slice(at, at + _MOST_OLD_TOKENS))
                if replacement is None:
                    break
                n_old, n_new = len(replacement[0]), len(replacement[1])
                latest = corpus.slice(self._seen, min(self._seen + n_new, corpus.n))
                if latest != replacement[1]:
                    break
            at += n_old
            self._seen += n_new
            self._n_agreed += n_new
        return at

    def _resume(self, at: int, nearby: Occurrences, straight: int) -> Place:
        """The best place after a change, some tokens of which agree again; without them it were
        `straight` on."""
        start = nearby.nearest
        length = min(nearby.length, straight - at, start - at)
        if length >= 3 or (length == 2 and start == straight):
            old = self._corpus.slice(at, start - length)
            new = self._corpus.slice(self._seen, self._corpus.n - length)
            self._remember(old, new)
            self.jump(start, length)
        return Place(start, length)

    def _remember(self, old: list[int], new: list[int]) -> None:
        if not 0 < len(old) <= _MOST_OLD_TOKENS or not 0 < len(new) <= _MOST_NEW_TOKENS:
            return
        if self._n_replacements == _MOST_REPLACEMENTS:
            self._replacements.clear()
            self._n_replacements = 0
        same_start = self._replacements.setdefault(old[0], [])
        kept = [entry for entry in same_start if entry[0] != old]
        self._n_replacements += 1 + len(kept) - len(same_start)
        # Longer ones first: they are the more particular.
        same_start[:] = sorted([(old, new), *kept], key=lambda entry: -len(entry[0]))

    def _replacement_of(self, old: list[int]) -> _Replacement | None:
        for entry in self._replacements.get(old[0], ()) if old else ():
            if entry[0] == old[: len(entry[0])]:
                return entry
        return None
