"""Densities of flows: divergences, and their integral."""

import math

import pytest
import torch

from genfam.families.flow_density import TOLERANCE, exact_divergence, hutchinson_divergence, log_density
from genfam.seeds import derived_generator


@pytest.mark.parametrize("exact_up_to", [8, 0])
def test_a_linear_flow_has_the_density_of_its_gaussian(exact_up_to, monkeypatch):
    """dx/dt = a x carries N(0, 1) to N(0, e^{2 a t}).

    With Hutchinson too: the Jacobian is a multiple of the identity, so one Rademacher probe is exact.
    """
    monkeypatch.setattr("genfam.families.flow_density.EXACT_UP_TO", exact_up_to)
    x, end = torch.tensor([[0.3, -0.2], [0.0, 0.0], [0.8, 1.5]]), 0.7
    found, error = log_density(lambda rows: lambda t, z: -1.3 * z, x, end, derived_generator(0, "probe"))
    assert error < TOLERANCE * 2
    truth = torch.distributions.Normal(0.0, math.exp(-1.3 * end)).log_prob(x).sum(dim=1)
    assert torch.allclose(found, truth, atol=5e-3)


def test_exact_divergence_is_the_trace_of_the_jacobian():
    g = derived_generator(0, "divergence")
    a, z = torch.randn(5, 5, generator=g), torch.randn(7, 5, generator=g).requires_grad_(True)
    trace = (torch.diagonal(a) * (1 - torch.tanh(z) ** 2)).sum(dim=1)
    assert torch.allclose(exact_divergence(torch.tanh(z) @ a, z), trace, atol=1e-5)


def test_hutchinson_is_unbiased_for_the_divergence():
    """4,000 points with a probe each: within four standard errors, a false alarm in 1e-4."""
    g = derived_generator(0, "hutchinson")
    a = torch.randn(5, 5, generator=g, dtype=torch.float64)
    z = torch.randn(4000, 5, generator=g, dtype=torch.float64).requires_grad_(True)
    exact = exact_divergence(torch.tanh(z) @ a, z)
    probe = torch.randint(2, z.shape, generator=g).double() * 2 - 1
    error = hutchinson_divergence(torch.tanh(z) @ a, z, probe) - exact
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(len(error))
    assert float(error.std()) > 0.1


def test_steps_are_doubled_until_a_stiff_flow_is_integrated():
    """dx/dt = a(t) x with a(t) as steep near t = 1 as a path to modes of width 0.01: ∫ div is 2 log(width ratio)."""

    def width(t):
        return torch.sqrt((1 - t) ** 2 + (0.01 * t) ** 2)

    def velocity(t, z):
        slope = (-(1 - t) + 0.01**2 * t) / width(t) ** 2
        return slope * z

    x = 0.01 * torch.randn(50, 2, generator=derived_generator(0, "stiff"))
    found, error = log_density(lambda rows: velocity, x, 1.0, derived_generator(0, "probe"))
    truth = torch.distributions.Normal(0.0, 0.01).log_prob(x).sum(dim=1)
    assert float((found - truth).abs().mean()) < 3 * TOLERANCE * 2 and error < TOLERANCE * 2


def test_an_integration_that_is_not_converged_says_by_how_much(monkeypatch):
    monkeypatch.setattr("genfam.families.flow_density.MOST_STEPS", 40)
    x = 0.01 * torch.randn(50, 2, generator=derived_generator(0, "stiff"))
    _, error = log_density(lambda rows: lambda t, z: -z / (1.02 - t), x, 1.0, derived_generator(0, "probe"))
    assert error > TOLERANCE * 2
