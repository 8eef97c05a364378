"""Bijections: the way back, the change of volume against autograd's Jacobian, conditions, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genfam.networks.base import count_parameters, fit_width
from genfam.networks.bijections import Bijection, InvertibleNetwork
from genfam.networks.embeddings import Fourier
from genfam.networks.multi_scale import MultiScale
from genfam.networks.spline_couplings import SplineCouplings

CASES: list[tuple[InvertibleNetwork, tuple[int, ...]]] = [
    (SplineCouplings(), (1,)),
    (SplineCouplings(features=Fourier(4, 1.0)), (2,)),
    (SplineCouplings(pairs=1, bins=4), (1, 3, 3)),
    (MultiScale(), (1, 8, 8)),
    (MultiScale(patch=1, scales=2, steps=2, hidden=6), (3, 4, 4)),
    (MultiScale(patch=2, scales=3, steps=2, hidden=6), (1, 12, 12)),  # 6 × 6 patches are halved once
    (MultiScale(patch=4, scales=2, steps=3), (2, 4, 8)),
]


def named(value: object) -> str:
    return type(value).__name__ if isinstance(value, InvertibleNetwork) else str(value)


def made(network: InvertibleNetwork, shape: tuple[int, ...], classes: int) -> Bijection:
    """In float64, away from the identity that it begins as."""
    torch.manual_seed(0)
    bijection = network.bijection(shape, 8, classes).double()
    with torch.no_grad():
        for parameter in bijection.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return bijection.eval()


@torch.no_grad()
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(("network", "shape"), CASES, ids=named)
def test_there_and_back_again(network: InvertibleNetwork, shape: tuple[int, ...], classes: int) -> None:
    bijection = made(network, shape, classes)
    values = torch.arange(20) % 3 if classes else None
    for spread in (1.0, 5.0):  # within the splines' bound, and beyond
        x = spread * torch.randn(20, *shape, dtype=torch.float64)
        z, log_volume = bijection(x, values)
        assert z.shape == x.shape and log_volume.shape == (20,) and log_volume.dtype == torch.float64
        assert float((z - x).abs().max()) > 0.01
        assert torch.allclose(bijection.inverse(z, values), x, atol=1e-9)
        assert torch.allclose(bijection(bijection.inverse(x, values), values)[0], x, atol=1e-9)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(("network", "shape"), CASES, ids=named)
def test_the_change_of_volume_is_the_jacobians(
    network: InvertibleNetwork, shape: tuple[int, ...], classes: int
) -> None:
    bijection = made(network, shape, classes)
    x = torch.randn(3, *shape, dtype=torch.float64)
    values = torch.tensor([2, 0, 1]) if classes else None
    log_volume = bijection(x, values)[1]
    for row in range(3):
        own = None if values is None else values[row : row + 1]

        def one(y: Tensor, own: Tensor | None = own) -> Tensor:
            return bijection(y.view(1, *shape), own)[0].flatten()

        jacobian = torch.autograd.functional.jacobian(one, x[row].flatten())
        assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(log_volume[row].detach()), abs=1e-8)


@torch.no_grad()
@pytest.mark.parametrize(("network", "shape"), CASES, ids=named)
def test_it_begins_without_a_change_of_volume_and_listens_to_a_condition(
    network: InvertibleNetwork, shape: tuple[int, ...]
) -> None:
    x = torch.randn(1, *shape).expand(3, *shape)
    assert float(network.bijection(shape, 8)(x)[1].abs().max()) < 1e-5
    assert torch.allclose(network.bijection(shape, 8)(x)[0].flatten(1).sort()[0], x.flatten(1).sort()[0], atol=1e-5)
    bijection, values = made(network, shape, 3).float(), torch.arange(3)
    z = bijection(x, values)[0]
    assert bool((torch.pdist(z.flatten(1)) > 1e-3).all())
    assert torch.allclose(bijection(x, values.flip(0))[0].flip(0), z, atol=1e-5)


@pytest.mark.parametrize(("network", "shape"), CASES, ids=named)
def test_a_width_meets_a_budget_without_allocating(network: InvertibleNetwork, shape: tuple[int, ...]) -> None:
    seen = set()

    def build(width: int) -> nn.Module:
        module = network.bijection(shape, width, 3)
        seen.update(p.device.type for p in [*module.parameters(), *module.buffers()])
        return module

    width = fit_width(build, 60_000)
    assert seen == {"meta"}
    assert abs(count_parameters(network.bijection(shape, width, 3)) - 60_000) <= 6000


def test_what_cannot_be_is_refused() -> None:
    for shape in ((2,), (1, 2, 2), (3, 1, 8, 8)):
        with pytest.raises(ValueError, match="expected images of at least 4 × 4 pixels, in patches"):
            MultiScale().bijection(shape, 8)
    with pytest.raises(ValueError, match="in patches if they have one channel"):
        MultiScale(patch=1).bijection((1, 8, 8), 8)
    with pytest.raises(ValueError, match="divisor of 28 and 28, got 3"):
        MultiScale(patch=3).bijection((1, 28, 28), 8)
