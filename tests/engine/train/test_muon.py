"""Updates are orthogonal, of AdamW's size, and computed together as if alone."""

import pytest

torch = pytest.importorskip("torch")

from engine.train.muon import Muon, orthogonalized  # noqa: E402


def test_singular_values_become_about_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 30, 50)

    values = torch.linalg.svdvals(orthogonalized(x))

    assert values.min() > 0.6 and values.max() < 1.3


@pytest.mark.parametrize("shape", [(24, 60), (60, 24)])
def test_a_step_is_as_large_as_adamws_and_downhill(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for _ in range(2)]
    gradients = [torch.randn(shape) for _ in range(2)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient

    Muon(parameters, lr=0.01).step()

    for parameter, gradient in zip(parameters, gradients, strict=True):
        size = parameter.detach().pow(2).mean().sqrt()
        assert 0.5 * 0.2 * 0.01 < size < 1.5 * 0.2 * 0.01
        assert (parameter * gradient).sum() < 0


def test_matrices_of_one_shape_do_not_mix() -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(8, 12), torch.randn(12, 8)]

    def updated(some: list[torch.Tensor]) -> list[torch.Tensor]:
        parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in some]
        for parameter, gradient in zip(parameters, some, strict=True):
            parameter.grad = gradient
        Muon(parameters, lr=0.1).step()
        return [parameter.detach() for parameter in parameters]

    together = updated(gradients)
    assert torch.allclose(together[0], updated(gradients[:1])[0], atol=1e-6)
    assert torch.allclose(together[1], updated(gradients[1:])[0], atol=1e-6)
