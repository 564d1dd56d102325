"""Every GPU op against float64 NumPy, and bit-equal whatever is computed beside a row."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.backends.gpu.backend import GpuBackend
from engine.backends.gpu.launch import Bucket
from engine.backends.gpu.model import GpuModel
from engine.backends.likeliest import likeliest
from engine.config import KvCacheType
from engine.errors import NativeError
from engine.ops import Activation, KvLayer, Weight
from engine.program import Program
from engine.session import ROOT
from tests.native.program_runner import (
    ProgramRunner,
    f32_weight,
    quantized_weight,
    random_blocks,
)
from tests.native.test_attention import KV_TYPES, stored

PLAIN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
SUPER = ("Q4_K", "Q5_K", "Q6_K")
HALF = ("F16", "BF16", "F32")
Named = dict[str, tuple[Weight, np.ndarray]]


def rows_of(n: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def weight_of(quant: str, n_out: int, n_cols: int) -> tuple[Weight, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_out)
    if quant in SUPER:
        return random_blocks("w", n_out, n_cols, quant, rng)
    values = rng.standard_normal((n_out, n_cols)).astype(np.float32)
    return quantized_weight("w", values, quant)


def named_weight(name: str, quant: str, n_out: int, n_cols: int) -> tuple[Weight, np.ndarray]:
    weight, data, _ = weight_of(quant, n_out, n_cols)
    return Weight(name, weight.n_out, weight.n_cols, weight.type_id), data


def kernels_of(run: ProgramRunner, n_rows: int) -> set[str]:
    assert isinstance(run.model, GpuModel)
    bucket = Bucket(n_rows, n_rows, 0)
    return {launch.kernel(bucket) for launch in run.model._whole.launches}


def rounded(x: np.ndarray, quant: str) -> np.ndarray:
    """Activations as the kernels round them: int8 by blocks, or halves."""
    if quant in HALF:
        return x.astype(np.float16).astype(np.float64)
    blocks = x.astype(np.float64).reshape(len(x), -1, 256 if quant in SUPER else 32)
    scales = np.abs(blocks).max(axis=2, keepdims=True) / 127
    return (np.rint(blocks / scales) * scales).reshape(x.shape)


@pytest.mark.parametrize("quant", [*PLAIN, *SUPER, *HALF])
def test_rows_are_looked_up_as_gguf_says(emulated: GpuBackend, quant: str) -> None:
    weight, data, meant = weight_of(quant, 37, 256)
    program = Program("test", {"w": weight})
    program.output(program.select_rows(program.embed(weight)))
    model = emulated.model(program, {"w": data}, max_rows=64, max_out_rows=64)
    tokens = np.arange(37, dtype=np.int32)
    kv = emulated.kv_cache([], 1)
    assert model.step(kv, tokens, tokens - 1, np.zeros(2, np.int32), 0, tokens)
    scale = np.abs(meant).max()
    # The scales of K-quants are products that are kept as halves.
    atol = 1e-3 * scale if quant in SUPER else 0
    np.testing.assert_allclose(model.logits(37), meant, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("n_rows", [1, 5, 33, 70])
@pytest.mark.parametrize("quant", [*PLAIN, *SUPER, *HALF])
def test_products_equal_float64_over_rounded_activations(
    any_lanes: GpuBackend, quant: str, n_rows: int
) -> None:
    weight, data, meant = weight_of(quant, 27, 512)
    bias, bias_data = f32_weight("b", rows_of(1, 27, 5)[0])
    x = rows_of(n_rows, 512)

    def build(p: Program, a: Activation) -> Activation:
        first = p.linear(a, weight)
        return p.linear(a, weight, bias, residual=first)

    run = ProgramRunner(build, x, {"w": (weight, data), "b": (bias, bias_data)}, backend=any_lanes)
    expected = 2 * rounded(x, quant) @ meant.T + bias_data.view(np.float32)
    found, tolerance = run.run(), 1e-6 if quant in ("F16", "BF16") else 2e-3
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("width", [768, 3072])
@pytest.mark.parametrize("quant", ["Q4_1", "Q5_0", "Q6_K", "Q4_K", "Q8_0", "F16", "BF16"])
def test_a_row_is_bit_equal_whatever_is_computed_beside_it(
    any_lanes: GpuBackend, quant: str, width: int
) -> None:
    weight, data, _ = weight_of(quant, 40, width)
    x = rows_of(80, width)
    run = ProgramRunner(
        lambda p, a: p.linear(a, weight), x, {"w": (weight, data)}, backend=any_lanes
    )
    everything = run.run()
    for rows in ([0], [79], [3, 50], list(range(9)), list(range(17)), list(range(40, 80))):
        np.testing.assert_array_equal(run.run(rows), everything[rows])


# What one launch may have beside each other: a matrix of several blocks, one of a tile that is not
# full, several formats.
OF_BLOCKS = (("Q4_0", 150), ("Q8_0", 5), ("Q5_1", 27), ("Q4_1", 16))
OF_SUPER = (("Q6_K", 130), ("Q4_K", 5), ("Q5_K", 27), ("Q6_K", 16))


@pytest.mark.parametrize("n_rows", [33, 70, 128])
@pytest.mark.parametrize("width", [768, 3072])
@pytest.mark.parametrize("parts", [OF_BLOCKS, OF_SUPER], ids=["blocks", "super"])
def test_many_rows_of_several_matrices_are_those_of_few(
    any_lanes: GpuBackend, parts: tuple[tuple[str, int], ...], width: int, n_rows: int
) -> None:
    made = [named_weight(f"w{i}", *part, width) for i, part in enumerate(parts)]
    named: Named = {weight.name: (weight, data) for weight, data in made}
    bias, bias_data = f32_weight("b", rows_of(1, parts[0][1], 5)[0])
    named["b"] = bias, bias_data
    x = rows_of(n_rows, width)

    def build(p: Program, a: Activation) -> Activation:
        outs = [p.linear(a, weight, None if i else bias) for i, (weight, _) in enumerate(made)]
        return p.concat(outs)

    run = ProgramRunner(build, x, named, backend=any_lanes)
    everything = run.run()
    for rows in ([n_rows - 1], list(range(20, 33))):
        np.testing.assert_array_equal(run.run(rows), everything[rows])
    name = "linear_tall_many" if width > 3000 else "linear_many"
    assert name in kernels_of(run, n_rows)


@pytest.mark.parametrize("width", [64, 100, 896])
def test_rms_norm(emulated: GpuBackend, width: int) -> None:
    x = rows_of(3, width)
    weight, data = f32_weight("w", rows_of(1, width, 7)[0])
    run = ProgramRunner(
        lambda p, a: p.rms_norm(a, weight, 1e-5), x, {"w": (weight, data)}, backend=emulated
    )
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(run.run(), expected * data.view(np.float32), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("makes", ["norm", "silu_mul"])
@pytest.mark.parametrize("quant", ["Q8_0", "Q6_K", "F16"])
@pytest.mark.parametrize("n_rows", [1, 5])
def test_what_is_rounded_as_it_is_computed_is_what_is_computed_first(
    any_lanes: GpuBackend, makes: str, quant: str, n_rows: int
) -> None:
    emulated = any_lanes
    weight, data, _ = weight_of(quant, 32, 256)
    scale, scale_data = f32_weight("s", rows_of(1, 256, 3)[0])
    x = rows_of(n_rows, 256)

    def make(p: Program, a: Activation) -> Activation:
        return p.rms_norm(a, scale, 1e-6) if makes == "norm" else p.silu_mul(a, a)

    def both(p: Program, a: Activation) -> Activation:
        made = make(p, a)  # read by another op as well: it cannot be fused
        return p.concat([p.linear(made, weight), made])

    named: Named = {"w": (weight, data), "s": (scale, scale_data)}
    fused = ProgramRunner(lambda p, a: p.linear(make(p, a), weight), x, named, backend=emulated)
    apart = ProgramRunner(both, x, named, backend=emulated)
    np.testing.assert_array_equal(fused.run(), apart.run()[:, :32])


@pytest.mark.parametrize("quant", ["Q8_0", "Q4_K", "BF16"])
def test_a_matrix_of_more_tiles_than_are_staged_is_streamed(
    any_lanes: GpuBackend, quant: str
) -> None:
    weight, data, meant = weight_of(quant, 1125, 256)
    bias, bias_data = f32_weight("b", rows_of(1, 1125, 5)[0])
    scale, scale_data = f32_weight("s", rows_of(1, 256, 3)[0])
    x = rows_of(30, 256)
    run = ProgramRunner(
        lambda p, a: p.linear(p.rms_norm(a, scale, 1e-6), weight, bias),
        x,
        {"w": (weight, data), "b": (bias, bias_data), "s": (scale, scale_data)},
        backend=any_lanes,
    )
    everything = run.run()
    for rows in ([1], list(range(8)), list(range(12))):
        np.testing.assert_array_equal(run.run(rows), everything[rows])
    wide = x.astype(np.float64)
    normed = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6)
    normed *= scale_data.view(np.float32)
    expected = rounded(normed, quant) @ meant.T
    expected += bias_data.view(np.float32)
    assert np.abs(everything - expected).max() < 3e-3 * np.abs(expected).max()


@pytest.mark.parametrize("quant", ["Q8_0", "F16"])
@pytest.mark.parametrize("width", [4096, 9216])
def test_a_wide_row_is_rounded_alone_as_beside_others(
    any_lanes: GpuBackend, width: int, quant: str
) -> None:
    weight, data, meant = weight_of(quant, 16, width)
    scale, scale_data = f32_weight("s", rows_of(1, width, 3)[0])
    x = rows_of(2, width)
    run = ProgramRunner(
        lambda p, a: p.linear(p.rms_norm(a, scale, 1e-6), weight),
        x,
        {"w": (weight, data), "s": (scale, scale_data)},
        backend=any_lanes,
    )
    everything = run.run()
    wide = x.astype(np.float64)
    normed = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True)) * scale_data.view(np.float32)
    expected = rounded(normed, quant) @ meant.T
    assert np.abs(everything - expected).max() < 3e-3 * np.abs(expected).max()
    np.testing.assert_array_equal(run.run([1]), everything[[1]])


@pytest.mark.parametrize("n_rows", [1, 2, 20, 70])
@pytest.mark.parametrize("quant", ["Q5_0", "Q4_K", "F16", "F32"])
def test_a_gate_and_an_up_make_their_product(
    any_lanes: GpuBackend, quant: str, n_rows: int
) -> None:
    gate, gate_data, gate_meant = weight_of(quant, 40, 256)
    up, up_data, up_meant = weight_of(quant, 40, 256)
    up_data, up_meant = up_data.reshape(40, -1)[::-1].reshape(-1), up_meant[::-1]
    up = Weight("up", up.n_out, up.n_cols, up.type_id)
    x = rows_of(n_rows, 256)
    named: Named = {"w": (gate, gate_data), "up": (up, up_data)}
    run = ProgramRunner(
        lambda p, a: p.silu_mul(p.linear(a, gate), p.linear(a, up)), x, named, backend=any_lanes
    )
    wide = rounded(x, quant)
    g, u = wide @ gate_meant.T, wide @ up_meant.T
    expected = g / (1 + np.exp(-g)) * u
    found = run.run()
    assert np.abs(found - expected).max() < 3e-3 * np.abs(expected).max()
    for rows in ([0], list(range(n_rows // 2, n_rows))):
        np.testing.assert_array_equal(run.run(rows), found[rows])


@pytest.mark.parametrize("n_parts", [3, 11])
def test_parts_lie_side_by_side(emulated: GpuBackend, n_parts: int) -> None:
    x = rows_of(3, 64)
    scales = [f32_weight(f"s{i}", rows_of(1, 64, i)[0]) for i in range(n_parts)]

    def build(p: Program, a: Activation) -> Activation:
        return p.concat([p.rms_norm(a, scale, 1e-6) for scale, _ in scales])

    named: Named = {scale.name: (scale, data) for scale, data in scales}
    found = ProgramRunner(build, x, named, backend=emulated).run()
    for i, (scale, data) in enumerate(scales):
        alone = ProgramRunner(
            lambda p, a, scale=scale: p.rms_norm(a, scale, 1e-6),
            x,
            {scale.name: (scale, data)},
            backend=emulated,
        )
        np.testing.assert_array_equal(found[:, 64 * i : 64 * (i + 1)], alone.run())


def test_silu_mul_over_the_whole_range(emulated: GpuBackend) -> None:
    x = np.linspace(-80, 80, 2048).astype(np.float32)[None]
    run = ProgramRunner(lambda p, a: p.silu_mul(a, a), x, backend=emulated)
    wide = x.astype(np.float64)
    expected = wide / (1 + np.exp(-wide)) * wide
    np.testing.assert_allclose(run.run(), expected, rtol=3e-5, atol=1e-30)


# ---- attention: 6 query heads over 2, of 32 dimensions ----

N_HEAD, N_KV, DIMS = 6, 2, 32
Q, KV = N_HEAD * DIMS, N_KV * DIMS
FREQUENCIES = tuple(1000.0 ** (-2 * i / 16) for i in range(8))


def projections() -> Named:
    rng = np.random.default_rng(2)
    made: Named = {}
    for name, n_out in (("q", Q), ("k", KV), ("v", KV)):
        values = rng.standard_normal((n_out, 64)).astype(np.float32) / 6
        weight, data, _ = quantized_weight(name, values, "Q8_0")
        made[name] = (weight, data)
    return made


def attention_runner(
    emulated: GpuBackend,
    x: np.ndarray,
    *,
    window: int | None = None,
    is_block: bool = False,
    is_neox: bool = True,
    kv_type: KvCacheType = "f16",
) -> ProgramRunner:
    named = projections()

    def build(p: Program, a: Activation) -> Activation:
        q, k, v = (p.linear(a, named[name][0]) for name in "qkv")
        q, k = (p.rope(t, FREQUENCIES, DIMS, is_neox) for t in (q, k))
        p.kv_layer(1, 16)  # another layer beside it in the same blocks
        kv = p.kv_layer(N_KV, DIMS)
        p.kv_write(kv, k, v)
        return p.attention(q, kv, N_HEAD, DIMS**-0.5, window=window, is_block=is_block)

    return ProgramRunner(build, x, named, kv_type=kv_type, backend=emulated)


def projected(emulated: GpuBackend, x: np.ndarray, name: str) -> np.ndarray:
    named = projections()
    run = ProgramRunner(
        lambda p, a: p.linear(a, named[name][0]), x, {name: named[name]}, backend=emulated
    )
    heads = run.run().astype(np.float64)
    return heads.reshape(len(x), -1, DIMS)


def turned(heads: np.ndarray, positions: np.ndarray, *, is_neox: bool) -> np.ndarray:
    out = heads.copy()
    for i, frequency in enumerate(FREQUENCIES):
        a, b = (i, i + 8) if is_neox else (2 * i, 2 * i + 1)
        c, s = (f(positions * frequency)[:, None] for f in (np.cos, np.sin))
        out[..., a] = heads[..., a] * c - heads[..., b] * s
        out[..., b] = heads[..., a] * s + heads[..., b] * c
    return out


def expected_attention(
    emulated: GpuBackend,
    x: np.ndarray,
    visible: Callable[[int], list[int]],
    positions: np.ndarray,
    *,
    is_neox: bool = True,
    kv_type: KvCacheType = "f16",
) -> np.ndarray:
    q, k, v = (projected(emulated, x, name) for name in "qkv")
    q, k = (turned(t, positions, is_neox=is_neox) for t in (q, k))
    k, v = stored(k, kv_type, is_key=True), stored(v, kv_type, is_key=False)
    out = np.zeros_like(q)
    for t in range(len(x)):
        seen = visible(t)
        for h in range(N_HEAD):
            scores = k[seen, h // 3] @ q[t, h] * DIMS**-0.5
            p = np.exp(scores - scores.max())
            out[t, h] = p @ v[seen, h // 3] / p.sum()
    return out.reshape(len(x), Q)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("is_neox", [True, False])
def test_a_chain_sees_what_is_before_it(
    emulated: GpuBackend, is_neox: bool, kv_type: KvCacheType
) -> None:
    x, visible = rows_of(100, 64), [list(range(t + 1)) for t in range(100)]
    expected = expected_attention(
        emulated, x, visible.__getitem__, np.arange(100), is_neox=is_neox, kv_type=kv_type
    )
    found = attention_runner(emulated, x, is_neox=is_neox, kv_type=kv_type).run()
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", [1, 5, 32, 50])
def test_a_window_hides_all_but_the_last_keys(
    emulated: GpuBackend, window: int, kv_type: KvCacheType
) -> None:
    x, visible = rows_of(70, 64), [list(range(max(t + 1 - window, 0), t + 1)) for t in range(70)]
    expected = expected_attention(emulated, x, visible.__getitem__, np.arange(70), kv_type=kv_type)
    found = attention_runner(emulated, x, window=window, kv_type=kv_type).run()
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_a_block_sees_all_of_itself(emulated: GpuBackend, kv_type: KvCacheType) -> None:
    x = rows_of(20, 64)
    expected = expected_attention(
        emulated, x, lambda _: list(range(20)), np.arange(20), kv_type=kv_type
    )
    found = attention_runner(emulated, x, is_block=True, kv_type=kv_type).run()
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("n_past", [0, 31, 40])
def test_a_branch_of_a_tree_equals_the_straight_sequence(
    emulated: GpuBackend, n_past: int, kv_type: KvCacheType
) -> None:
    rng = np.random.default_rng(n_past)
    n_tree = 20
    parents = [int(rng.integers(ROOT, row)) if row else ROOT for row in range(n_tree)]
    x = rows_of(n_past + n_tree, 64)
    tree = attention_runner(emulated, x, kv_type=kv_type)
    if n_past:
        tree.run(list(range(n_past)))
    found = tree.run(list(range(n_past, n_past + n_tree)), parents, n_past)
    for leaf in (n_tree - 1, n_tree // 2):
        path = [leaf]
        while parents[path[0]] != ROOT:
            path.insert(0, parents[path[0]])
        rows = [*range(n_past), *(n_past + row for row in path)]
        straight = attention_runner(emulated, x, kv_type=kv_type).run(rows)
        np.testing.assert_array_equal(found[path], straight[n_past:])


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("sizes", [(1,) * 6 + (64, 30), (99, 1), (33, 67), (100,)])
def test_every_split_into_steps_gives_the_same_bits(
    emulated: GpuBackend, sizes: tuple[int, ...], kv_type: KvCacheType
) -> None:
    x = rows_of(100, 64)
    whole = attention_runner(emulated, x, kv_type=kv_type).run()
    run, start = attention_runner(emulated, x, kv_type=kv_type), 0
    for size in sizes:
        rows = list(range(start, start + size))
        np.testing.assert_array_equal(run.run(rows, n_past=start), whole[rows])
        start += size


def test_what_was_recorded_for_a_cache_goes_with_it(emulated: GpuBackend) -> None:
    """Another cache may come to lie where a forgotten one was."""
    x = rows_of(10, 64)
    run = attention_runner(emulated, x)
    assert isinstance(run.model, GpuModel)
    expected = run.run()
    for _ in range(3):
        run.kv = emulated.kv_cache(run.model.program.kv_layers, 16)
        np.testing.assert_array_equal(run.run(), expected)
        assert len(run.model._graphs) == 1


# ---- choices ----


def test_argmax_is_the_lowest_of_the_largest_and_finds_what_is_not_finite(
    emulated: GpuBackend,
) -> None:
    x = rows_of(4, 9000)
    x[0, 5], x[0, 8000] = 9, 9
    x[1, 8999] = 11
    x[2, 4500] = np.nan
    x[3, 3] = np.inf
    run = ProgramRunner(lambda p, a: a, x, backend=emulated)
    run.run([0, 1])
    assert run.model.argmax(2) == [5, 8999]
    for row in (2, 3):
        run.run([row])
        with pytest.raises(NativeError, match="not finite"):
            run.model.argmax(1)


@pytest.mark.parametrize("k", [1, 8])
def test_top_k_with_log_softmax(emulated: GpuBackend, k: int) -> None:
    x = rows_of(3, 1500)
    x[1, 7] = x[1, 900] = 6
    run = ProgramRunner(lambda p, a: a, x, top_k=k, backend=emulated)
    run.run()
    ids, log_probs = run.model.top_k(3)
    expected = np.argsort(-x, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, expected)
    wide = x.astype(np.float64)
    log_softmax = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_probs, np.take_along_axis(log_softmax, expected, 1), atol=1e-4)


@pytest.mark.parametrize("k", [1, 8, 40, 64, 65, 5000])
def test_the_likeliest_are_the_processors(emulated: GpuBackend, k: int) -> None:
    x = rows_of(5, 4800)
    x[1] = np.round(x[1])
    x[2, 4000:], x[3, 100:] = -np.inf, -np.inf
    x[4] = np.where(np.arange(4800) % 2, 0.0, -0.0)
    run = ProgramRunner(lambda p, a: a, x, backend=emulated)
    run.run()
    ids, logits = run.model.likeliest(5, k)
    expected = likeliest(x, k)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(logits, expected[1])
    assert run.model.argmax(5) == ids[:, 0].tolist()
    run.run([1])
    alone = run.model.likeliest(1, k)
    np.testing.assert_array_equal(alone[0][0], ids[1])
    np.testing.assert_array_equal(alone[1][0], logits[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_likeliest_of_what_is_not_finite_are_an_error(emulated: GpuBackend, bad: float) -> None:
    x = rows_of(2, 4800)
    x[1, 4799] = bad
    run = ProgramRunner(lambda p, a: a, x, backend=emulated)
    run.run()
    with pytest.raises(NativeError, match="not finite"):
        run.model.likeliest(2, 40)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_moves_are_made_in_order_however_many(emulated: GpuBackend, kv_type: KvCacheType) -> None:
    layers = [KvLayer(0, 2, 32), KvLayer(1, 1, 64)]
    kv = emulated.kv_cache(layers, 8, kv_type)
    one_by_one = emulated.kv_cache(layers, 8, kv_type)
    rng = np.random.default_rng(0)
    for block in range(8):
        content = rng.integers(0, 256, kv.block_bytes, np.uint8)
        kv.write_block(block, content)
        one_by_one.write_block(block, content)
    # Down by one, as a path is moved; and two that want the other's place.
    moves = [(i + 1, i) for i in range(150)] + [(200, 201), (201, 200)]
    kv.move_positions(moves)
    for move in moves:
        one_by_one.move_positions([move])
    for block in range(8):
        np.testing.assert_array_equal(kv.read_block(block), one_by_one.read_block(block))
    assert (kv.read_block(0) != content).any()
