"""Which kernel a linear op is, on how many blocks, and what it takes of shared memory."""

import pytest

from engine.backends.gpu.defaults import Defaults
from engine.backends.gpu.fusing import Linears, Part, Round, Rounded, Source
from engine.backends.gpu.launch import Bucket
from engine.backends.gpu.linear_shape import LinearShape
from engine.backends.gpu.packing import RoundingKind
from engine.ops import Activation, Attention, KvLayer, Weight

KIB = 1024
ONE, FOUR, SIXTEEN, THIRTY, MANY = (Bucket(n, n, 4) for n in (1, 4, 16, 30, 512))


def shape(n_tiles: int, width: int = 896, **options: object) -> LinearShape:
    x = Rounded(width)
    rounding = Round(x, Activation(width), options.pop("source", Source.NORMED))  # type: ignore[arg-type]
    op = Linears(x, parts_of(n_tiles), (), (), rounding=rounding, **options)  # type: ignore[arg-type]
    defaults = Defaults(tree_budget=8, staged_bytes=64 * KIB, has_wide_linears=True)
    return LinearShape(op, n_tiles, 10 * KIB, 132, defaults)


def parts_of(*n_tiles: int) -> tuple[Part, ...]:
    """Matrices of so many tiles, the last of which each has a row of."""
    sizes = [16 * n - 15 for n in n_tiles]
    return tuple(Part(Activation(n), (Weight("w", n, 896, 0),)) for n in sizes)


@pytest.mark.parametrize(
    ("width", "bucket", "kernel"),
    [
        (896, ONE, "linear_one"),
        (896, FOUR, "linear_8"),
        (896, SIXTEEN, "linear_16"),
        (896, MANY, "linear_64"),
        (4864, ONE, "linear_tall_one"),
        (4864, MANY, "linear_tall_32"),
        (32768, ONE, "linear_tall_8"),  # too wide for every block to round it
    ],
)
def test_rows_and_width_choose_the_kernel(width: int, bucket: Bucket, kernel: str) -> None:
    assert shape(56, width).kernel(bucket) == kernel


@pytest.mark.parametrize(
    ("n_tiles", "bucket", "kernel"),
    [
        (792, SIXTEEN, "linear_16"),
        (793, SIXTEEN, "linear_wide_16"),
        (528, THIRTY, "linear_32"),
        (529, THIRTY, "linear_wide_32"),
        (9496, FOUR, "linear_8"),
        (9496, MANY, "linear_many"),
    ],
)
def test_matrices_of_many_blocks_have_kernels_of_which_more_fit_at_once(
    n_tiles: int, bucket: Bucket, kernel: str
) -> None:
    assert shape(n_tiles).kernel(bucket) == kernel


@pytest.mark.parametrize(
    ("n_tiles", "n_rows", "kernel", "grid"),
    [
        ((528,), 32, "linear_32", (528, 1, 1)),
        ((528,), 33, "linear_narrow_many", (2, 132, 1)),
        ((524,), 33, "linear_64", (524, 1, 1)),  # less than two blocks for each multiprocessor
        ((56, 8, 9), 512, "linear_narrow_many", (16, 14 + 2 + 3, 1)),  # a block is of one matrix
        ((192,), 512, "linear_narrow_many", (16, 48, 1)),
        ((200,), 512, "linear_many", (8, 25, 1)),  # one and a half wide ones
        ((192, 1, 1), 500, "linear_many", (8, 26, 1)),
    ],
)
@pytest.mark.parametrize(
    "defaults",
    [
        Defaults(tree_budget=8, staged_bytes=64 * KIB, has_wide_linears=True),
        Defaults(tree_budget=8),
    ],
    ids=["copies ahead", "copies in between"],
)
def test_many_rows_have_kernels_of_their_own(
    n_tiles: tuple[int, ...],
    n_rows: int,
    kernel: str,
    grid: tuple[int, int, int],
    defaults: Defaults,
) -> None:
    op = Linears(Rounded(896), parts_of(*n_tiles), (), ())
    shape, bucket = LinearShape(op, sum(n_tiles), 10 * KIB, 132, defaults), Bucket(n_rows, 1, 0)
    assert (shape.kernel(bucket), shape.grid(bucket)) == (kernel, grid)


@pytest.mark.parametrize(
    ("staged_bytes", "has_wide", "kernel", "n_bytes"),
    [
        (64 * KIB, True, "linear_many", 74 * KIB),
        (64 * KIB, False, "linear_narrow_many", 21 * KIB),
        (0, False, "linear_many", 14 * KIB),  # its sums stay in registers
    ],
)
def test_wide_ones_are_where_multiprocessors_have_room_for_several(
    staged_bytes: int, has_wide: bool, kernel: str, n_bytes: int
) -> None:
    defaults = Defaults(tree_budget=8, staged_bytes=staged_bytes, has_wide_linears=has_wide)
    op = Linears(Rounded(896), parts_of(200), (), ())
    shape = LinearShape(op, 200, 10 * KIB, 132, defaults)
    assert (shape.kernel(MANY), shape.shared_bytes(MANY)) == (kernel, n_bytes)


