"""A Program's ops for steps of a single row: the selected rows are the step's there, so that the
last layer has no fewer to compute than the others, and is launched as they are."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, cast

from engine.ops import Activation, Op, RmsNorm, Rope, Rows, SelectRows


def of_one_row(ops: Sequence[Op], result: Activation) -> tuple[list[Op], Activation]:
    """The same numbers without SelectRows, and where the result is; what would be normalized twice
    is so once."""
    found: list[Op] = []
    instead: dict[Activation, Activation] = {}
    norms: dict[tuple[Activation, str, float], Activation] = {}
    for op in ops:
        if isinstance(op, SelectRows):
            instead[op.out] = _of_step(op.x, instead)
            continue
        done = _replaced(op, instead)
        if isinstance(op, RmsNorm) and isinstance(done, RmsNorm):
            key = (done.x, done.weight.name, done.eps)
            if key in norms:
                instead[op.out] = norms[key]
                continue
            norms[key] = done.out
        elif isinstance(done, Rope):  # changes x in place
            norms = {k: out for k, out in norms.items() if done.x not in (k[0], out)}
        found.append(done)
    return found, _of_step(result, instead)


def _of_step(x: Activation, instead: dict[Activation, Activation]) -> Activation:
    if x.rows is Rows.STEP:
        return instead.get(x, x)
    return instead.setdefault(x, Activation(x.width))


def _replaced(op: Op, instead: dict[Activation, Activation]) -> Op:
    changed: dict[str, Any] = {}
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, Activation):
            changed[field.name] = _of_step(value, instead)
        elif isinstance(value, tuple):
            parts = cast("tuple[object, ...]", value)
            changed[field.name] = tuple(
                _of_step(part, instead) if isinstance(part, Activation) else part for part in parts
            )
    return replace(op, **changed)
