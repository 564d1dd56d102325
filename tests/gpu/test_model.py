"""Whole models on the emulated GPU: what the processor computes, plain and speculative."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from engine import weights
from engine.backends.gpu.backend import GpuBackend
from engine.backends.gpu.device_weights import Matrix
from engine.backends.gpu.emulated import EmulatedDriver
from engine.backends.gpu.model import GpuModel, graph_bytes
from engine.backends.gpu.source import kernel_source
from engine.cancel import CancelToken
from engine.config import EngineConfig, KvCacheType, SamplingConfig
from engine.engine import Engine
from engine.errors import CompileError, NativeError, RequestError
from engine.gguf.reader import GgufFile
from engine.loading import build_program
from engine.ops import Attention, KvLayer, Rope
from engine.request import GenerateRequest, GenerateResult, PromptPart
from engine.session import ROOT, Session
from tests.native.test_attention import KV_TYPES
from tests.reference_model import ReferenceModel
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.usefixtures("host_compiler")

TEXT = "def add(a, b):\n    return a + b\n\ndef add(a, c):\n    return a + c\n\nadd(1, 2)\nadd("


# A model's types may differ, those of one layer's queries and values, too.
MIXED = {
    "attn_q.weight": "Q8_0",
    "attn_k.weight": "Q8_0",
    "ffn_gate.weight": "BF16",
    "ffn_up.weight": "BF16",
    "ffn_down.weight": "F32",
}


@pytest.fixture(
    scope="module",
    params=[("qwen2", "Q5_0", {}), ("llama", "Q6_K", {}), ("qwen2", "F16", MIXED)],
    ids=lambda param: "-".join(param[:2]),
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture, quant, quants = request.param
    path = tmp_path_factory.mktemp("model") / f"{architecture}-{quant}.gguf"
    return write_tiny_gguf(path, architecture, quant, quants=quants, tied_head=bool(quants))


@pytest.fixture(scope="module", params=KV_TYPES)
def kv_type(request: pytest.FixtureRequest) -> KvCacheType:
    return request.param


@pytest.fixture(scope="module")
def engine(model: Path, kv_type: KvCacheType) -> Engine:
    return load(model, "emulated", speculation="lookup", kv_type=kv_type)


def load(model: Path, backend: str, **options: object) -> Engine:
    return Engine.load(
        EngineConfig(model=str(model), n_threads=1, n_ctx=512, backend=backend, **options)  # type: ignore[arg-type]
    )


def generate(engine: Engine, **options: object) -> GenerateResult:
    request = GenerateRequest(prompt=(PromptPart(TEXT),), max_tokens=24, **options)  # type: ignore[arg-type]
    return engine.generate(request, CancelToken())


def tokens_of(n: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 300, n).tolist()


def chain(session: Session, tokens: list[int], size: int) -> np.ndarray:
    rows = [
        session.append(tokens[i : i + size], n_logits=len(tokens[i : i + size])).logits.copy()
        for i in range(0, len(tokens), size)
    ]
    return np.concatenate(rows)


def test_it_says_where_it_runs(engine: Engine) -> None:
    assert engine.info.backend.startswith("emulated")


def test_logits_are_those_of_float64(model: Path, engine: Engine) -> None:
    tokens = tokens_of(24)
    found, expected = engine.logits(tokens), ReferenceModel(model).logits(tokens)
    error = np.abs(found - expected).mean() / expected.std()
    assert error < 0.05  # activations are rounded to eight bits
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.8


def test_the_processor_agrees(model: Path, engine: Engine, kv_type: KvCacheType) -> None:
    tokens = tokens_of(40, seed=1)
    cpu = load(model, "cpu", speculation="off", kv_type=kv_type).logits(tokens)
    gpu = engine.logits(tokens)
    assert np.abs(gpu - cpu).mean() < 0.04 * cpu.std()
    assert (gpu.argmax(1) == cpu.argmax(1)).mean() >= 0.9


def test_texts_longer_than_planned_give_the_same_bits(
    model: Path, engine: Engine, kv_type: KvCacheType
) -> None:
    tokens = tokens_of(200, seed=5)
    short = load(model, "emulated", speculation="off", kv_type=kv_type)
    assert isinstance(short._model, GpuModel)
    assert isinstance(engine._model, GpuModel)
    assert engine._model._most_splits > 3
    short._model._most_splits = 1
    found = [chain(e.session(), tokens, 50)[150:] for e in (engine, short)]
    np.testing.assert_array_equal(*found)


def test_what_steps_work_in_is_planned_by_the_context(model: Path) -> None:
    with GgufFile(model) as file:
        tensors = weights.of_gguf(file, lambda _: True)
        program = build_program(file, tensors)
    heads = [op for op in program.ops if isinstance(op, Attention)]
    per_split = 4 * 64 * heads[0].n_head * (4 + heads[0].kv.head_dim)
    backend = GpuBackend(EmulatedDriver())
    graphs = graph_bytes(program)
    assert graphs > 0
    assert backend.scratch_bytes([program], 64) == per_split + graphs
    assert backend.scratch_bytes([program, program], 8192) == 128 * per_split + 2 * graphs
    with pytest.raises(RequestError, match="a context of 65537 tokens on a GPU"):
        backend.prepare(0, 65537)


def test_weights_are_planned_as_they_are_packed(model: Path) -> None:
    driver = EmulatedDriver()
    backend = GpuBackend(driver)
    with GgufFile(model) as file:
        tensors = weights.of_gguf(file, backend.is_native)
        program = build_program(file, tensors)
        loaded = {w.name: tensors.tensors[w.name].load() for w in program.weights_used()}
        made = backend.model(program, loaded, max_rows=8, max_out_rows=8)
    found = made._device._found
    n_bytes = sum(each.n_bytes for each in found.values() if isinstance(each, Matrix))
    turns = [op.inverse_frequencies for op in program.ops if isinstance(op, Rope)]
    vectors = {at for key, at in found.items() if isinstance(at, int) and key not in turns}
    n_bytes += sum(driver._memory[at].nbytes - 256 for at in vectors)  # and room to align them
    assert backend.weight_bytes([program]) == n_bytes


def test_every_split_and_every_tree_gives_the_same_bits(engine: Engine) -> None:
    tokens = tokens_of(40, seed=2)
    session = engine.session()
    plain = chain(session, tokens, 1)
    session.truncate(0)
    np.testing.assert_array_equal(chain(session, tokens, 33), plain)
    session.truncate(30)
    rng = np.random.default_rng(3)
    parents = [int(rng.integers(ROOT, row)) if row else ROOT for row in range(12)]
    tree = tokens_of(12, seed=4)
    found = session.verify(tree, parents).logits.copy()
    path = [11]
    while parents[path[0]] != ROOT:
        path.insert(0, parents[path[0]])
    session.accept(path)
    after = session.append([7]).logits.copy()
    session.truncate(30)
    straight = chain(session, [*(tree[row] for row in path), 7], 1)
    np.testing.assert_array_equal(found[path], straight[:-1])
    np.testing.assert_array_equal(after[0], straight[-1])
    session.release()


def test_speculative_text_is_that_of_plain_decoding(engine: Engine) -> None:
    drafted = generate(engine, speculation="lookup")
    plain = generate(engine, speculation="off")
    assert drafted.tokens == plain.tokens
    assert sum(drafted.speculation.accepted_lengths[1:]) > 0, "nothing was drafted and accepted"


@pytest.mark.parametrize("mode", ["off", "lookup"])
def test_sampled_text_comes_from_the_best_as_from_all_logits(
    engine: Engine, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = SamplingConfig(temperature=0.8, seed=3)
    with monkeypatch.context() as patch:
        patch.delattr(GpuModel, "logits")
        found = generate(engine, speculation=mode, sampling=sampling)
    monkeypatch.setattr("engine.sampling.MOST_CANDIDATES", 0)
    assert found.tokens == generate(engine, speculation="off", sampling=sampling).tokens


def test_a_prompt_kept_on_disk_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kv_type: KvCacheType
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path))
    plain: dict[str, object] = {"speculation": "off", "kv_type": kv_type}
    options = {**plain, "prefix_disk_bytes": 2**24}
    kept = GenerateRequest(prompt=(PromptPart(TEXT * 6),), max_tokens=1, keep=True)
    load(model, "emulated", **options).generate(kept, CancelToken())
    asked = GenerateRequest(prompt=(PromptPart(TEXT * 6 + "x = "),), max_tokens=4)
    again = load(model, "emulated", **options).generate(asked, CancelToken())
    fresh = load(model, "emulated", **plain).generate(asked, CancelToken())
    assert again.n_cached > 128 > fresh.n_cached
    assert again.tokens == fresh.tokens


def test_a_rounded_cache_takes_little_more_than_half_the_memory() -> None:
    backend, layers = GpuBackend(EmulatedDriver()), [KvLayer(0, 2, 64), KvLayer(1, 1, 128)]
    halves, rounded = (backend.block_bytes(layers, kv_type) for kv_type in KV_TYPES)
    assert (halves, rounded) == (2 * 2 * 32 * 256, 2 * 32 * (256 + 2 * 8))
    assert backend.kv_cache(layers, 3, "q8_0").read_block(2).nbytes == rounded


def test_memory_that_was_never_written_would_be_noticed() -> None:
    driver = EmulatedDriver()
    found = np.zeros(4, np.float32)
    driver.download(found, driver.allocate(16))
    assert np.isnan(found).all()


def test_a_kernel_whose_threads_wait_for_ever_is_an_error() -> None:
    driver = EmulatedDriver()
    source = kernel_source() + (
        "struct HangArgs { int n; };\n"
        "KERNEL(hang, 64, HangArgs) { if (thread_index() < a.n) warp_sync(); else block_sync(); }\n"
    )
    function = driver.load(driver.compile(source))("hang")
    with pytest.raises(NativeError, match="wait for others"):
        driver.launch(function, (1, 1, 1), 64, HangArgs(10))
    driver.launch(function, (1, 1, 1), 64, HangArgs(0))  # the next launch is not disturbed


def test_source_that_does_not_compile_says_why() -> None:
    with pytest.raises(CompileError, match="expected"):
        EmulatedDriver().compile("void broken( {")


class HangArgs(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int)]
