"""Block-sparse attention on the GPU: its selection and result against float64 NumPy and the
processor's, and the bits of dense attention where every block is selected."""

from pathlib import Path

import numpy as np
import pytest

from engine.backends.gpu.backend import GpuBackend
from engine.backends.gpu.model import GpuModel
from engine.cancel import CancelToken
from engine.config import EngineConfig, KvCacheType
from engine.engine import Engine
from engine.errors import NativeError
from engine.ops import Activation, BlockSparse
from engine.program import Program
from engine.request import Segment, SelectRequest
from tests.gpu.test_ops import rounded
from tests.native.program_runner import ProgramRunner, quantized_weight
from tests.native.test_attention import HEAD_DIM, KV, KV_TYPES, N_HEAD, N_KV, Q, rows_of
from tests.native.test_sparse_attention import BLOCK, N_ROWS, expected_of
from tests.tiny_gguf import write_tiny_gguf

EVERYTHING = 1e-30  # an alpha that no block falls below


def varied_rows(seed: int) -> np.ndarray:
    """Queries agree on a direction, and blocks of keys differ in it; exact as int8 by blocks."""
    x = rows_of(N_ROWS, seed)
    x[:, :Q] += 0.5
    for block in range(N_ROWS // BLOCK):
        x[block * BLOCK : (block + 1) * BLOCK, Q : Q + KV] += 0.3 * (block * 2 % 5)
    return rounded(x, "Q8_0").astype(np.float32)


def runner(
    backend: GpuBackend | None,
    x: np.ndarray,
    sparse: BlockSparse | None,
    window: int | None = None,
    *,
    kv_type: KvCacheType = "f16",
    read_by: str | None = None,
) -> ProgramRunner:
    """Queries, keys and values are x's columns; the result is read by a matrix of type `read_by`,
    rounded alone."""
    named = {}
    for name, start, n in (("q", 0, Q), ("k", Q, KV), ("v", Q + KV, KV)):
        matrix = np.zeros((n, x.shape[1]), np.float32)
        matrix[np.arange(n), start + np.arange(n)] = 1
        named[name] = quantized_weight(name, matrix, "Q8_0")[:2]
    named["o"] = quantized_weight("o", np.eye(Q, dtype=np.float32), read_by or "Q8_0")[:2]

    def build(p: Program, a: Activation) -> Activation:
        q, k, v = (p.linear(a, named[name][0]) for name in "qkv")
        kv = p.kv_layer(N_KV, HEAD_DIM)
        p.kv_write(kv, k, v)
        out = p.attention(q, kv, N_HEAD, HEAD_DIM**-0.5, window=window, sparse=sparse)
        return p.linear(out, named["o"][0]) if read_by else out

    return ProgramRunner(build, x, named, kv_type=kv_type, backend=backend)


def run_steps(run: ProgramRunner, n_rows: int = N_ROWS, size: int = BLOCK) -> np.ndarray:
    steps = [range(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]
    return np.concatenate([run.run(list(rows), n_past=rows.start) for rows in steps])


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(("alpha", "n_sink", "n_window"), [(0.4, 1, 2), (1.0, 0, 0)])
def test_rows_see_the_selected_blocks_alone(
    any_lanes: GpuBackend, alpha: float, n_sink: int, n_window: int, kv_type: KvCacheType
) -> None:
    x = varied_rows(seed=5)
    sparse = BlockSparse(alpha, BLOCK, n_sink, n_window)
    expected, share = expected_of(x, sparse, kv_type)
    assert 0.1 < share < 0.9
    found = run_steps(runner(any_lanes, x, sparse, kv_type=kv_type))
    # Some of these keys, rotated, lie in the middle of two numbers.
    atol = 5e-3 if kv_type == "f16" else 2e-2
    np.testing.assert_allclose(found, expected, atol=atol)
    processor = run_steps(runner(None, x, sparse, kv_type=kv_type))
    np.testing.assert_allclose(found, processor, atol=atol)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", [None, BLOCK + 70])
@pytest.mark.parametrize("read_by", [None, "Q8_0", "F16"])
def test_with_every_block_selected_the_bits_are_those_of_dense_attention(
    any_lanes: GpuBackend, window: int | None, read_by: str | None, kv_type: KvCacheType
) -> None:
    x = varied_rows(seed=1)
    sparse = BlockSparse(EVERYTHING, 2 * BLOCK, n_sink=0, n_window=0)
    dense, found = (
        run_steps(runner(any_lanes, x, s, window, kv_type=kv_type, read_by=read_by), size=100)
        for s in (None, sparse)
    )
    np.testing.assert_array_equal(found, dense)


def test_a_step_gives_the_same_bits_again(emulated: GpuBackend) -> None:
    x = varied_rows(seed=2)
    run = runner(emulated, x, BlockSparse(0.9, BLOCK, n_sink=1, n_window=1))
    np.testing.assert_array_equal(run_steps(run), run_steps(run))


def test_branches_of_a_tree_are_refused(emulated: GpuBackend) -> None:
    run = runner(emulated, varied_rows(seed=3), BlockSparse(0.5, BLOCK))
    with pytest.raises(NativeError, match="expected a chain"):
        run.run([0, 1, 2], parents=[-1, 0, 0])


@pytest.mark.parametrize(
    "wrong", [BlockSparse(0.5, 96), BlockSparse(1.5), BlockSparse(0.5, n_sink=-1)]
)
def test_a_selection_that_makes_no_sense_is_refused(
    emulated: GpuBackend, wrong: BlockSparse
) -> None:
    with pytest.raises(NativeError, match="expected"):
        runner(emulated, varied_rows(seed=4), wrong)


@pytest.mark.usefixtures("host_compiler")
@pytest.mark.parametrize("quant", ["Q8_0", "F16"])
def test_a_scorer_on_the_gpu_probes_what_the_processor_does(tmp_path: Path, quant: str) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", quant)
    gpu, cpu = (
        Engine.load(EngineConfig(model=str(path), n_threads=1, backend=backend))
        for backend in ("emulated", "cpu")
    )
    ids = np.random.default_rng(3).integers(0, 256, 7 * 128 + 30).tolist()
    assert isinstance(gpu.scorer._models[0.0], GpuModel)
    for alpha in (0.0, 0.9):
        found, expected = (engine.scorer.probe(ids, 40, alpha) for engine in (gpu, cpu))
        for mine, theirs in ((found.keys, expected.keys), (found.queries, expected.queries)):
            error = np.abs(mine.astype(np.float32) - theirs).mean()
            assert error < 0.03 * np.abs(theirs.astype(np.float32)).mean()
    dense = gpu.scorer.probe(ids, 40)
    assert (found.queries != dense.queries).any()  # something was left out
    segment = Segment(text="def add(a, b):\n    return a + b\n\n\nx = value\n" * 4)
    request = SelectRequest(
        query="n = add(", segments=(segment,), budget_tokens=60, scorer="joint", alpha=0.5
    )
    assert gpu.select(request, CancelToken()).kept_tokens > 0
