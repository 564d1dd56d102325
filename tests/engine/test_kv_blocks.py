import random

import numpy as np
import pytest

from engine.kv_blocks import BLOCK_TOKENS, BlockPool, BlocksExhaustedError, BlockTable, Copy


def test_a_block_is_free_again_when_its_last_reference_is_released():
    pool = BlockPool(2)
    id = pool.allocate()
    pool.retain(id)
    assert (pool.refcount(id), pool.n_free) == (2, 1)
    pool.release(id)
    assert (pool.refcount(id), pool.n_free) == (1, 1)
    pool.release(id)
    assert (pool.refcount(id), pool.n_free) == (0, 2)
    assert {pool.allocate(), pool.allocate()} == {0, 1}


def test_an_exhausted_pool_says_so():
    pool = BlockPool(1)
    pool.allocate()
    with pytest.raises(BlocksExhaustedError, match="all 1 KV blocks are in use; shorten") as caught:
        pool.allocate()
    assert caught.value.n_blocks == 1


def test_an_exhausted_pool_asks_to_evict_until_a_block_is_free_or_nothing_is_left():
    pool = BlockPool(1)
    id = pool.allocate()
    pool.retain(id)
    asked = []

    def evict() -> bool:
        asked.append(pool.refcount(id))
        if asked[-1] > 0:
            pool.release(id)
        return len(asked) < 4

    pool.evict = evict
    assert pool.allocate() == id
    assert asked == [2, 1], "one eviction was not enough, two were"
    asked[:] = [0, 0, 0]
    with pytest.raises(BlocksExhaustedError):
        pool.allocate()


def test_using_a_free_block_is_a_bug():
    pool = BlockPool(1)
    with pytest.raises(AssertionError):
        pool.retain(0)
    with pytest.raises(AssertionError):
        pool.release(0)


@pytest.mark.parametrize(
    ("n_tokens", "n_blocks"), [(0, 0), (1, 1), (31, 1), (32, 1), (33, 2), (64, 2), (65, 3)]
)
def test_a_table_has_just_the_blocks_its_tokens_need(n_tokens, n_blocks):
    pool = BlockPool(8)
    table = BlockTable(pool)
    assert table.grow_to(n_tokens) == []
    assert (len(table.ids), table.n_tokens, pool.n_free) == (n_blocks, n_tokens, 8 - n_blocks)
    table.release()
    assert (len(table.ids), table.n_tokens, pool.n_free) == (0, 0, 8)


def test_only_the_writer_of_a_shared_partial_block_pays_for_a_copy():
    pool = BlockPool(8)
    table = BlockTable(pool)
    table.grow_to(BLOCK_TOKENS + 1)
    fork = table.fork()
    before = fork.ids.tolist()
    copies = table.grow_to(BLOCK_TOKENS + 2)
    assert copies == [Copy(src=before[1], dst=table.ids[1])]
    assert fork.ids.tolist() == before
    assert table.ids[0] == before[0], "a full block stays shared"
    assert fork.grow_to(BLOCK_TOKENS + 2) == [], "the other one owns the original by now"


def test_growing_from_a_block_boundary_copies_nothing():
    pool = BlockPool(8)
    table = BlockTable(pool)
    table.grow_to(BLOCK_TOKENS)
    fork = table.fork()
    assert table.grow_to(BLOCK_TOKENS + 1) == fork.grow_to(BLOCK_TOKENS + 1) == []
    assert table.ids[0] == fork.ids[0]
    assert table.ids[1] != fork.ids[1]


def test_a_block_to_copy_from_is_not_reused_by_the_same_call_though_eviction_unshared_it():
    pool = BlockPool(4)
    table, other, running = (BlockTable(pool) for _ in range(3))
    for sequence in (table, other, running):
        sequence.grow_to(1)
    cached = [table.fork(), other]

    def evict() -> bool:
        if not cached:
            return False
        cached.pop(0).release()
        return True

    pool.evict = evict
    (copy,) = table.grow_to(BLOCK_TOKENS + 1)
    assert cached == [], "the first one evicted freed no block, the second did"
    assert copy.dst == table.ids[0]
    assert copy.src not in table.ids
    assert pool.refcount(copy.src) == 0


def test_a_failed_growth_changes_nothing():
    pool = BlockPool(3)
    table = BlockTable(pool)
    table.grow_to(BLOCK_TOKENS + 5)
    fork = table.fork()
    before = table.ids.tolist()
    with pytest.raises(BlocksExhaustedError):
        table.grow_to(4 * BLOCK_TOKENS)
    assert (table.ids.tolist(), table.n_tokens, pool.n_free) == (before, BLOCK_TOKENS + 5, 1)
    assert [pool.refcount(id) for id in before] == [2, 2]
    fork.release()
    table.release()
    assert pool.n_free == 3


def test_ids_are_an_int32_snapshot_made_once_per_change():
    table = BlockTable(BlockPool(4))
    table.grow_to(3)
    ids = table.ids
    assert ids.dtype == np.int32
    assert table.ids is ids
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 3
    table.grow_to(5)
    assert table.ids is ids, "no new block, no new array"
    table.grow_to(BLOCK_TOKENS + 1)
    assert (len(ids), len(table.ids)) == (1, 2)


class Memory:
    """Physical storage, to see what really is at each position of a sequence."""

    def __init__(self, n_blocks: int, block_tokens: int) -> None:
        self.pool = BlockPool(n_blocks)
        self.block_tokens = block_tokens
        self.slots = np.full((n_blocks, block_tokens), -1)

    def append(self, table: BlockTable, tokens: list[int]) -> None:
        start = table.n_tokens
        for src, dst in table.grow_to(start + len(tokens)):
            self.slots[dst] = self.slots[src]
        for position, token in enumerate(tokens, start):
            block, slot = divmod(position, self.block_tokens)
            assert self.pool.refcount(table.ids[block]) == 1, "written positions are not shared"
            self.slots[table.ids[block], slot] = token

    def read(self, table: BlockTable) -> list[int]:
        return self.slots[table.ids].reshape(-1)[: table.n_tokens].tolist()


@pytest.mark.parametrize("seed", range(40))
def test_any_use_of_tables_keeps_every_sequence_and_every_count_right(seed):
    rng = random.Random(seed)
    memory = Memory(n_blocks=rng.randint(4, 40), block_tokens=rng.choice([1, 2, 4, 7]))
    pool = memory.pool
    sequences: list[tuple[BlockTable, list[int]]] = [(BlockTable(pool, memory.block_tokens), [])]
    for step in range(400):
        i = rng.randrange(len(sequences))
        table, tokens = sequences[i]
        match rng.choice(["append", "append", "fork", "truncate", "release"]):
            case "append":
                new = [step * 100 + k for k in range(rng.randint(0, 12))]
                try:
                    memory.append(table, new)
                    tokens += new
                except BlocksExhaustedError:
                    pass
            case "fork" if len(sequences) < 8:
                sequences.append((table.fork(), tokens.copy()))
            case "truncate":
                n = rng.randint(0, len(tokens))
                table.truncate(n)
                del tokens[n:]
            case "release" if len(sequences) > 1:
                table.release()
                del sequences[i]
            case _:
                pass
        for table, tokens in sequences:
            assert memory.read(table) == tokens
        used = [id for table, _ in sequences for id in table.ids.tolist()]
        assert [pool.refcount(id) for id in range(pool.n_blocks)] == [
            used.count(id) for id in range(pool.n_blocks)
        ]
        assert pool.n_free == pool.n_blocks - len(set(used))
    for table, _ in sequences:
        table.release()
    assert pool.n_free == pool.n_blocks
