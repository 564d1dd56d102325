"""Steps that are begun before they are asked for: when, and that nobody notices."""

import weakref
from pathlib import Path

import numpy as np
import pytest

from engine.backends.gpu.backend import GpuBackend
from engine.backends.gpu.foresight import Asked, Foresight
from engine.backends.gpu.model import GpuModel
from engine.config import EngineConfig
from engine.engine import Engine
from engine.ops import KvLayer
from engine.program import Program
from tests.native.program_runner import f32_weight
from tests.tiny_drafter import TinyDrafter
from tests.tiny_gguf import write_tiny_gguf

KV = object()


def asked(at: int, token: int, **changes: object) -> Asked:
    """A step of one row after `at` others, where nothing else is said."""
    arguments: dict[str, object] = {
        "kv": KV,
        "tokens": np.array([token], np.int32),
        "parents": np.array([-1], np.int32),
        "blocks": np.arange(4, dtype=np.int32),
        "n_past": at,
        "out_rows": np.array([0], np.int32),
    }
    return Asked(**(arguments | changes))  # type: ignore[arg-type]


def decode(foresight: Foresight, first: int, n: int) -> list[tuple[bool, bool]]:
    """Steps of one text: whether each was there already, and whether another was begun."""
    found: list[tuple[bool, bool]] = []
    for n_past in range(first, first + n):
        is_met = foresight.is_met(asked(n_past, 100 + n_past))
        found.append((is_met, foresight.begins()))
        foresight.choose(101 + n_past)
    return found


def test_a_text_that_goes_on_is_foreseen_after_a_few_steps() -> None:
    assert decode(Foresight(), 1, 5) == [
        (False, False),
        (False, False),
        (False, True),
        (True, True),
        (True, True),
    ]


def test_no_step_is_begun_where_there_is_no_block_for_it() -> None:
    found = decode(Foresight(), 122, 6)  # four blocks have 128 positions
    assert [begun for _, begun in found] == [124 <= n < 127 for n in range(122, 128)]
    assert all(begun for _, begun in decode(Foresight(), 26, 10)[2:])


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": np.array([7], np.int32)},
        {"kv": object()},
        {"n_past": 9},
        {"blocks": np.array([9, 1], np.int32)},
        {"out_rows": np.array([], np.int32)},
        {"tokens": np.array([104, 1], np.int32)},
    ],
)
def test_what_is_asked_must_be_what_was_begun(changes: dict[str, object]) -> None:
    foresight = Foresight()
    assert decode(foresight, 1, 3)[-1] == (False, True)
    assert not foresight.is_met(asked(4, 104, **changes))
    assert not foresight.begins()


def test_who_was_written_over_is_wrong() -> None:
    foresight = Foresight()
    assert decode(foresight, 1, 3)[-1] == (False, True)
    assert not foresight.is_met(asked(4, 104), is_untouched=False)
    foresight.choose(105)
    assert [begun for _, begun in decode(foresight, 5, 12)] == [n >= 12 for n in range(5, 17)]


def test_who_is_wrong_waits_four_times_as_long() -> None:
    foresight = Foresight()
    decode(foresight, 1, 3)
    assert not foresight.is_met(asked(4, 7))  # a sampled token
    foresight.choose(105)
    begun = [begun for _, begun in decode(foresight, 5, 12)]
    assert begun == [n_past >= 12 for n_past in range(5, 17)]


def test_more_than_the_chosen_token_has_the_step_done_again() -> None:
    foresight = Foresight()
    assert foresight.give_up() is None
    decode(foresight, 1, 4)
    again = foresight.give_up()
    assert again is not None
    assert again.n_past == 4
    assert foresight.give_up() is None


def test_of_a_text_whose_every_step_is_asked_for_more_none_is_begun_early() -> None:
    foresight = Foresight()
    for n_past in range(1, 20):
        assert foresight.give_up() is None
        assert decode(foresight, n_past, 1) == [(False, False)]


