"""GPU kernels at the shapes that models have and at the edges of what kernels share: heads, groups,
splits, selected rows, scattered blocks; against float64 NumPy, and bit for bit among themselves."""

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest

from engine.backends.gpu.backend import DEFAULT_POSITIONS, GpuBackend
from engine.backends.gpu.launch import SPLIT_KEYS, Bucket
from engine.backends.gpu.model import GpuModel
from engine.config import KvCacheType
from engine.errors import NativeError
from engine.ops import Activation, Weight
from engine.program import Program
from engine.session import ROOT
from tests.gpu.guarded import guarded_driver
from tests.native.program_runner import ProgramRunner, f32_weight, quantized_weight
from tests.native.test_attention import KV_TYPES, stored

WIDTH = 64
Named = dict[str, tuple[Weight, np.ndarray]]


def rows_of(n: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def quantized(name: str, n_out: int, quant: str, n_cols: int = WIDTH) -> tuple[Weight, np.ndarray]:
    rng = np.random.default_rng([n_out, *name.encode()])
    values = rng.standard_normal((n_out, n_cols)).astype(np.float32) / 6
    return quantized_weight(name, values, quant)[:2]


def step(
    run: ProgramRunner,
    rows: list[int],
    n_past: int = 0,
    *,
    out_rows: list[int] | None = None,
    blocks: np.ndarray | None = None,
) -> np.ndarray:
    """A chain of rows of x, of which some are asked for."""
    n = len(rows)
    out = np.arange(n, dtype=np.int32) if out_rows is None else np.array(out_rows, np.int32)
    chain = np.arange(n, dtype=np.int32)
    table = np.arange(16, dtype=np.int32) if blocks is None else blocks
    tokens = np.array(rows, np.int32)
    assert run.model.step(run.kv, tokens, chain - 1, table, n_past, out)
    return run.model.logits(len(out)).copy()


@dataclass(frozen=True)
class Heads:
    """Attention over projections of x, turned whole; `quants` are the types of q, k and v."""

    n_head: int
    n_kv: int
    dims: int
    quants: tuple[str, str, str] = ("Q8_0", "Q8_0", "Q8_0")

    def frequencies(self) -> tuple[float, ...]:
        return tuple(1000.0 ** (-2 * i / self.dims) for i in range(self.dims // 2))

    def named(self) -> Named:
        sizes = {"q": self.n_head, "k": self.n_kv, "v": self.n_kv}
        return {
            name: quantized(name, n * self.dims, quant)
            for (name, n), quant in zip(sizes.items(), self.quants, strict=True)
        }

    def runner(
        self,
        backend: GpuBackend,
        x: np.ndarray,
        *,
        window: int | None = None,
        kv_type: KvCacheType = "f16",
        is_turned: bool = True,
        takes_selected: bool = False,
        shows_keys: bool = False,
    ) -> ProgramRunner:
        """With `shows_keys`, silu(k) * k as well, of the keys before they are turned."""
        named = self.named()

        def build(p: Program, a: Activation) -> Activation:
            k, v = (p.linear(a, named[name][0]) for name in "kv")
            q = p.linear(p.select_rows(a) if takes_selected else a, named["q"][0])
            shown = [p.silu_mul(k, k)] if shows_keys else []
            if is_turned:
                q, k = (p.rope(t, self.frequencies(), self.dims, is_neox=True) for t in (q, k))
            kv = p.kv_layer(self.n_kv, self.dims)
            p.kv_write(kv, k, v)
            out = p.attention(q, kv, self.n_head, self.dims**-0.5, window=window)
            return p.concat([out, *shown]) if shows_keys else out

        return ProgramRunner(build, x, named, kv_type=kv_type, backend=backend)

    def projected(self, backend: GpuBackend, x: np.ndarray, name: str) -> np.ndarray:
        named = self.named()
        run = ProgramRunner(
            lambda p, a: p.linear(a, named[name][0]), x, {name: named[name]}, backend=backend
        )
        parts = [run.run(list(range(i, min(i + 128, len(x))))) for i in range(0, len(x), 128)]
        return np.concatenate(parts).astype(np.float64).reshape(len(x), -1, self.dims)

    def turned(self, heads: np.ndarray) -> np.ndarray:
        half, positions = self.dims // 2, np.arange(len(heads))
        angles = positions[:, None] * np.array(self.frequencies())
        c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = heads[..., :half], heads[..., half:]
        return np.concatenate([a * c - b * s, a * s + b * c], axis=-1)

    def expected(
        self,
        backend: GpuBackend,
        x: np.ndarray,
        rows: range,
        window: int | None = None,
        *,
        kv_type: KvCacheType = "f16",
        is_turned: bool = True,
    ) -> np.ndarray:
        q, k, v = (self.projected(backend, x, name) for name in "qkv")
        if is_turned:
            q, k = self.turned(q), self.turned(k)
        k, v = stored(k, kv_type, is_key=True), stored(v, kv_type, is_key=False)
        out = np.zeros((len(rows), self.n_head, self.dims))
        for i, row in enumerate(rows):
            seen = slice(max(row + 1 - (window or row + 1), 0), row + 1)
            for h in range(self.n_head):
                of = h // (self.n_head // self.n_kv)
                scores = k[seen, of] @ q[row, h] * self.dims**-0.5
                weights = np.exp(scores - scores.max())
                out[i, h] = weights @ v[seen, of] / weights.sum()
        return out.reshape(len(rows), -1)


def fill(run: ProgramRunner, n: int) -> None:
    for first in range(0, n, 100):
        run.run(list(range(first, min(first + 100, n))), n_past=first)


# ---- attention ----


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("n_rows", [3, 70])
@pytest.mark.parametrize(
    "heads",
    [Heads(14, 2, 64), Heads(12, 2, 128), Heads(9, 3, 64), Heads(3, 3, 32), Heads(20, 1, 32)],
    ids=str,
)
def test_heads_of_every_size_and_group(
    any_lanes: GpuBackend, heads: Heads, n_rows: int, kv_type: KvCacheType
) -> None:
    x = rows_of(n_rows)
    expected = heads.expected(any_lanes, x, range(n_rows), kv_type=kv_type)
    found = heads.runner(any_lanes, x, kv_type=kv_type).run()
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_keys_that_are_not_turned(emulated: GpuBackend, kv_type: KvCacheType) -> None:
    heads, x = Heads(4, 2, 64), rows_of(10)
    expected = heads.expected(emulated, x, range(10), kv_type=kv_type, is_turned=False)
    found = heads.runner(emulated, x, kv_type=kv_type, is_turned=False).run()
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("n_rows", [1, 9, 70])
@pytest.mark.parametrize(
    "quants", [("Q8_0", "Q8_0", "Q8_0"), ("F16", "F16", "F16"), ("Q8_0", "Q8_0", "BF16")]
)
def test_linear_ops_turn_as_a_kernel_of_its_own_does(
    any_lanes: GpuBackend, quants: tuple[str, str, str], n_rows: int, kv_type: KvCacheType
) -> None:
    """Keys that somebody else reads, too, are turned after they were written."""
    heads, x = Heads(4, 2, 64, quants), rows_of(n_rows)
    fused = heads.runner(any_lanes, x, kv_type=kv_type).run()
    apart = heads.runner(any_lanes, x, kv_type=kv_type, shows_keys=True).run()
    np.testing.assert_array_equal(apart[:, : heads.n_head * heads.dims], fused)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(
    ("dims", "is_neox", "n_turned", "takes_selected"),
    [(32, True, 32, False), (64, False, 64, True), (128, True, 64, False)],
)
def test_heads_are_normalized_where_they_are_turned(
    emulated: GpuBackend,
    kv_type: KvCacheType,
    dims: int,
    is_neox: bool,
    n_turned: int,
    takes_selected: bool,
) -> None:
    """Norms that somebody else reads, too, have kernels of their own: the bits are the same."""
    heads, x = Heads(6, 2, dims), rows_of(5)
    norms = {name: f32_weight(name, rows_of(1, dims, i)[0]) for i, name in enumerate(("qn", "kn"))}
    named = heads.named() | norms
    frequencies = heads.frequencies()[: n_turned // 2]

    def run(*, is_read: bool) -> np.ndarray:
        def build(p: Program, a: Activation) -> Activation:
            k, v = (p.linear(a, named[name][0]) for name in "kv")
            q = p.linear(p.select_rows(a) if takes_selected else a, named["q"][0])
            q, k = p.rms_norm(q, named["qn"][0], 1e-6), p.rms_norm(k, named["kn"][0], 1e-6)
            shown = [p.silu_mul(q, q)] if is_read else []
            q, k = (p.rope(t, frequencies, dims, is_neox=is_neox) for t in (q, k))
            kv = p.kv_layer(heads.n_kv, dims)
            p.kv_write(kv, k, v)
            out = p.attention(q, kv, heads.n_head, dims**-0.5)
            return p.concat([out, *shown])

        runner = ProgramRunner(build, x, named, kv_type=kv_type, backend=emulated)
        names = [launch.kernel(Bucket(8, 8, 1, kv_type)) for launch in runner.model._whole.launches]
        assert any(name.startswith("heads_write") for name in names) != is_read
        return step(runner, list(range(5)), out_rows=[1, 4])

    apart = run(is_read=True)
    np.testing.assert_array_equal(apart[:, : heads.n_head * dims], run(is_read=False))


@pytest.mark.parametrize("n_rows", [1, 5, 70])
@pytest.mark.parametrize("quant", ["Q8_0", "F16"])
@pytest.mark.parametrize("heads", [Heads(8, 2, 32), Heads(4, 2, 64), Heads(2, 1, 128)], ids=str)
def test_attention_is_rounded_as_it_is_merged(
    any_lanes: GpuBackend, heads: Heads, quant: str, n_rows: int
) -> None:
    """A result that somebody else reads, too, is rounded after it was written."""
    x, named = rows_of(n_rows), heads.named()
    named["o"] = quantized("o", 40, quant, heads.n_head * heads.dims)

    def run(*, is_read: bool) -> np.ndarray:
        def build(p: Program, a: Activation) -> Activation:
            q, k, v = (p.linear(a, named[name][0]) for name in "qkv")
            kv = p.kv_layer(heads.n_kv, heads.dims)
            p.kv_write(kv, k, v)
            out = p.attention(q, kv, heads.n_head, heads.dims**-0.5)
            projected = p.linear(out, named["o"][0])
            return p.concat([projected, out]) if is_read else projected

        return ProgramRunner(build, x, named, backend=any_lanes).run()

    np.testing.assert_array_equal(run(is_read=False), run(is_read=True)[:, :40])


def test_keys_that_are_no_numbers_are_not_hidden(emulated: GpuBackend) -> None:
    x = rows_of(5)
    x[2, 3] = np.nan
    found = SMALL.runner(emulated, x, kv_type="q8_0").run()
    assert not np.isfinite(found[2:]).any()


def test_queries_that_are_read_after_attention_are_refused(emulated: GpuBackend) -> None:
    """A cache in q8_0 would have rotated them."""
    named = SMALL.named()

    def build(p: Program, a: Activation) -> Activation:
        q, k, v = (p.linear(a, named[name][0]) for name in "qkv")
        kv = p.kv_layer(SMALL.n_kv, SMALL.dims)
        p.kv_write(kv, k, v)
        return p.concat([p.attention(q, kv, SMALL.n_head, 1.0), q])

    with pytest.raises(NativeError, match="read after their attention"):
        ProgramRunner(build, rows_of(2), named, backend=emulated)


# A window that begins inside a split, and a last split that is not full.
N_KEYS = 2 * SPLIT_KEYS + 37
SMALL = Heads(4, 2, 32)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", [None, SPLIT_KEYS + 9])
def test_many_splits_are_those_of_float64(
    any_lanes: GpuBackend, window: int | None, kv_type: KvCacheType
) -> None:
    x = rows_of(N_KEYS)
    run = SMALL.runner(any_lanes, x, window=window, kv_type=kv_type)
    fill(run, N_KEYS - 2)
    found = run.run([N_KEYS - 2, N_KEYS - 1], n_past=N_KEYS - 2)
    rows = range(N_KEYS - 2, N_KEYS)
    expected = SMALL.expected(any_lanes, x, rows, window, kv_type=kv_type)
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", [None, SPLIT_KEYS + 9])
@pytest.mark.parametrize("heads", [SMALL, Heads(2, 1, 128)], ids=str)
def test_splits_in_blocks_of_their_own_equal_splits_of_one_block(
    any_lanes: GpuBackend, heads: Heads, window: int | None, kv_type: KvCacheType
) -> None:
    x, n_past = rows_of(N_KEYS), N_KEYS - 70
    run = heads.runner(any_lanes, x, window=window, kv_type=kv_type)
    fill(run, n_past)
    rows = list(range(n_past, N_KEYS))
    at_once = run.run(rows, n_past=n_past)  # too many rows for blocks of their own
    in_parts = [run.run(rows[:7], n_past=n_past), run.run(rows[7:], n_past=n_past + 7)]
    np.testing.assert_array_equal(np.concatenate(in_parts), at_once)
    np.testing.assert_array_equal(run.run(rows[-1:], n_past=N_KEYS - 1), at_once[-1:])


@pytest.mark.parametrize(
    ("heads", "window", "is_together"),
    [
        (SMALL, None, True),
        (SMALL, SPLIT_KEYS + 9, True),
        (Heads(1, 1, 32), None, True),  # tiles of a key and of a value share a warp
        (Heads(8, 2, 64), None, True),
        (Heads(9, 3, 64), None, True),
        (Heads(2, 1, 128), None, False),
        (Heads(20, 1, 32), None, False),  # more heads than a tile of queries has
    ],
    ids=str,
)
def test_a_single_row_attends_where_its_queries_are_made(
    any_lanes: GpuBackend, heads: Heads, window: int | None, *, is_together: bool
) -> None:
    """The first key of a split and the last, one split, as many as there are blocks, and more than
    all blocks attend to at once in emulation."""
    n_keys = 4 * SPLIT_KEYS + 37
    x = rows_of(n_keys)
    run = heads.runner(any_lanes, x, window=window)
    at_once = [
        run.run(list(range(first, min(first + 70, n_keys))), n_past=first)
        for first in range(0, n_keys, 70)
    ]
    expected = np.concatenate(at_once)
    for row in (0, 1, 31, 32, 63, 64, 100, 127, 128, 255, 256, n_keys - 1):
        np.testing.assert_array_equal(run.run([row], n_past=row)[0], expected[row])
    assert isinstance(run.model, GpuModel)
    kernels = [launch.kernel for launch in run.model.launch_times(run.kv, 1, 1, n_keys - 1, 1)]
    has_clusters = any_lanes._weights.defaults.cluster > 0
    assert (f"attend_one_{heads.dims}" in kernels) == (is_together and has_clusters)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", [None, 5, 50])
def test_branches_across_splits_equal_the_straight_sequence(
    any_lanes: GpuBackend, window: int | None, kv_type: KvCacheType
) -> None:
    n_past, n_tree = 2 * SPLIT_KEYS - 3, 64
    rng = np.random.default_rng(1)
    parents = [int(rng.integers(max(ROOT, row - 4), row)) if row else ROOT for row in range(n_tree)]
    x = rows_of(n_past + n_tree)
    tree, straight = (SMALL.runner(any_lanes, x, window=window, kv_type=kv_type) for _ in range(2))
    fill(tree, n_past)
    fill(straight, n_past)
    found = tree.run(list(range(n_past, n_past + n_tree)), parents, n_past)
    path = path_to(n_tree - 1, parents)
    expected = straight.run([n_past + row for row in path], n_past=n_past)
    np.testing.assert_array_equal(found[path], expected)


def path_to(leaf: int, parents: list[int]) -> list[int]:
    path = [leaf]
    while parents[path[0]] != ROOT:
        path.insert(0, parents[path[0]])
    return path


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("heads", [SMALL, Heads(2, 1, 128)], ids=str)
def test_after_an_accepted_path_is_moved_it_is_as_if_nothing_else_had_been(
    emulated: GpuBackend, heads: Heads, kv_type: KvCacheType
) -> None:
    n_past, parents = 30, [ROOT, 0, 0, 2, 1, 3]
    x = rows_of(40)
    tree, straight = (heads.runner(emulated, x, kv_type=kv_type) for _ in range(2))
    fill(tree, n_past)
    tree.run(list(range(n_past, n_past + 6)), parents, n_past)
    path = path_to(5, parents)  # moves out of a block into the one before it
    tree.kv.move_positions([(n_past + row, n_past + depth) for depth, row in enumerate(path)])
    fill(straight, n_past)
    straight.run([n_past + row for row in path], n_past=n_past)
    after = n_past + len(path)
    np.testing.assert_array_equal(tree.run([36], n_past=after), straight.run([36], n_past=after))


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_blocks_may_lie_anywhere_and_be_copied(emulated: GpuBackend, kv_type: KvCacheType) -> None:
    x = rows_of(110)
    run, other = (SMALL.runner(emulated, x, kv_type=kv_type) for _ in range(2))
    scattered = np.array([9, 2, 15, 0, *[7] * 12], np.int32)
    first, last = list(range(100)), list(range(100, 110))
    np.testing.assert_array_equal(step(run, first), step(other, first, blocks=scattered))
    expected = step(run, last, 100)
    np.testing.assert_array_equal(step(other, last, 100, blocks=scattered), expected)
    other.kv.copy_block(15, 4)
    other.kv.write_block(5, other.kv.read_block(2))
    moved = np.array([9, 5, 4, 0, *[7] * 12], np.int32)
    np.testing.assert_array_equal(step(other, last, 100, blocks=moved), expected)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("out_rows", [[0], [99], [3, 64, 50], list(range(70))])
def test_queries_of_selected_rows_are_those_of_all(
    emulated: GpuBackend, out_rows: list[int], kv_type: KvCacheType
) -> None:
    x, rows = rows_of(100), list(range(100))
    everything = step(SMALL.runner(emulated, x, kv_type=kv_type), rows)
    selected = SMALL.runner(emulated, x, kv_type=kv_type, takes_selected=True)
    np.testing.assert_array_equal(step(selected, rows, out_rows=out_rows), everything[out_rows])


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_texts_longer_than_planned_for_give_the_same_bits(
    any_lanes: GpuBackend, kv_type: KvCacheType
) -> None:
    """There is no room for parts then: a warp takes all splits itself, of trees too."""
    n_past, parents = N_KEYS - 20, [ROOT, 0, 0, 2, 1, 3, 5]
    x, rows = rows_of(N_KEYS), list(range(n_past, n_past + 7))
    usual = SMALL.runner(any_lanes, x, kv_type=kv_type)
    any_lanes.prepare(0, SPLIT_KEYS)
    try:
        longer = SMALL.runner(any_lanes, x, kv_type=kv_type)
    finally:
        any_lanes.prepare(0, DEFAULT_POSITIONS)
    for run in (usual, longer):
        fill(run, n_past)
    found = longer.run(rows, parents, n_past)
    np.testing.assert_array_equal(found, usual.run(rows, parents, n_past))
    np.testing.assert_array_equal(longer.run(rows, None, n_past), usual.run(rows, None, n_past))


# ---- rows and products ----


def test_heads_are_normalized_each_for_itself(emulated: GpuBackend) -> None:
    x = rows_of(3, 192)
    weight, data = f32_weight("w", rows_of(1, 64, 7)[0])
    run = ProgramRunner(
        lambda p, a: p.rms_norm(a, weight, 1e-5), x, {"w": (weight, data)}, backend=emulated
    )
    wide = x.astype(np.float64).reshape(3, 3, 64)
    normed = wide / np.sqrt((wide**2).mean(axis=2, keepdims=True) + 1e-5) * data.view(np.float32)
    np.testing.assert_allclose(run.run(), normed.reshape(3, 192), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("out_rows", [[4], [2, 0, 4], [1, 1]])
def test_parts_side_by_side_of_selected_rows(emulated: GpuBackend, out_rows: list[int]) -> None:
    x = rows_of(5, 300)
    run = ProgramRunner(lambda p, a: p.concat([a, p.silu_mul(a, a), a]), x, backend=emulated)
    found = step(run, list(range(5)), out_rows=out_rows)
    np.testing.assert_array_equal(found[:, :300], x[out_rows])
    np.testing.assert_array_equal(found[:, 600:], x[out_rows])
    wide = x[out_rows].astype(np.float64)
    np.testing.assert_allclose(found[:, 300:600], wide * wide / (1 + np.exp(-wide)), rtol=1e-5)


def test_matrices_of_one_launch_give_what_each_gives_alone(emulated: GpuBackend) -> None:
    x = rows_of(40)
    parts = {
        "a": (27, "Q5_0"), "b": (5, "Q8_0"), "c": (130, "Q4_1"), "d": (16, "Q5_1"),
        "e": (20, "F16"), "f": (33, "BF16"), "g": (16, "F32"),
    }  # fmt: skip
    named = {name: quantized(name, *part) for name, part in parts.items()}
    together = ProgramRunner(
        lambda p, a: p.concat([p.linear(a, weight) for weight, _ in named.values()]),
        x, named, backend=emulated,
    ).run()  # fmt: skip
    start = 0
    for name, (n_out, _) in parts.items():
        weight = named[name][0]
        alone = ProgramRunner(
            lambda p, a, weight=weight: p.linear(a, weight), x, {name: named[name]},
            backend=emulated,
        ).run()  # fmt: skip
        np.testing.assert_array_equal(together[:, start : start + n_out], alone)
        start += n_out


@pytest.mark.parametrize("quant", ["Q8_0", "F16"])
def test_broken_rows_stay_broken_and_spoil_no_others(emulated: GpuBackend, quant: str) -> None:
    named = {"w": quantized("w", 24, quant)}
    x = rows_of(6)
    sound = ProgramRunner(lambda p, a: p.linear(a, named["w"][0]), x, named, backend=emulated)
    expected = sound.run()
    x = x.copy()
    x[1, 40], x[3, 0], x[4] = np.nan, np.inf, 0
    found = ProgramRunner(lambda p, a: p.linear(a, named["w"][0]), x, named, backend=emulated).run()
    assert not np.isfinite(found[[1, 3]]).any()
    np.testing.assert_array_equal(found[4], np.zeros(24))
    np.testing.assert_array_equal(found[[0, 2, 5]], expected[[0, 2, 5]])


@pytest.mark.parametrize("quant", ["Q4_1", "F16"])
@pytest.mark.parametrize("factor", [1e-30, 1e5, 1e30])
def test_sizes_of_activations_scale_their_products(
    emulated: GpuBackend, factor: float, quant: str
) -> None:
    named = {"w": quantized("w", 24, quant)}
    x = rows_of(4)
    runs = [
        ProgramRunner(lambda p, a: p.linear(a, named["w"][0]), rows, named, backend=emulated).run()
        for rows in (x, (x * np.float32(factor)).astype(np.float32))
    ]
    expected = runs[0].astype(np.float64) * factor
    assert np.abs(runs[1] - expected).max() < 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("quant", ["BF16", "F32"])
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_halves_reach_as_far_as_floats(any_lanes: GpuBackend, factor: float, quant: str) -> None:
    """Sizes may differ by rows of weights and by blocks of a row."""
    values = rows_of(24, seed=3).astype(np.float64)
    values[:, 32:] *= factor
    values[::2] *= factor**0.1
    weight, data, meant = quantized_weight("w", values.astype(np.float32), quant)
    x = rows_of(3, seed=4)
    expected = x.astype(np.float16).astype(np.float64) @ meant.T
    run = ProgramRunner(
        lambda p, a: p.linear(a, weight), x, {"w": (weight, data)}, backend=any_lanes
    )
    errors = np.abs(run.run() - expected).max(axis=0)
    assert (errors < 3e-3 * np.abs(expected).max(axis=0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_not_hidden(emulated: GpuBackend, bad: float) -> None:
    values = rows_of(20, seed=3)
    values[7, 40] = bad
    weight, data, _ = quantized_weight("w", values, "F16")
    x = rows_of(3)
    run = ProgramRunner(
        lambda p, a: p.linear(a, weight), x, {"w": (weight, data)}, backend=emulated
    )
    np.testing.assert_array_equal(np.isfinite(run.run()), np.tile(np.arange(20) != 7, (3, 1)))


@pytest.mark.parametrize("quant", ["F16", "BF16", "F32"])
def test_a_table_is_looked_up_and_multiplied_by(emulated: GpuBackend, quant: str) -> None:
    weight, data, meant = quantized_weight("w", rows_of(50), quant)
    program = Program("test", {"w": weight})
    program.output(program.linear(program.select_rows(program.embed(weight)), weight))
    model = emulated.model(program, {"w": data}, max_rows=64, max_out_rows=64)
    tokens = np.arange(50, dtype=np.int32)
    assert model.step(emulated.kv_cache([], 1), tokens, tokens - 1, tokens[:2], 0, tokens)
    expected = meant @ meant.T
    assert np.abs(model.logits(50) - expected).max() < 1e-3 * np.abs(expected).max()


def test_rows_that_are_no_whole_blocks_are_refused(emulated: GpuBackend) -> None:
    weight, data, _ = quantized_weight("w", rows_of(16, 40), "F16")
    with pytest.raises(NativeError, match="'w' has rows of 40, expected a multiple of 32"):
        ProgramRunner(
            lambda p, a: p.linear(a, weight), rows_of(1, 40), {"w": (weight, data)},
            backend=emulated,
        )  # fmt: skip


# ---- choices ----


def hard_rows(width: int) -> np.ndarray:
    """Rows whose best are many or few, close together or far apart, or beyond what exp can hold."""
    rng = np.random.default_rng(width)
    ties = rng.integers(-3, 4, width)
    zeros = np.where(rng.random(width) < 0.5, -0.0, 0.0)
    apart = np.full(width, -np.inf)
    apart[[0, width // 2, -1]] = 1, 1, 2
    rising = np.arange(width) / 100
    by_thread = rising.reshape(-1, 256).T.reshape(-1) if width % 256 == 0 else rising
    usual = rng.standard_normal(width)
    rows = [usual, usual + 300, ties, zeros, apart, rising, rising[::-1], by_thread]
    return np.stack(rows).astype(np.float32)


@pytest.mark.parametrize("width", [64, 4096, 4097, 8192 + 128])
@pytest.mark.parametrize("k", [1, 3, 8, 31, 64])
def test_the_best_come_in_order_and_the_lowest_of_equals_first(
    emulated: GpuBackend, width: int, k: int
) -> None:
    x = hard_rows(width)
    run = ProgramRunner(lambda p, a: a, x, top_k=k, backend=emulated)
    run.run()
    ids, log_probs = run.model.top_k(len(x))
    best = x.argmax(axis=1)
    np.testing.assert_array_equal(ids, np.argsort(-x, axis=1, kind="stable")[:, :k])
    wide = x.astype(np.float64)
    wide -= np.take_along_axis(wide, best[:, None], 1)
    log_softmax = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_probs, np.take_along_axis(log_softmax, ids, 1), atol=1e-3)
    run.run([5])
    alone = run.model.top_k(1)
    np.testing.assert_array_equal(alone[0][0], ids[5])
    np.testing.assert_array_equal(alone[1][0], log_probs[5])


def test_more_of_the_best_than_fit_are_refused(emulated: GpuBackend) -> None:
    with pytest.raises(NativeError, match="the best 65 of 100, expected <= 64"):
        ProgramRunner(lambda p, a: a, rows_of(1, 100), top_k=65, backend=emulated)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_top_k_finds_what_is_not_finite(emulated: GpuBackend, bad: float) -> None:
    x = rows_of(1, 1500)
    x[0, 1499] = bad
    run = ProgramRunner(lambda p, a: a, x, top_k=4, backend=emulated)
    run.run()
    with pytest.raises(NativeError, match="not finite"):
        run.model.top_k(1)


@pytest.mark.parametrize("width", [1, 4095, 4096, 4097])
def test_argmax_at_the_edges_of_chunks(emulated: GpuBackend, width: int) -> None:
    x = np.full((3, width), -1e30, np.float32)
    x[1, -1] = -9e29
    x[2, width // 2] = 5
    run = ProgramRunner(lambda p, a: a, x, backend=emulated)
    run.run()
    assert run.model.argmax(3) == x.argmax(axis=1).tolist()


# ---- the guards of these tests ----


@pytest.mark.parametrize("offset", [-1, 100])
def test_a_byte_beside_a_buffer_is_noticed(offset: int) -> None:
    driver = guarded_driver()
    address = driver.allocate(100)
    ctypes.memset(address, 0, 100)
    assert driver.damage() == []
    ctypes.memset(address + offset, 0, 1)
    driver.free(address)
    assert driver.damage() == [f"{'before' if offset < 0 else 'behind'} a buffer of 100 bytes"]
