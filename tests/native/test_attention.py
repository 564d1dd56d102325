"""attention: against float64 NumPy, and bit-equal for every split into steps and every tree."""

import numpy as np
import pytest

from engine.backends.cpu import KV_BLOCK_TOKENS, KvCache
from engine.config import KvCacheType
from engine.errors import NativeError
from engine.ops import Activation, BlockSparse, KvLayer
from engine.program import Program
from tests.native.program_runner import ISAS, ProgramRunner, f32_weight

N_HEAD, N_KV, HEAD_DIM = 6, 2, 32
Q, KV = N_HEAD * HEAD_DIM, N_KV * HEAD_DIM
KV_TYPES: tuple[KvCacheType, ...] = ("f16", "q8_0")
Q8_0_GROUP = 32


def selector(name: str, start: int, n: int, width: int):
    """A weight that copies n columns of x from `start`."""
    matrix = np.zeros((n, width), np.float32)
    matrix[np.arange(n), start + np.arange(n)] = 1
    return f32_weight(name, matrix)


def make_runner(
    x: np.ndarray,
    window: int | None = None,
    is_block: bool = False,
    n_other_layers: int = 0,
    sparse: BlockSparse | None = None,
    **options: object,
) -> ProgramRunner:
    width = x.shape[1]
    weights = {
        "q": selector("q", 0, Q, width),
        "k": selector("k", Q, KV, width),
        "v": selector("v", Q + KV, KV, width),
    }

    def build(p: Program, a: Activation) -> Activation:
        q, k, v = (p.linear(a, weights[name][0]) for name in "qkv")
        for _ in range(n_other_layers):  # of other shapes, beside it in the same blocks
            p.kv_layer(1, 8)
        kv = p.kv_layer(N_KV, HEAD_DIM)
        p.kv_write(kv, k, v)
        scale = HEAD_DIM**-0.5
        return p.attention(q, kv, N_HEAD, scale, window=window, is_block=is_block, sparse=sparse)

    return ProgramRunner(build, x, weights, **options)  # type: ignore[arg-type]


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, Q + 2 * KV)).astype(np.float32)


def stored(x: np.ndarray, kv_type: KvCacheType, *, is_key: bool) -> np.ndarray:
    """Keys or values (T, K, D) as the cache holds them, in float64."""
    if kv_type == "f16":
        return x.astype(np.float16).astype(np.float64)
    rotation = np.ones((1, 1))
    while len(rotation) < Q8_0_GROUP:
        rotation = np.block([[rotation, rotation], [rotation, -rotation]])
    groups = x.reshape(-1, Q8_0_GROUP)
    if is_key:
        groups = groups @ rotation
    scales = np.abs(groups).max(axis=1, keepdims=True) / 127
    groups = np.rint(groups / scales) * scales.astype(np.float16).astype(np.float64)
    if is_key:
        groups = groups @ rotation / Q8_0_GROUP
    return groups.reshape(x.shape)


def reference(x: np.ndarray, visible: list[list[int]], kv_type: KvCacheType = "f16") -> np.ndarray:
    """float64 attention of each row over the rows it sees; keys and values as they are stored."""
    q = x[:, :Q].astype(np.float64).reshape(-1, N_HEAD, HEAD_DIM)
    k, v = (
        stored(x[:, start : start + KV].reshape(-1, N_KV, HEAD_DIM), kv_type, is_key=start == Q)
        for start in (Q, Q + KV)
    )
    out = np.zeros_like(q)
    for t, seen in enumerate(visible):
        for h in range(N_HEAD):
            g = h // (N_HEAD // N_KV)
            scores = k[seen, g] @ q[t, h] * HEAD_DIM**-0.5
            p = np.exp(scores - scores.max())
            out[t, h] = p @ v[seen, g] / p.sum()
    return out.reshape(len(x), Q)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_a_causal_chain_equals_float64(isa: str, kv_type: KvCacheType) -> None:
    x = rows_of(100)
    expected = reference(x, [list(range(t + 1)) for t in range(100)], kv_type)
    found = make_runner(x, isa=isa, kv_type=kv_type).run()
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_q8_0_stays_near_f16() -> None:
    x = rows_of(100)
    halves, bytes_ = (make_runner(x, kv_type=kv_type).run() for kv_type in KV_TYPES)
    # Values of up to 4.2 are rounded by up to a 254th of that; keys shift the weights as much.
    assert 0 < np.abs(halves - bytes_).max() < 0.033


