"""The plan refuses what does not fit before it touches memory, and stops when it is told to."""

import numpy as np
import pytest

from engine import _native
from engine.backends.cpu import CpuModel
from engine.errors import NativeError
from engine.program import Program
from tests.native.program_runner import F32, ProgramRunner, f32_weight


def small_plan() -> "_native.Plan":
    return _native.Plan(_native.ThreadPool(1), "", 4, 2, 4096)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_a_buffer_outside_the_arena_is_refused() -> None:
    with pytest.raises(NativeError, match="outside the arena of 4096"):
        small_plan().add_activation(offset=4032, n_cols=64, is_out=False)


@pytest.mark.parametrize("type_id", [-1, 4, 999])
def test_a_type_that_is_not_native_is_refused(type_id: int) -> None:
    with pytest.raises(NativeError, match="not a native weight type"):
        small_plan().add_weight(np.zeros(64, np.uint8), type_id, 1, 16)


def test_a_weight_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(NativeError, match="got 60 bytes, expected 64"):
        small_plan().add_weight(np.zeros(60, np.uint8), F32, 1, 16)


def test_a_linear_that_does_not_fit_names_both_shapes() -> None:
    plan = small_plan()
    x = plan.add_activation(0, 16, False)
    out = plan.add_activation(1024, 8, False)
    weight = plan.add_weight(np.zeros(4 * 8 * 12, np.uint8), F32, 8, 12)
    with pytest.raises(
        NativeError, match=r"x \(T, 16\) and out \(T, 8\) do not match weight \(8, 12\)"
    ):
        plan.linear(out, x, weight, -1, -1)


def test_an_unknown_buffer_is_refused() -> None:
    with pytest.raises(NativeError, match="no buffer of this plan"):
        small_plan().rms_norm(0, 1, 2, 1e-6)


@pytest.mark.parametrize(
    ("tokens", "positions", "parents", "out_rows", "message"),
    [
        ([0] * 129, [0] * 129, [-1] * 129, [0], "129 rows, expected 1..128"),
        ([], [], [], [], "0 rows"),
        ([9], [0], [-1], [0], "token 9 is not in 0..1"),
        ([-1], [0], [-1], [0], "token -1"),
        ([0, 1], [0, 1], [-1, 1], [0], "parent 1 of row 1 does not precede it"),
        ([0], [0], [-2], [0], "parent -2"),
        ([0], [-1], [-1], [0], "positions must not be negative"),
        ([0], [0], [-1], [1], "out row 1 is not a row of this step"),
        ([0, 1], [0], [-1, 0], [0], "differ in length"),
    ],
)
def test_a_step_with_bad_inputs_is_refused(tokens, positions, parents, out_rows, message) -> None:
    weight, data = f32_weight("w", np.eye(16, dtype=np.float32))
    x = np.ones((2, 16), np.float32)
    model = ProgramRunner(lambda p, a: p.linear(a, weight), x, {"w": (weight, data)}).model
    with pytest.raises(NativeError, match=message.replace(".", r"\.")):
        model._plan.step(
            None, ints(*tokens), ints(*positions), ints(*parents), ints(), 0, ints(*out_rows)
        )


def test_a_cancelled_step_says_so_and_the_next_one_runs() -> None:
    weight, data = f32_weight("w", np.eye(16, dtype=np.float32))
    runner = ProgramRunner(
        lambda p, a: p.linear(a, weight), np.ones((2, 16), np.float32), {"w": (weight, data)}
    )
    step = (ints(0), ints(0), ints(-1), ints(), 0, ints(0))
    runner.model.set_cancelled(True)
    assert not runner.model._plan.step(None, *step)
    runner.model.set_cancelled(False)
    assert runner.model._plan.step(None, *step)


def test_logits_that_are_not_finite_are_an_error() -> None:
    x = np.full((1, 16), np.nan, np.float32)
    weight, data = f32_weight("w", np.eye(16, dtype=np.float32))
    runner = ProgramRunner(lambda p, a: p.linear(a, weight), x, {"w": (weight, data)})
    runner.run()
    with pytest.raises(NativeError, match="not finite"):
        runner.model.argmax(1)


def test_two_models_step_in_turn_on_the_same_threads() -> None:
    x = np.random.default_rng(3).standard_normal((3, 16)).astype(np.float32)
    first = ProgramRunner(lambda p, a: p.silu_mul(a, a), x, n_threads=2)
    table = f32_weight("x", x)
    program = Program("test", {"x": table[0]})
    program.output(program.select_rows(program.embed(table[0])))
    second = CpuModel(
        program, {"x": table[1]}, n_threads=1, max_rows=4, max_out_rows=4, beside=first.model
    )
    rows = ints(0, 1, 2)
    expected = first.run()
    for _ in range(3):
        assert second._plan.step(None, rows, rows, ints(-1, 0, 1), ints(), 0, rows)
        np.testing.assert_array_equal(second.logits(3), x)
        np.testing.assert_array_equal(first.run(), expected)


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(NativeError, match="'avx9' is unknown"):
        _native.isa_name("avx9")
