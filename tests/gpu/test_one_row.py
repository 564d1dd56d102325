"""What a step of one row is made of: no row is selected, and nothing is normalized twice."""

import numpy as np

from engine.backends.gpu.fusing import Linears, fuse
from engine.backends.gpu.one_row import of_one_row
from engine.ops import Activation, Linear, Op, RmsNorm, Rope, Rows, SelectRows, Weight
from engine.program import Program

WIDTH, DIMS = 64, 32
FREQUENCIES = tuple(1.0 / 10 ** np.arange(DIMS // 2))


def weight(name: str, n_out: int = WIDTH) -> Weight:
    return Weight(name, n_out, WIDTH, 8 if n_out > 1 else 0)


def last_layer() -> Program:
    """Attention whose queries are of the selected rows, and a head."""
    names = ("embedding", "norm", "q", "k", "v", "o", "head")
    named = {name: weight(name, 1 if name == "norm" else WIDTH) for name in names}
    p = Program("test", named)
    x = p.embed(named["embedding"])
    normed = p.rms_norm(x, named["norm"], 1e-6)
    k, v = (p.linear(normed, named[name]) for name in "kv")
    x = p.select_rows(x)
    q = p.linear(p.rms_norm(x, named["norm"], 1e-6), named["q"])
    q, k = (p.rope(t, FREQUENCIES, DIMS, is_neox=True) for t in (q, k))
    kv = p.kv_layer(WIDTH // DIMS, DIMS)
    p.kv_write(kv, k, v)
    x = p.linear(p.attention(q, kv, WIDTH // DIMS, 1.0), named["o"], residual=x)
    p.output(p.linear(x, named["head"]))
    return p


def test_all_rows_are_the_steps() -> None:
    program = last_layer()
    ops, result = of_one_row(program.ops, program.result)
    assert any(isinstance(op, SelectRows) for op in program.ops)
    assert not any(isinstance(op, SelectRows) for op in ops)
    assert result.rows is Rows.STEP
    assert result.width == program.result.width
    added = next(op for op in ops if isinstance(op, Linear) and op.residual is not None)
    assert added.residual is ops[0].out  # type: ignore[attr-defined]


def test_queries_keys_and_values_are_made_together() -> None:
    def parts(ops: list[Op], result: Activation) -> list[int]:
        return [len(op.parts) for op in fuse(ops, result) if isinstance(op, Linears)]

    program = last_layer()
    assert parts(program.ops, program.result) == [2, 1, 1, 1]
    assert parts(*of_one_row(program.ops, program.result)) == [3, 1, 1]


def test_what_is_turned_in_place_is_normalized_anew() -> None:
    x, first, second, third = (Activation(WIDTH) for _ in range(4))
    norm = weight("norm", 1)
    ops = [
        RmsNorm(first, x, norm, 1e-6),
        RmsNorm(second, x, norm, 1e-6),
        Rope(x, FREQUENCIES, DIMS, is_neox=True),
        RmsNorm(third, x, norm, 1e-6),
    ]
    found, result = of_one_row(ops, third)
    assert [type(op) for op in found] == [RmsNorm, Rope, RmsNorm]
    assert result is third


def test_other_weights_and_other_terms_are_other_norms() -> None:
    x, outs = Activation(WIDTH), [Activation(WIDTH) for _ in range(3)]
    norms = [("a", 1e-6), ("b", 1e-6), ("a", 1e-5)]
    ops = [
        RmsNorm(out, x, weight(name, 1), eps) for out, (name, eps) in zip(outs, norms, strict=True)
    ]
    assert len(of_one_row(ops, outs[0])[0]) == 3
