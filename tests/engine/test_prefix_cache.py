import random

import numpy as np
import pytest

from engine.kv_blocks import BlockPool, BlocksExhaustedError, BlockTable
from engine.prefix_cache import PrefixCache

BLOCK_BYTES = 10
B = 4  # tokens per block


class Fixture:
    def __init__(self, n_blocks: int = 32, budget_blocks: int = 100) -> None:
        self.pool = BlockPool(n_blocks)
        self.cache = PrefixCache(self.pool, budget_blocks * BLOCK_BYTES, BLOCK_BYTES)
        self.pool.evict = self.cache.evict_one

    def table(self, n_tokens: int) -> BlockTable:
        table = BlockTable(self.pool, B)
        table.grow_to(n_tokens)
        return table

    def insert(self, tokens: list[int]) -> None:
        """What a finished sequence does: keep a snapshot, then go."""
        table = self.table(len(tokens))
        self.cache.insert(tokens, table)
        table.release()

    def match(self, tokens: list[int]) -> tuple[list[int] | None, int]:
        entry, n_common = self.cache.longest_prefix(tokens)
        return (entry and entry.tokens.tolist()), n_common


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ([], [1, 2], (None, 0)),
        ([[1, 2, 3]], [], (None, 0)),
        ([[1, 2, 3]], [4, 2, 3], (None, 0)),
        ([[1, 2, 3]], [1, 2, 3], ([1, 2, 3], 3)),
        ([[1, 2, 3]], [1, 2, 3, 4], ([1, 2, 3], 3)),
        ([[1, 2, 3]], [1, 2, 9, 9, 9], ([1, 2, 3], 2)),
        ([[1, 2, 3]], [1], ([1, 2, 3], 1)),
        ([[1, 2, 3], [1, 2, 4, 5], [7]], [1, 2, 4, 6], ([1, 2, 4, 5], 3)),
    ],
)
def test_the_longest_common_prefix_is_found_to_the_token(stored, wanted, expected):
    fixture = Fixture()
    for tokens in stored:
        fixture.insert(tokens)
    assert fixture.match(wanted) == expected


def test_an_entry_keeps_the_blocks_of_its_sequence_after_that_is_gone():
    fixture = Fixture(n_blocks=4)
    table = fixture.table(6)
    ids = table.ids.tolist()
    fixture.cache.insert(range(5), table)
    table.release()
    assert fixture.pool.n_free == 2
    entry, n_common = fixture.cache.longest_prefix([0, 1, 2, 3, 4])
    assert entry is not None
    assert (n_common, entry.table.ids.tolist(), entry.table.n_tokens) == (5, ids, 5)


def test_only_the_blocks_of_the_stored_tokens_are_kept():
    fixture = Fixture()
    table = fixture.table(3 * B)
    fixture.cache.insert(range(B + 1), table)
    table.release()
    assert fixture.cache.n_bytes == 2 * BLOCK_BYTES
    assert fixture.pool.n_free == 30


def test_a_longer_sequence_replaces_its_own_prefixes():
    fixture = Fixture()
    table = fixture.table(2 * B)
    fixture.cache.insert(range(B), table)
    fixture.insert([9])
    fixture.cache.insert(range(2 * B), table)
    assert len(fixture.cache) == 2
    assert fixture.match(list(range(2 * B))) == (list(range(2 * B)), 2 * B)
    assert fixture.cache.n_bytes == 3 * BLOCK_BYTES


@pytest.mark.parametrize("again", [[1, 2, 3], [1, 2]])
def test_what_is_covered_already_is_only_made_the_newest(again):
    fixture = Fixture()
    fixture.insert([1, 2, 3])
    fixture.insert([7])
    fixture.insert(again)
    assert len(fixture.cache) == 2
    fixture.cache.evict_one()
    assert fixture.match([1, 2, 3]) == ([1, 2, 3], 3)


def test_the_least_recently_used_entry_goes_first():
    fixture = Fixture(budget_blocks=3)
    for tokens in ([1], [2], [3]):
        fixture.insert(tokens)
    assert fixture.match([1, 5]) == ([1], 1), "a hit makes it the newest"
    fixture.insert([4])
    assert [fixture.match([token])[1] for token in (1, 2, 3, 4)] == [1, 0, 1, 1]
    assert fixture.cache.n_bytes == 3 * BLOCK_BYTES