def test_a_tree_row_sees_its_ancestors_only() -> None:
    x = rows_of(7)
    parents = [-1, 0, 0, 1, 2, 4, -1]
    ancestors: list[list[int]] = []
    for row, parent in enumerate(parents):
        ancestors.append([*(ancestors[parent] if parent >= 0 else []), row])
    np.testing.assert_allclose(
        make_runner(x).run(parents=parents), reference(x, ancestors), rtol=2e-4, atol=2e-5
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("window", [1, 5, 32, 33, 99])
def test_a_window_hides_all_but_the_last_keys(window: int, isa: str) -> None:
    x = rows_of(100)
    expected = reference(x, [list(range(max(0, t + 1 - window), t + 1)) for t in range(100)])
    found = make_runner(x, window=window, isa=isa).run()
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("n_past", [0, 20, 64])
def test_the_rows_of_a_block_see_each_other_whatever_their_parents(n_past: int) -> None:
    x = rows_of(n_past + 16)
    run = make_runner(x, is_block=True, n_other_layers=2)
    for row in range(n_past):
        run.run([row], n_past=row)
    block = list(range(n_past, n_past + 16))
    expected = reference(x, [list(range(n_past + 16))] * (n_past + 16))[n_past:]
    for parents in (None, [-1] * 16):
        found = run.run(block, parents, n_past)
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_a_cache_of_another_shape_is_refused() -> None:
    run, other = make_runner(rows_of(4)), make_runner(rows_of(4), n_other_layers=1)
    run.kv = other.kv
    with pytest.raises(NativeError, match="does not have this model's shape"):
        run.run()


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("chunk", [1, 3, 31, 32, 33, 64])
def test_every_split_into_steps_gives_the_same_bits(
    chunk: int, window: int | None, kv_type: KvCacheType
) -> None:
    x = rows_of(90, seed=1)
    run = make_runner(x, window, kv_type=kv_type)
    whole = run.run()
    parts = [
        run.run(list(range(start, min(start + chunk, 90))), n_past=start)
        for start in range(0, 90, chunk)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", [None, 12, 34])
@pytest.mark.parametrize("n_past", [0, 30, 31, 32, 63])
def test_every_tree_branch_has_the_bits_of_the_straight_sequence(
    n_past: int, window: int | None, kv_type: KvCacheType, isa: str
) -> None:
    x = rows_of(140, seed=2)
    run = make_runner(x, window, kv_type=kv_type, isa=isa)
    if n_past:
        run.run(list(range(n_past)))
    rng = np.random.default_rng(n_past)
    parents = [-1] + [int(rng.integers(max(-1, row - 4), row)) for row in range(1, 70)]
    rows = list(range(70, 140))
    tree = run.run(rows, parents, n_past)
    for leaf in range(0, 70, 3):
        path: list[int] = []
        while leaf >= 0:
            path.insert(0, leaf)
            leaf = parents[leaf]
        straight = run.run([rows[i] for i in path], n_past=n_past)
        np.testing.assert_array_equal(straight, tree[path])


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_moved_positions_keep_their_bits(kv_type: KvCacheType) -> None:
    run = make_runner(rows_of(40, seed=5), n_other_layers=1, kv_type=kv_type)
    assert run.kv is not None
    run.run(list(range(39)))
    expected = run.run([39], n_past=39)
    # The last nine again, as a branch behind one of other rows; it lies in two blocks.
    tree = ([*range(9), *range(30, 39)], [*range(-1, 8), -1, *range(9, 17)], 30)
    run.run(*tree)
    assert (run.run([39], n_past=39) != expected).any()
    run.run(*tree)
    run.kv.move_positions([(39 + i, 30 + i) for i in range(9)])
    np.testing.assert_array_equal(run.run([39], n_past=39), expected)


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_copied_blocks_keep_their_bits(kv_type: KvCacheType) -> None:
    run = make_runner(rows_of(80, seed=6), n_other_layers=1, kv_type=kv_type)
    assert run.kv is not None
    run.run(list(range(39)))
    expected = run.run([39], n_past=39)
    for block in (0, 1):
        run.kv.copy_block(block, block + 5)
    run.run(list(range(40, 80)))
    assert (run.run([39], n_past=39) != expected).any()
    for block in (0, 1):
        run.kv.copy_block(block + 5, block)
    np.testing.assert_array_equal(run.run([39], n_past=39), expected)


@pytest.mark.parametrize(("kv_type", "n_bytes"), [("f16", 2 * 72), ("q8_0", 72 + 3 * 2)])
def test_a_block_takes_the_bytes_of_its_type(kv_type: KvCacheType, n_bytes: int) -> None:
    layers = [KvLayer(0, 3, 72), KvLayer(1, 1, 72)]
    block_bytes = KvCache.bytes_per_block(layers, kv_type)
    assert block_bytes == KvCache(layers, 2, kv_type).native.block_bytes
    assert block_bytes == KV_BLOCK_TOKENS * 2 * (3 + 1) * n_bytes


def test_the_thread_count_changes_no_bit() -> None:
    x = rows_of(70, seed=3)
    results = [make_runner(x, n_threads=n).run() for n in (1, 2, 3, 7)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_extreme_scores_stay_finite() -> None:
    x = rows_of(40, seed=4) * 100
    expected = reference(x, [list(range(t + 1)) for t in range(40)])
    np.testing.assert_allclose(make_runner(x).run(), expected, rtol=2e-3, atol=2e-2)
