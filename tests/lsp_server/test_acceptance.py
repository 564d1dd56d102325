import pytest

from lsp_server.acceptance import Acceptance
from lsp_server.documents import Document, DocumentStore, Place
from lsp_server.protocol import ContentChange, Position, Range

URI = "file:///a.py"
TEXT = "return a + b\n    # 🙂 done"


def opened(text: str = "def f():\n    \nx = 1\n") -> tuple[Acceptance, Document]:
    documents = DocumentStore()
    return Acceptance(documents), documents.open(URI, "python", 1, text)


def insert(document: Document, line: int, character: int, text: str) -> None:
    at = Position(line, character)
    document.change([ContentChange(text, Range(at, at))], None)


def test_lengths_are_cumulative_and_count_characters() -> None:
    acceptance, document = opened()
    id = acceptance.offer(document, Place(1, 4), TEXT)
    assert acceptance.accept(id, 6) is not None
    assert acceptance.accept(id, 6) is None
    assert acceptance.accept(id, 12) is None
    assert acceptance.n_accepted_chars == 12
    acceptance.accept(id)
    acceptance.accept(id, 3)
    assert acceptance.n_accepted_chars == len(TEXT)
    assert acceptance.accept("offer-99") is None
    assert acceptance.accept(id, 10**9) is None


@pytest.mark.parametrize(
    ("then", "kept"),
    [
        (lambda document: insert(document, 1, 4, TEXT), 1.0),
        (lambda document: insert(document, 1, 4, "return a + b"), 12 / 20),
        (lambda document: insert(document, 1, 4, "pass"), 0.0),
    ],
)
def test_what_is_still_there_was_kept(then: object, kept: float) -> None:
    acceptance, document = opened()
    id = acceptance.offer(document, Place(1, 4), TEXT)
    offer = acceptance.accept(id)
    assert offer is not None and acceptance.kept_rate is None
    assert callable(then)
    then(document)
    acceptance.check(offer)
    assert acceptance.n_checked == 1
    assert acceptance.kept_rate == pytest.approx(kept, abs=0.03)


def test_what_moved_with_its_surroundings_was_kept_and_what_is_far_away_is_another() -> None:
    for n_lines, is_moved in ((500, True), (500, False)):
        acceptance, document = opened()
        offer = acceptance.accept(acceptance.offer(document, Place(1, 4), "return a"))
        assert offer is not None
        if is_moved:
            insert(document, 1, 4, "return a")
            insert(document, 0, 0, "\n" * n_lines)
        else:
            insert(document, 2, 0, "\n" * n_lines + "return a\n")
        acceptance.check(offer)
        assert acceptance.kept_rate == (1.0 if is_moved else 0.0)


def test_only_the_accepted_part_is_looked_for() -> None:
    acceptance, document = opened()
    offer = acceptance.accept(acceptance.offer(document, Place(1, 4), TEXT), 6)
    insert(document, 1, 4, "return")
    assert offer is not None
    acceptance.check(offer)
    assert (acceptance.kept_rate, acceptance.n_checked_chars) == (1.0, 6)


def test_a_closed_document_says_nothing() -> None:
    documents = DocumentStore()
    acceptance = Acceptance(documents)
    document = documents.open(URI, "python", 1, "x\n")
    offer = acceptance.accept(acceptance.offer(document, Place(0, 0), "y"))
    documents.close(URI)
    assert offer is not None
    acceptance.check(offer)
    assert acceptance.n_checked == 0


def test_old_offers_are_forgotten() -> None:
    acceptance, document = opened()
    first = acceptance.offer(document, Place(0, 0), "y")
    for _ in range(1000):
        acceptance.offer(document, Place(0, 0), "y")
    assert acceptance.accept(first) is None