def test_a_shared_block_is_counted_once():
    fixture = Fixture(budget_blocks=4)
    table = fixture.table(2 * B)
    branch = table.fork()
    branch.truncate(B)
    branch.grow_to(2 * B)
    shared = list(range(B))
    fixture.cache.insert(shared + [100] * B, table)
    fixture.cache.insert(shared + [200] * B, branch)
    assert (len(fixture.cache), fixture.cache.n_bytes) == (2, 3 * BLOCK_BYTES)
    fixture.cache.evict_one()
    assert fixture.cache.n_bytes == 2 * BLOCK_BYTES


def test_what_exceeds_the_budget_alone_is_not_stored_and_costs_nobody_a_place():
    fixture = Fixture(budget_blocks=2)
    fixture.insert([1])
    fixture.insert(list(range(100, 100 + 3 * B)))
    assert (len(fixture.cache), fixture.match([1])) == (1, ([1], 1))


def test_a_pool_that_runs_out_takes_from_the_cache_and_never_from_a_sequence():
    fixture = Fixture(n_blocks=4)
    for token in range(3):
        fixture.insert([token])
    entry, _ = fixture.cache.longest_prefix([0])
    assert entry is not None
    mine = entry.table.fork()
    fixture.table(2 * B)
    assert len(fixture.cache) == 2
    fixture.table(B)
    assert mine.ids.tolist() == entry.table.ids.tolist()
    with pytest.raises(BlocksExhaustedError):
        fixture.table(B)
    assert len(fixture.cache) == 0
    assert fixture.pool.refcount(mine.ids[0]) == 1


def test_clear_gives_everything_back():
    fixture = Fixture()
    for token in range(5):
        fixture.insert([token] * 7)
    fixture.cache.clear()
    assert (len(fixture.cache), fixture.cache.n_bytes, fixture.pool.n_free) == (0, 0, 32)
    assert not fixture.cache.evict_one()


def test_the_cache_keeps_its_own_copy_of_the_tokens():
    fixture = Fixture()
    tokens = np.array([1, 2, 3], dtype=np.int32)
    fixture.cache.insert(tokens, fixture.table(3))
    tokens[:] = 0
    assert fixture.match([1, 2, 3]) == ([1, 2, 3], 3)


def common(a: list[int], b: list[int]) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


@pytest.mark.parametrize("seed", range(30))
def test_any_sequence_of_calls_keeps_the_rules(seed):
    rng = random.Random(seed)
    budget_blocks = rng.randint(1, 12)
    fixture = Fixture(n_blocks=30, budget_blocks=budget_blocks)
    cache, pool = fixture.cache, fixture.pool
    naive: list[list[int]] = []  # least recently used first
    for _ in range(200):
        tokens = [rng.randint(0, 1) for _ in range(rng.randint(0, 20))]
        if rng.random() < 0.5:
            best = max((common(stored, tokens) for stored in naive), default=0)
            found, n_common = fixture.match(tokens)
            assert n_common == best
            assert (found is None) == (best == 0)
            if found is not None:
                assert common(found, tokens) == best
                naive.remove(found)
                naive.append(found)
        else:
            covering = [stored for stored in naive if stored[: len(tokens)] == tokens]
            fixture.insert(tokens)
            if covering:
                assert len(cache) == len(naive)
                naive.remove(covering[0])
                naive.append(covering[0])
            elif -(-len(tokens) // B) <= budget_blocks:
                naive = [s for s in naive if tokens[: len(s)] != s] + [tokens]
                while sum(-(-len(s) // B) for s in naive) > budget_blocks:
                    naive.pop(0)
        assert [entry.tokens.tolist() for entry in cache._entries] == naive
        held = {id for entry in cache._entries for id in entry.table.ids.tolist()}
        assert cache.n_bytes == len(held) * BLOCK_BYTES <= budget_blocks * BLOCK_BYTES
        assert pool.n_free == pool.n_blocks - len(held)