@pytest.fixture(scope="module")
def engine(host_compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q5_0")
    return Engine.load(
        EngineConfig(model=str(path), backend="emulated", n_ctx=512, speculation="off")
    )


def text_of(engine: Engine, *, asks_for: str | None = None) -> tuple[list[int], list[np.ndarray]]:
    """Forty tokens after five, each the likeliest; of every thirteenth its `logits`, too, or the
    best of them."""
    session = engine.session()
    token, tokens, logits = session.append([3, 1, 4, 1, 5]).argmax[0], list[int](), []
    for i in range(40):
        tokens.append(token)
        step = session.append([token])
        token = step.argmax[0]
        if asks_for and i % 13 == 12:
            logits.append(step.logits.copy() if asks_for == "logits" else step.likeliest(40)[1])
    session.release()
    return tokens, logits


@pytest.mark.parametrize("asked_for", ["logits", "likeliest"])
def test_a_text_is_the_same_with_and_without(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, asked_for: str
) -> None:
    begun: list[int] = []
    go_on = GpuModel._go_on

    def counted(self: GpuModel, asked: Asked) -> object:
        begun.append(asked.n_past)
        return go_on(self, asked)

    monkeypatch.setattr(GpuModel, "_go_on", counted)
    monkeypatch.setattr(engine._model, "_foresight", Foresight())
    ahead, _ = text_of(engine)
    assert len(begun) > 30
    n_ahead = len(begun)
    interrupted, logits = text_of(engine, asks_for=asked_for)
    assert len(begun) > n_ahead, "nothing was begun to be interrupted"
    monkeypatch.setattr(Foresight, "begins", lambda self: False)
    plain, expected = text_of(engine, asks_for=asked_for)
    assert ahead == plain == interrupted
    np.testing.assert_array_equal(np.stack(logits), np.stack(expected))


def written_meanwhile(engine: Engine, *, drafts: bool) -> tuple[list[int], bytes]:
    """Twelve tokens, before the ninth of which a drafter used the blocks, or the first block's
    beginning was overwritten; and the positions' state at the end."""
    session = engine.session()
    token, tokens = session.append([3, 1, 4, 1, 5]).argmax[0], list[int]()
    for i in range(12):
        if i == 8 and drafts:
            assert engine._drafter is not None
            engine._drafter.begin(session, token, 8)()
        elif i == 8:
            block = int(session.table.ids[0])
            content = engine._kv.read_block(block)
            content[: len(content) // 2] = 0
            engine._kv.write_block(block, content)
        token = session.append([token]).argmax[0]
        tokens.append(token)
    session.append([0] * 15)  # the block is full: nothing in it is left from before
    state = session.state().tobytes()
    session.release()
    return tokens, state


@pytest.mark.parametrize("drafts", [False, True])
def test_what_is_written_meanwhile_is_not_overlooked(
    host_compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drafts: bool
) -> None:
    drafter = TinyDrafter(head_dim=32).write_llama_cpp(tmp_path / "drafter.gguf")
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q5_0", n_layers=4)
    engine = Engine.load(
        EngineConfig(
            model=str(model),
            backend="emulated",
            n_ctx=256,
            speculation="dflash",
            drafter=str(drafter),
        )
    )
    found = written_meanwhile(engine, drafts=drafts)
    monkeypatch.setattr(Foresight, "begins", lambda self: False)
    assert found == written_meanwhile(engine, drafts=drafts)


def test_the_cache_of_a_model_that_chooses_nothing_is_not_kept(emulated: GpuBackend) -> None:
    weight, data = f32_weight("x", np.ones((4, 32), np.float32))
    program = Program("test", {"x": weight})
    program.collect(program.embed(weight))
    model = emulated.model(program, {"x": data}, max_rows=4, max_out_rows=4)
    kv = emulated.kv_cache([KvLayer(0, 1, 32)], 1)
    rows = np.arange(2, dtype=np.int32)
    assert model.step(kv, rows, rows - 1, np.zeros(1, np.int32), 0, rows)
    np.testing.assert_array_equal(model.collected(2), np.ones((2, 32)))
    is_kept = weakref.ref(kv)
    del kv
    assert is_kept() is None
