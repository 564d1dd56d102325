"""A session's state equals that of a fresh one that was fed the same tokens, bit for bit."""

import numpy as np
import pytest

from engine.backends.backend import KV_BLOCK_TOKENS
from engine.errors import ContextOverflowError, RequestError
from engine.session import ROOT, StepCancelled
from tests.engine.tiny_model import TinyModel, load_tiny, random_tokens


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return load_tiny(tmp_path_factory.mktemp("model"))


def test_accepting_a_path_equals_feeding_its_tokens(tiny: TinyModel) -> None:
    start, tree = random_tokens(45), random_tokens(9, seed=1)
    parents = [ROOT, 0, 0, 1, 2, 4, 4, 6, ROOT]
    path = [0, 2, 4, 6, 7]
    session = tiny.session()
    session.append(start)
    session.verify(tree, parents)
    session.accept(path)
    accepted = [tree[row] for row in path]
    assert session.tokens == start + accepted
    tail = random_tokens(40, seed=2)
    found = session.append(tail).logits.copy()
    session.release()
    np.testing.assert_array_equal(found[0], tiny.logits(start + accepted + tail)[-1])


def test_a_verified_tree_that_nobody_accepts_leaves_no_trace(tiny: TinyModel) -> None:
    start, tail = random_tokens(31), random_tokens(3, seed=3)
    session = tiny.session()
    session.append(start)
    session.verify(random_tokens(5, seed=4), [ROOT, 0, 1, 0, ROOT])
    found = session.append(tail).logits.copy()
    assert session.tokens == start + tail
    session.release()
    np.testing.assert_array_equal(found[0], tiny.logits(start + tail)[-1])


def test_what_is_done_meanwhile_is_done_once_and_changes_nothing(tiny: TinyModel) -> None:
    session = tiny.session()
    done: list[list[int]] = []
    tokens = random_tokens(3)
    verified = session.verify(tokens, [ROOT, 0, 1], meanwhile=lambda: done.append(session.tokens))
    assert done == [[]]
    found = verified.logits.copy()
    session.release()
    np.testing.assert_array_equal(found, tiny.logits(tokens))


@pytest.mark.parametrize("n_kept", [0, 1, 31, 32, 33, 70])
def test_truncating_equals_never_having_fed_the_rest(tiny: TinyModel, n_kept: int) -> None:
    start, tail = random_tokens(70), random_tokens(40, seed=5)
    session = tiny.session()
    session.append(start)
    session.truncate(n_kept)
    found = session.append(tail).logits.copy()
    session.release()
    np.testing.assert_array_equal(found[0], tiny.logits(start[:n_kept] + tail)[-1])


def test_a_snapshot_survives_what_its_session_does_next(tiny: TinyModel) -> None:
    start = random_tokens(50)
    session = tiny.session()
    session.append(start)
    snapshot = session.snapshot()
    for seed in range(3):
        tail = random_tokens(20, seed=10 + seed)
        found = session.append(tail).logits.copy()
        np.testing.assert_array_equal(found[0], tiny.logits(start + tail)[-1])
        session.restore(snapshot)
        assert session.tokens == start
    session.release()
    snapshot.release()


def test_no_block_is_lost(tiny: TinyModel) -> None:
    n_free = tiny.pool.n_free
    session = tiny.session()
    session.append(random_tokens(100))
    snapshot = session.snapshot()
    session.append(random_tokens(50))
    session.verify(random_tokens(3), [ROOT, 0, 0])
    session.restore(snapshot)
    session.release()
    snapshot.release()
    assert tiny.pool.n_free == n_free


def test_a_sequence_beyond_the_context_is_refused_and_unchanged(tiny: TinyModel) -> None:
    session = tiny.session()
    session.append(random_tokens(510))
    with pytest.raises(ContextOverflowError, match="513 tokens do not fit the context of 512"):
        session.verify(random_tokens(3), [ROOT, 0, 1])
    assert len(session.tokens) == 510
    session.append(random_tokens(2))
    session.release()


def test_a_cancelled_step_leaves_the_session_as_it_was(tiny: TinyModel) -> None:
    start, tail = random_tokens(40), random_tokens(10, seed=6)
    session = tiny.session()
    session.append(start)
    tiny.loaded.model.set_cancelled(True)
    with pytest.raises(StepCancelled):
        session.append(tail)
    tiny.loaded.model.set_cancelled(False)
    assert session.tokens == start
    found = session.append(tail).logits.copy()
    session.release()
    np.testing.assert_array_equal(found[0], tiny.logits(start + tail)[-1])


@pytest.mark.parametrize(("n_tokens", "n_logits"), [(0, 0), (3, 4), (100, 65)])
def test_impossible_results_are_refused(tiny: TinyModel, n_tokens: int, n_logits: int) -> None:
    session = tiny.session()
    with pytest.raises(RequestError):
        session.append(random_tokens(n_tokens), n_logits)
    session.release()


def test_argmax_names_the_largest_logit(tiny: TinyModel) -> None:
    session = tiny.session()
    result = session.append(random_tokens(20), n_logits=20)
    assert result.argmax == result.logits.argmax(axis=1).tolist()
    session.release()


def test_the_likeliest_are_those_of_the_logits(tiny: TinyModel) -> None:
    session = tiny.session()
    result = session.append(random_tokens(20), n_logits=7)
    ids, best = result.likeliest(40)
    logits = result.logits
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :40]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(best, np.take_along_axis(logits, expected, axis=1))
    session.append([1])
    assert result.likeliest(40)[0] is ids, "asked for again after another step"
    session.release()


def test_a_single_row_has_room_for_the_next_where_nobody_needs_it(tiny: TinyModel) -> None:
    session = tiny.session()
    session.append(random_tokens(KV_BLOCK_TOKENS - 1))
    n_free = tiny.pool.n_free
    blocks: list[int] = []

    def look() -> None:
        blocks.append(len(session.table.ids))

    def verify() -> None:
        session.verify([1], [ROOT], meanwhile=look)

    verify()
    held = [tiny.pool.allocate() for _ in range(n_free - 1)]
    verify()
    assert blocks == [2, 1]
    for block in held:
        tiny.pool.release(block)
    session.release()
