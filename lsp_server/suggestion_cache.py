"""What the model suggested lately: who types on as predicted is answered without the model.

Late results come in here, too: a completion that was overtaken by a key is still right if the key
is the one it predicted.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from lsp_server.prompt import CompletionInput

_MOST_ENTRIES = 16
_COMPARED_CHARS = 4096  # of the text before the cursor; more is the same or was not typed just now


class _Entry(msgspec.Struct, frozen=True):
    uri: str
    inp: CompletionInput
    n_asked: int
    texts: tuple[str, ...]


class SuggestionCache:
    """The latest suggestions of all documents, newest first."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque(maxlen=_MOST_ENTRIES)

    def add(self, uri: str, inp: CompletionInput, n_asked: int, texts: Sequence[str]) -> None:
        """Keep what was suggested at `inp` when up to `n_asked` texts were wanted."""
        if texts:
            self._entries.appendleft(_Entry(uri, inp, n_asked, tuple(texts)))

    def clear(self) -> None:
        """Forget everything: another model or other settings would suggest something else."""
        self._entries.clear()

    def serve(self, uri: str, inp: CompletionInput, n_wanted: int) -> tuple[str, ...]:
        """What is left of suggestions that the text before the cursor has followed; () for none."""
        for entry in self._entries:
            if entry.uri != uri or entry.n_asked < n_wanted or not _is_alike(entry.inp, inp):
                continue
            typed = _typed_since(entry.inp.prefix, inp.prefix, max(map(len, entry.texts)))
            if typed is None:
                continue
            left = [t[len(typed) :] for t in entry.texts if t.startswith(typed)]
            if served := tuple(text for text in left if text.strip()):
                return served
        return ()


def _is_alike(then: CompletionInput, now: CompletionInput) -> bool:
    """Whether all but the text before the cursor is the same."""
    return (then.suffix, then.language_id, then.path, then.multiline) == (
        now.suffix,
        now.language_id,
        now.path,
        now.multiline,
    )


def _typed_since(then: str, now: str, n_most: int) -> str | None:
    """What was added at the end of `then` to make it `now`; None if that is not what happened.

    Long ones are compared at their ends: they may be windows that moved with the cursor.
    """
    if len(then) <= _COMPARED_CHARS:
        return now[len(then) :] if now.startswith(then) else None
    end = then[-_COMPARED_CHARS:]
    n_typed = next((n for n in range(n_most) if now.endswith(end, 0, len(now) - n)), None)
    return None if n_typed is None else now[len(now) - n_typed :]
