"""The drafter: equal to the published formulas, and to itself however its context came about."""

from pathlib import Path

import numpy as np
import pytest

from engine import catalogue
from engine.cancel import CancelToken
from engine.config import EngineConfig, KvCacheType, SamplingConfig
from engine.engine import Engine
from engine.errors import DrafterMismatchError
from engine.gguf.reader import GgufFile
from engine.kv_blocks import BlockPool
from engine.loading import LoadedModel, load_model
from engine.request import FinishReason, GenerateRequest, PromptPart
from engine.session import ROOT, Session, StepCancelled
from engine.speculation.draft import BlockDraft
from tests.reference_model import ReferenceModel
from tests.tiny_drafter import TinyDrafter
from tests.tiny_gguf import tiny_vocabulary, write_tiny_gguf

N_LAYERS = 4


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("target") / "tiny.gguf"
    return write_tiny_gguf(path, "qwen2", "F32", n_layers=N_LAYERS)


class Loaded:
    """A target with a drafter, and the sessions' pool."""

    def __init__(
        self,
        target: Path,
        drafter: Path,
        is_exact: bool = False,
        kv_type: KvCacheType = "f16",
    ) -> None:
        config = EngineConfig(
            model=str(target),
            n_threads=2,
            speculation="dflash",
            drafter=str(drafter),
            prefix_cache_bytes=2**20,
            is_exact=is_exact,
            kv_type=kv_type,
        )
        with GgufFile(target) as file:
            self.loaded: LoadedModel = load_model(file, config)
        self.pool = BlockPool(self.loaded.n_blocks)

    def session(self) -> Session:
        loaded = self.loaded
        return Session(loaded.model, loaded.kv, self.pool, loaded.n_ctx)

    def propose(self, session: Session, token: int = 5, n_rows: int = 8) -> BlockDraft:
        assert self.loaded.drafter is not None
        return self.loaded.drafter.begin(session, token, n_rows)()


def random_tokens(n: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 300, n).tolist()


def assert_same(a: BlockDraft, b: BlockDraft) -> None:
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.log_probs, b.log_probs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"vocabulary": tuple(range(3, 290, 7))},
        {"window": 11, "sliding": (True, False)},
        {"window": 40, "sliding": (True, True), "taps": (1,), "n_layer": 2},
        {"vocabulary": (250, 7, 3, 31, 199, 8, 77, 12, 40), "has_head": True},
        {"has_head": True, "n_layer": 1, "taps": (0, 1, 2)},
    ],
)
@pytest.mark.parametrize("n_rows", [2, 5, 8])
def test_drafts_equal_the_formulas_in_float64(
    target: Path, tmp_path: Path, options: dict, n_rows: int
) -> None:
    drafter = TinyDrafter(**options)
    tiny = Loaded(target, drafter.write_llama_cpp(tmp_path / "d.gguf"), is_exact=True)
    tokens = random_tokens(45)
    session = tiny.session()
    session.append(tokens[:-1])
    found = tiny.propose(session, tokens[-1], n_rows)
    expected = drafter.log_probs(ReferenceModel(target), tokens, n_rows)
    best = np.argsort(-expected, axis=1)[:, : found.ids.shape[1]]
    ids = best if drafter.vocabulary is None else np.array(drafter.vocabulary)[best]
    np.testing.assert_allclose(
        found.log_probs, np.take_along_axis(expected, best, axis=1), atol=3e-3
    )
    assert (found.ids == ids).mean() > 0.95  # neighbours in rank may differ by less than rounding


