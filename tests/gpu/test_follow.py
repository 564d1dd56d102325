"""Drafting below what a step decides, before the host knows it: the same drafts, the same state."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.cancel import CancelToken
from engine.config import EngineConfig, KvCacheType, SamplingConfig
from engine.decode import walk
from engine.engine import Engine
from engine.request import GenerateRequest, GenerateResult, PromptPart
from engine.session import ROOT, Session
from engine.speculation.dflash import DFlashDrafter
from engine.speculation.draft import BlockDraft, DraftTree
from tests.native.test_attention import KV_TYPES
from tests.tiny_drafter import TinyDrafter
from tests.tiny_gguf import write_tiny_gguf

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6] * 4  # the tree lies across two KV blocks
TEXT = "def add(a, b):\n    return a + b\n\ndef add(a, c):\n"
N_ROWS = 8


@pytest.fixture(scope="module", params=KV_TYPES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    name = request.config.getoption("--gpu")
    if name == "emulated":
        request.getfixturevalue("host_compiler")
    return load(tmp_path_factory.mktemp("model"), name, request.param)


def load(folder: Path, backend: str, kv_type: KvCacheType) -> Engine:
    drafter = TinyDrafter(head_dim=32).write_llama_cpp(folder / "drafter.gguf")
    model = write_tiny_gguf(folder / "tiny.gguf", "qwen2", "Q5_0", n_layers=4)
    config = EngineConfig(
        model=str(model),
        backend=backend,
        n_ctx=256,
        n_threads=1,
        speculation="dflash",
        drafter=str(drafter),
        kv_type=kv_type,
    )
    return Engine.load(config)


def drafter_of(engine: Engine) -> DFlashDrafter:
    drafter = engine._drafter
    assert drafter is not None
    return drafter


def greedy(engine: Engine, n: int) -> list[int]:
    """The tokens after PROMPT."""
    session = engine.session()
    tokens = [session.append(PROMPT).argmax[0]]
    while len(tokens) < n:
        tokens.append(session.append(tokens[-1:]).argmax[0])
    session.release()
    return tokens


def tree_of(tokens: list[int], n_right: int, seed: int) -> DraftTree:
    """A path of `n_right` of the tokens among drafts that are wrong."""
    rng = np.random.default_rng(seed)
    right = sorted(rng.choice(np.arange(1, 16), n_right, replace=False).tolist())
    rows, parents, at = [tokens[0]], [ROOT], 0
    for row in range(1, 16):
        if row in right:
            rows.append(tokens[1 + right.index(row)])
            parents.append(at)
            at = row
        else:
            # Nothing else may be right by accident.
            rows.append(next(t for t in rng.integers(300, size=50).tolist() if t not in tokens))
            parents.append(int(rng.integers(row)))
    n = len(rows)
    return DraftTree(tuple(rows), tuple(parents), (0.0,) * n, ((),) * n)


def step(
    engine: Engine, session: Session, tree: DraftTree, *, is_below: bool
) -> tuple[list[int], BlockDraft]:
    """Verifies and accepts; the path and the block drafted after it."""
    drafter, read = drafter_of(engine), list[Callable[[], BlockDraft]]()

    def draft() -> None:
        begun = drafter.begin_below(session, N_ROWS)
        assert begun is not None
        read.append(begun)

    verified = session.verify(
        tree.tokens, tree.parents, meanwhile=draft if is_below else lambda: None
    )
    path, _ = walk(tree, verified, lambda v, row: v.argmax[row])
    session.accept(path)
    last = verified.argmax[path[-1]]
    if not is_below:
        read.append(drafter.begin(session, last, N_ROWS))
    return path, read[0]()


Numbers = list[np.ndarray]


@pytest.mark.parametrize(("n_right", "seed"), [(0, 0), (1, 1), (3, 2), (6, 3)])
def test_drafts_and_state_are_those_of_who_waits(engine: Engine, n_right: int, seed: int) -> None:
    tokens = greedy(engine, 20)
    tree = tree_of(tokens, n_right, seed)

    def run(*, is_below: bool) -> tuple[list[int], Numbers]:
        session = engine.session()
        session.append(PROMPT)
        path, first = step(engine, session, tree, is_below=is_below)
        # The state that the drafter reads was moved as well: another block shows it.
        single = DraftTree.of_root(tokens[len(path)])
        _, second = step(engine, session, single, is_below=is_below)
        logits = session.append([7, 8, 9], n_logits=3).logits.copy()
        session.release()
        return path, [first.ids, first.log_probs, second.ids, second.log_probs, logits]

    (path, waited), (path_below, below) = run(is_below=False), run(is_below=True)
    assert path == path_below
    assert len(path) == 1 + n_right
    for of_waited, of_below in zip(waited, below, strict=True):
        np.testing.assert_array_equal(of_waited, of_below)


def test_a_full_context_or_pool_is_left_alone(engine: Engine) -> None:
    session = engine.session()
    session.append([1] * (engine.info.n_ctx - 20))
    begun: list[object] = []
    session.verify(
        [5] * 16,
        range(ROOT, 15),
        meanwhile=lambda: begun.append(drafter_of(engine).begin_below(session, N_ROWS)),
    )
    assert begun == [None]
    session.accept([0])
    assert len(session.tokens) == engine.info.n_ctx - 19
    session.release()


def generate(engine: Engine, text: str = TEXT, **options: object) -> GenerateResult:
    request = GenerateRequest(prompt=(PromptPart(text, heal=True),), **options)  # type: ignore[arg-type]
    return engine.generate(request, CancelToken())


@pytest.mark.parametrize("mode", ["auto", "dflash"])
@pytest.mark.parametrize("is_sampled", [False, True])
def test_texts_are_those_of_plain_decoding(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, mode: str, is_sampled: bool
) -> None:
    n_below = 0
    begin_below = DFlashDrafter.begin_below

    def counted(self: DFlashDrafter, session: Session, n_rows: int) -> object:
        nonlocal n_below
        n_below += 1
        return begin_below(self, session, n_rows)

    monkeypatch.setattr(DFlashDrafter, "begin_below", counted)
    monkeypatch.setattr(engine._speculation, "_tree_budget", 9)  # a block in every step
    sampling = SamplingConfig(temperature=0.8, seed=3) if is_sampled else SamplingConfig()
    for stop in ((), ("a",)):
        options = {"sampling": sampling, "stop": stop, "max_tokens": 12}
        plain = generate(engine, speculation="off", **options)
        found = generate(engine, speculation=mode, **options)
        assert (found.text, found.tokens) == (plain.text, plain.tokens)
        assert found.finish_reason == plain.finish_reason
    assert bool(n_below) != is_sampled