@pytest.mark.parametrize(("width", "kernel"), [(896, "linear_64"), (4864, "linear_tall_32")])
def test_many_rows_of_few_weights_are_streamed(width: int, kernel: str) -> None:
    shape = LinearShape(
        Linears(Rounded(width), (), (), ()), 56, 10 * KIB, 132, Defaults(tree_budget=8)
    )
    assert shape.kernel(MANY) == kernel
    assert shape.grid(MANY) == (56, 512 // int(kernel[-2:]), 1)
    assert shape.shared_bytes(MANY) == 0


@pytest.mark.parametrize(
    ("width", "bucket", "kernel"),
    [
        (896, ONE, "linear_half_8"),
        (896, SIXTEEN, "linear_half_16"),
        (896, THIRTY, "linear_half_32"),
        (896, MANY, "linear_half_64"),
        (4864, ONE, "linear_tall_half_8"),
        (4864, MANY, "linear_tall_half_32"),
    ],
)
def test_halves_have_kernels_of_their_own(width: int, bucket: Bucket, kernel: str) -> None:
    op = Linears(Rounded(width, kind=RoundingKind.HALVES), (), (), ())
    defaults = Defaults(tree_budget=8, has_wide_linears=True)
    assert LinearShape(op, 9496, 10 * KIB, 132, defaults).kernel(bucket) == kernel


def test_silu_is_rounded_by_a_kernel_of_its_own() -> None:
    assert shape(56, source=Source.SILU_MUL).kernel(ONE) == "linear_8"


@pytest.mark.parametrize(("n_splits", "kernel"), [(32, "linear_merge_64"), (64, "linear_one")])
def test_few_splits_are_merged_where_they_are_read(n_splits: int, kernel: str) -> None:
    q = Activation(896)
    merged = Attention(Activation(896), q, KvLayer(0, 2, 64), 14, 1.0, None, False, None)
    assert shape(56, merged=merged).kernel(Bucket(1, 1, n_splits)) == kernel


CLUSTERS = Defaults(tree_budget=8, staged_bytes=64 * KIB, cluster=8, cluster_bytes=64 * KIB)


def attending(
    *, n_head: int = 14, dims: int = 64, width: int = 896, tile_kib: int = 10
) -> LinearShape:
    """Two KV heads; what makes their queries, keys and values."""
    attention = Attention(
        Activation(n_head * dims), Activation(n_head * dims), KvLayer(0, 2, dims), n_head, 1.0,
        None, False, None,
    )  # fmt: skip
    x = Rounded(width)
    rounding = Round(x, Activation(width), Source.NORMED)
    op = Linears(x, (), (), (), rounding=rounding, attended=attention)
    return LinearShape(op, (n_head + 4) * dims // 16, tile_kib * KIB, 132, CLUSTERS)


def test_a_cluster_has_a_kv_heads_tiles_and_attends() -> None:
    shape = attending()  # 36 tiles for each KV head
    assert shape.kernel(ONE) == "attend_one_64"
    assert (shape.grid(ONE), shape.cluster(ONE), shape.tiles_of_block(ONE)) == ((8, 2, 1), 8, 5)
    assert shape.staged_bytes(ONE) == 50 * KIB
    assert shape.shared_bytes(ONE) > 50 * KIB + 64 * 64 * 4  # and the last split's keys and values


@pytest.mark.parametrize(
    ("shape", "bucket"),
    [
        (attending(), FOUR),
        (attending(), Bucket(1, 1, 0)),  # one warp for all splits
        (attending(), Bucket(1, 1, 64)),  # more than two rounds
        (attending(), Bucket(1, 1, 4, "q8_0")),  # keys are rounded by a kernel of their own
        (attending(n_head=34), ONE),  # more heads than a tile of queries has
        (attending(dims=128), ONE),
        (attending(tile_kib=20), ONE),  # more weights than few multiply in time
        (attending(width=4864), ONE),  # sums in twice as many slices
    ],
)
def test_other_attention_has_kernels_of_its_own(shape: LinearShape, bucket: Bucket) -> None:
    assert shape.attended(bucket) is None
    assert "attend" not in shape.kernel(bucket)
    assert shape.cluster(bucket) == 1


@pytest.mark.parametrize(
    ("n_tiles", "n_blocks"),
    [(56, 56), (192, 96), (608, 152), (1120, 224), (9496, 2374)],
)
def test_a_single_row_has_few_blocks_that_all_fit_if_they_can(n_tiles: int, n_blocks: int) -> None:
    assert shape(n_tiles).grid(ONE) == (n_blocks, 1, 1)


def test_weights_come_to_shared_memory_where_all_fit() -> None:
    assert shape(56).staged_bytes(ONE) == shape(56).shared_bytes(SIXTEEN) == 10 * KIB
    assert shape(608).staged_bytes(ONE) == 40 * KIB
    assert shape(608).shared_bytes(ONE) > 40 * KIB  # and the row
    assert shape(9496).staged_bytes(ONE) == 0
    assert shape(56).staged_bytes(MANY) == 0