@pytest.fixture(scope="module")
def tiny(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path = tmp_path_factory.mktemp("drafter") / "d.gguf"
    return Loaded(target, TinyDrafter().write_llama_cpp(path, "Q8_0"))


def test_drafts_do_not_depend_on_how_the_context_came_about(tiny: Loaded) -> None:
    tokens = random_tokens(70, seed=1)
    whole = tiny.session()
    whole.append(tokens)
    expected = tiny.propose(whole)
    snapshot = whole.snapshot()

    in_steps = tiny.session()
    for token in tokens:
        in_steps.append([token])
    assert_same(tiny.propose(in_steps), expected)

    through_trees = tiny.session()
    through_trees.append(tokens[:50])
    wrong, right = random_tokens(1, seed=9)[0], tokens[50:53]
    through_trees.verify([wrong, right[0], right[1], wrong, right[2]], [ROOT, ROOT, 1, 1, 2])
    through_trees.accept([1, 2, 4])
    tiny.propose(through_trees)  # leaves nothing behind
    through_trees.append(tokens[53:])
    assert_same(tiny.propose(through_trees), expected)

    resumed = tiny.session()
    resumed.resume(tokens[:40], snapshot.table)
    resumed.append(tokens[40:])
    assert_same(tiny.propose(resumed), expected)


@pytest.mark.parametrize("quant", ["Q4_0", "Q4_K", "Q5_0", "Q6_K", "Q8_0", "F16"])
@pytest.mark.parametrize("tied_head", [False, True])
def test_rows_of_any_weight_type_are_gathered_from_the_target(
    tmp_path: Path, quant: str, tied_head: bool
) -> None:
    target = write_tiny_gguf(
        tmp_path / "m.gguf", "qwen2", quant, n_layers=N_LAYERS, n_embd=256, tied_head=tied_head
    )
    tokens = random_tokens(20, seed=2)
    drafts: list[BlockDraft] = []
    for vocabulary in (None, tuple(range(len(tiny_vocabulary().tokens)))):
        drafter = TinyDrafter(n_embd=256, vocabulary=vocabulary)
        loaded = Loaded(target, drafter.write_llama_cpp(tmp_path / "d.gguf", "Q8_0"))
        session = loaded.session()
        session.append(tokens)
        drafts.append(loaded.propose(session))
    assert_same(*drafts)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_every_layout_drafts_the_same(target: Path, tmp_path: Path, kv_type: KvCacheType) -> None:
    drafter = TinyDrafter(window=20, sliding=(True, False), head_dim=32)
    for name, value in drafter.tensors.items():  # numbers that bfloat16 holds exactly
        drafter.tensors[name] = (value.view(np.uint32) & 0xFFFF0000).view(np.float32)
    files = [
        drafter.write_llama_cpp(tmp_path / "a.gguf", "Q8_0"),
        drafter.write_lucebox(tmp_path / "b.gguf", "Q8_0"),
        drafter.write_safetensors(tmp_path / "c", "BF16"),
    ]
    drafts: list[BlockDraft] = []
    for file in files:
        loaded = Loaded(target, file, kv_type=kv_type)
        session = loaded.session()
        session.append(random_tokens(50, seed=6))
        drafts.append(loaded.propose(session))
    assert_same(drafts[0], drafts[1])
    assert_same(drafts[0], drafts[2])


def test_a_target_with_a_drafter_computes_what_it_computes_alone(
    tiny: Loaded, target: Path
) -> None:
    with GgufFile(target) as file:
        alone = load_model(file, EngineConfig(model=str(target), speculation="off"))
    assert alone.drafter is None
    session = Session(alone.model, alone.kv, BlockPool(alone.n_blocks), alone.n_ctx)
    tokens = random_tokens(40, seed=3)
    beside = tiny.session()
    np.testing.assert_array_equal(session.append(tokens).logits, beside.append(tokens).logits)


def test_a_cancelled_block_leaves_the_session_as_it_was(tiny: Loaded) -> None:
    session = tiny.session()
    session.append(random_tokens(33, seed=4))
    expected = tiny.propose(session)
    assert tiny.loaded.drafter is not None
    tiny.loaded.drafter.set_cancelled(True)
    with pytest.raises(StepCancelled):
        tiny.propose(session)
    tiny.loaded.drafter.set_cancelled(False)
    assert_same(tiny.propose(session), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_embd": 64}, "the drafter is 64 wide, the target 128"),
        ({"taps": (0, N_LAYERS - 1)}, "taps layer 3, expected at most 2 of the target's 4 layers"),
        ({"mask_token": 999_999}, "token 999999 and mask 999999, the target has"),
        ({"vocabulary": (0, 999_999)}, "token 999999 and mask 9, the target has"),
        ({"n_vocab": 152_064}, "the drafter is for 152064 tokens, the target has"),
    ],
)
def test_a_drafter_of_another_target_is_refused(
    target: Path, tmp_path: Path, options: dict, message: str
) -> None:
    path = TinyDrafter(**options).write_llama_cpp(tmp_path / "d.gguf")
    with pytest.raises(DrafterMismatchError, match=message):
        Loaded(target, path)


