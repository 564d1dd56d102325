"""The chunked loss is the plain one."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from engine.train.loss import IGNORED, HeadLoss, position_weights  # noqa: E402


def test_value_and_gradient_are_those_of_cross_entropy() -> None:
    torch.manual_seed(0)
    head = torch.randn(50, 16)
    hidden = torch.randn(4000, 16, requires_grad=True)  # more rows than one chunk
    labels = torch.randint(0, 50, (4000,))
    labels[::7] = IGNORED
    weights = torch.rand(4000)

    loss = HeadLoss(head)(hidden, labels, weights)
    loss.backward()

    own = hidden.detach().clone().requires_grad_()
    each = F.cross_entropy(own @ head.T, labels, ignore_index=IGNORED, reduction="none")
    expected = (each * weights).sum() / weights[labels != IGNORED].sum()
    expected.backward()
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert hidden.grad is not None and own.grad is not None
    assert torch.allclose(hidden.grad, own.grad, atol=1e-8)


def test_early_places_weigh_most_and_the_anchor_nothing() -> None:
    weights = position_weights(16, torch.device("cpu"))

    assert weights[0] == 0 and weights[1] == 1
    assert torch.allclose(weights[8], torch.exp(torch.tensor(-1.0)))
