"""Following a copy across the changes made on the way."""

import pytest

from engine.speculation.corpus import Corpus
from engine.speculation.edit_pointer import EditPointer

OLD = list(range(100, 140))


def follow(written: list[int]) -> tuple[EditPointer, int | None]:
    """The pointer after a rewriting of OLD has got as far as `written`, token by token; where it
    goes on, as an index into OLD."""
    corpus = Corpus([OLD, [1, 2, 3]], room=len(written))
    pointer = EditPointer(corpus, 1)
    place = pointer.follow()
    for token in written:
        corpus.append([token])
        place = pointer.follow()
    return pointer, None if place is None else place.start - 1


@pytest.mark.parametrize("n_copied", [0, 1, 10, 39])
def test_a_copy_goes_on_where_it_is(n_copied: int) -> None:
    assert follow(OLD[:n_copied])[1] == n_copied


def test_one_token_is_supposed_to_replace_one() -> None:
    assert follow([*OLD[:5], 7])[1] == 6


@pytest.mark.parametrize("n_removed", [1, 2, 9, 30])
@pytest.mark.parametrize("n_inserted", [0, 1, 3, 20])
def test_after_a_change_the_place_is_found_again(n_removed: int, n_inserted: int) -> None:
    inserted = list(range(7, 7 + n_inserted))
    written = [*OLD[:5], *inserted, *OLD[5 + n_removed : 5 + n_removed + 3]]
    assert follow(written)[1] == 5 + n_removed + 3


def test_a_long_change_loses_the_place() -> None:
    assert follow([*OLD[:5], *range(60)])[1] is None


def test_a_name_that_was_changed_is_changed_again() -> None:
    name, other = [50, 51], [60, 61, 62]
    old = [1, 2, 3, *name, 4, 5, 6, 7, *name, 8, 9, 10]
    corpus = Corpus([old], room=30)
    pointer = EditPointer(corpus, 1)
    pointer.follow()
    corpus.append([1, 2, 3])
    place = pointer.follow()
    assert place is not None and pointer.run(place.start, 4) == [50, 51, 4, 5]
    for token in (*other, 4, 5, 6):
        corpus.append([token])
        place = pointer.follow()
    assert place is not None
    assert pointer.run(place.start, 6) == [7, *other, 8, 9]
    corpus.append([7, *other, 8])
    place = pointer.follow()
    assert place is not None and place.start == 1 + old.index(9)
    assert place.n_agreed >= 5