def test_a_model_of_the_known_shape_gets_its_drafter_by_itself(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = TinyDrafter().write_llama_cpp(tmp_path / "d.gguf")
    n_vocab = len(tiny_vocabulary().tokens)
    known = {catalogue.ModelShape("qwen2", N_LAYERS, 128, 256, n_vocab): shipped}
    monkeypatch.setattr(catalogue, "drafter_of", known.get)
    for architecture, mode, expected in (
        ("qwen2", "auto", shipped),
        ("qwen2", "lookup", None),
        ("qwen2", "off", None),
        ("llama", "auto", None),
    ):
        path = write_tiny_gguf(tmp_path / "m.gguf", architecture, "F32", n_layers=N_LAYERS)
        with GgufFile(path) as file:
            loaded = load_model(file, EngineConfig(model=str(path), speculation=mode))
        assert (loaded.drafter and loaded.drafter.path) == expected


def test_another_rope_theta_is_told(target: Path, tmp_path: Path) -> None:
    path = TinyDrafter(rope_theta=1e7).write_llama_cpp(tmp_path / "d.gguf")
    (notice,) = Loaded(target, path).loaded.notices
    assert "rope theta is 1e+07, the target's 10000" in notice


def test_the_drafter_counts_in_the_memory_plan(tiny: Loaded, target: Path) -> None:
    with GgufFile(target) as file:
        alone = load_model(
            file, EngineConfig(model=str(target), speculation="off", prefix_cache_bytes=2**20)
        )
    assert tiny.loaded.memory_bytes > alone.memory_bytes
    assert tiny.loaded.block_bytes > alone.block_bytes


def test_text_drafted_by_dflash_is_the_text_of_plain_decoding(target: Path, tmp_path: Path) -> None:
    drafter = TinyDrafter(vocabulary=tuple(range(256)))
    path = drafter.write_llama_cpp(tmp_path / "d.gguf", "Q8_0")
    prompt = (PromptPart("def add(a, b):\n    return"),)
    texts: list[tuple[list[int], str]] = []
    for speculation, budget in (("off", None), ("dflash", None), ("dflash", 20), ("auto", 5)):
        config = EngineConfig(
            model=str(target),
            n_threads=2,
            speculation=speculation,
            drafter=str(path),
            tree_budget=budget,
        )
        engine = Engine.load(config)
        for sampling in (SamplingConfig(), SamplingConfig(temperature=0.8, seed=3)):
            request = GenerateRequest(prompt=prompt, max_tokens=40, sampling=sampling)
            result = engine.generate(request, CancelToken())
            texts.append((result.tokens, result.text))
        engine.close()
    assert texts[0::2] == [texts[0]] * 4
    assert texts[1::2] == [texts[1]] * 4


def test_a_cancelled_request_ends_whichever_model_is_at_work(target: Path, tmp_path: Path) -> None:
    path = TinyDrafter().write_llama_cpp(tmp_path / "d.gguf", "Q8_0")
    config = EngineConfig(
        model=str(target), n_threads=2, speculation="dflash", drafter=str(path), tree_budget=7
    )
    engine = Engine.load(config)
    request = GenerateRequest(prompt=(PromptPart("x = "),), max_tokens=400)
    cancel = CancelToken()
    n_pieces = 0

    def on_text(_: str) -> bool:
        nonlocal n_pieces
        n_pieces += 1
        if n_pieces == 3:
            cancel.cancel()
        return True

    assert engine.generate(request, cancel, on_text).finish_reason == FinishReason.CANCELLED
    again = engine.generate(request, CancelToken())
    assert len(again.tokens) == 400 or again.finish_reason == FinishReason.STOP
