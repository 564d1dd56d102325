"""What became of offered texts: accepted how far, and kept how long. Counted here, sent nowhere.

A text counts as kept as far as its lines are still in the document some time after it was taken,
near where they went in.
"""

import itertools
from collections import OrderedDict

import msgspec

from lsp_server.documents import Document, DocumentStore, Place, UnknownDocumentError

KEPT_AFTER_S = 30.0  # long enough to be corrected, soon enough to be still open
_MOST_OFFERS = 256
_NEARBY_LINES = 40


class Offer(msgspec.Struct):
    """`n_accepted_units` are UTF-16 units from the text's start."""

    id: str
    uri: str
    place: Place
    version: int
    text: str
    n_accepted_units: int = 0


class Acceptance:
    """Offers by their id, and the sums over all that were accepted."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self.kept_after_s = KEPT_AFTER_S
        self._offers: OrderedDict[str, Offer] = OrderedDict()
        self._ids = itertools.count(1)
        self.n_accepted_chars = 0
        self.n_checked = self.n_checked_chars = 0
        self.n_kept_chars = 0.0

    @property
    def kept_rate(self) -> float | None:
        """The share of accepted characters that were kept, of those looked at so far."""
        return self.n_kept_chars / self.n_checked_chars if self.n_checked_chars else None

    def offer(self, document: Document, place: Place, text: str) -> str:
        """Remember an offered text; returns the id by which a client reports what became of it."""
        id = f"offer-{next(self._ids)}"
        self._offers[id] = Offer(id, document.uri, place, document.version, text)
        if len(self._offers) > _MOST_OFFERS:
            self._offers.popitem(last=False)
        return id

    def accept(self, id: str, n_units: int | None = None) -> Offer | None:
        """Note that a text was accepted up to so many UTF-16 units, or whole.

        Lengths are cumulative and may be reported again; as clients count them, they include what
        the user typed of an offer that stayed on the screen meanwhile. Returns the offer when it
        was accepted for the first time: `check` it later.
        """
        offer = self._offers.get(id)
        if offer is None:
            return None
        n_all = _n_units(offer.text)
        n_units = n_all if n_units is None else min(n_units, n_all)
        is_first = offer.n_accepted_units == 0 and n_units > 0
        if n_units > offer.n_accepted_units:
            before, after = _head(offer.text, offer.n_accepted_units), _head(offer.text, n_units)
            self.n_accepted_chars += len(after) - len(before)
            offer.n_accepted_units = n_units
        return offer if is_first else None

    def check(self, offer: Offer) -> None:
        """Look at how much of an accepted text is still there; a closed document says nothing."""
        try:
            document = self._documents[offer.uri]
        except UnknownDocumentError:
            return
        text = _head(offer.text, offer.n_accepted_units)
        self.n_checked += 1
        self.n_checked_chars += len(text)
        self.n_kept_chars += kept_share(document, offer, text) * len(text)


def kept_share(document: Document, offer: Offer, text: str) -> float:
    """The share, by characters, of the lines of `text` that are near where they went in."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return 1.0
    changes = document.changes.since(offer.version)
    first, last = 0, document.n_lines
    if changes is not None:
        n_moved = sum(c.n_more_lines for c in changes if c.old_end < offer.place)
        first = max(0, offer.place.line + n_moved - _NEARBY_LINES)
        last = first + 2 * _NEARBY_LINES + len(lines)
    nearby = [document.line(n) for n in range(first, min(last, document.n_lines))]
    kept = [line for line in lines if any(line in there for there in nearby)]
    return sum(map(len, kept)) / sum(map(len, lines))


def _n_units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _head(text: str, n_units: int) -> str:
    return text.encode("utf-16-le", "surrogatepass")[: 2 * n_units].decode("utf-16-le", "ignore")
