"""Learned priors are densities, and draw from what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from genfam.networks.priors import FlowPrior, VampPrior
from genfam.networks.variational import Encoder

NOBODY = nn.Identity()  # the encoder that a flow does not ask


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def bent(latent: int, layers: int) -> FlowPrior:
    """A flow away from the normal that it begins as."""
    torch.manual_seed(0)
    prior = FlowPrior(latent, layers, width=8)
    for layer in prior.layers:
        nn.init.normal_(layer.exit.weight, std=0.06)
    return prior


def test_a_vamp_prior_is_the_mixture_of_what_the_encoder_says_of_its_pseudo_inputs() -> None:
    torch.manual_seed(0)
    encoder = Encoder(nn.Linear(3, 4))
    prior = VampPrior(torch.randn(5, 3))
    mean, log_std = encoder(prior.pseudo_inputs)
    parts = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(5)), parts)
    z = 0.3 * torch.randn(7, 2, 2)
    assert torch.allclose(prior.log_prob(z, encoder), mixture.log_prob(z), atol=1e-3)
    with torch.no_grad():
        drawn = prior.sample(40_000, encoder, generator())
    error = 5 * mixture.stddev / 200  # five standard errors: false alarm below 1e-6
    assert ((drawn.mean(dim=0) - mixture.mean).abs() < error).all()
    assert torch.allclose(drawn.std(dim=0), mixture.stddev, rtol=0.05)


def test_a_flow_begins_as_the_standard_normal() -> None:
    z = torch.randn(5, 2, 3, generator=generator())
    wanted = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=-1)
    assert torch.allclose(FlowPrior(3, 4, width=8).log_prob(z, NOBODY), wanted, atol=1e-5)


@torch.no_grad()
def test_a_flow_integrates_to_one_and_draws_what_it_says() -> None:
    """By quadrature over the plane; shares of 20,000 draws per quadrant within five standard errors (alarm < 1e-5)."""
    prior = bent(2, 3)
    axis = torch.linspace(-20, 20, 1601)
    z = torch.cartesian_prod(axis, axis)
    mass = prior.log_prob(z, NOBODY).exp() * 0.025**2
    assert float(mass.sum()) == pytest.approx(1.0, abs=1e-3)
    drawn = prior.sample(20_000, NOBODY, generator())
    at = torch.tensor([0.5, -0.5])

    def quadrant(points: Tensor) -> Tensor:
        return ((points > at) * torch.tensor([1, 2])).sum(dim=1)

    wanted = torch.bincount(quadrant(z), weights=mass, minlength=4)
    found = torch.bincount(quadrant(drawn), minlength=4) / len(drawn)
    assert float(wanted.min()) > 0.02
    assert ((found - wanted).abs() < 5 * (wanted * (1 - wanted) / len(drawn)).sqrt() + 1e-3).all()


def test_a_flows_density_is_the_jacobians_in_any_dimension() -> None:
    """Draws are T(u) with u normal: log p(T(u)) = log N(u) − log |det ∂T/∂u|."""
    prior = bent(5, 4)
    u = torch.randn(1, 5, generator=generator())
    assert torch.allclose(prior.transport(u), prior.sample(1, NOBODY, generator()), atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(prior.transport, u)[0, :, 0]
    wanted = -0.5 * u.square().sum() - 2.5 * math.log(2 * math.pi) - torch.linalg.slogdet(jacobian)[1]
    assert float(prior.log_prob(prior.transport(u), NOBODY).detach()) == pytest.approx(float(wanted), abs=1e-4)
    assert prior.log_prob(torch.zeros(3, 2, 5), NOBODY).shape == (3, 2)


def test_a_flow_needs_two_dimensions_and_a_layer() -> None:
    for latent, layers in ((1, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"at least 2 latent dimensions and 1 coupling layer, got {latent} and"):
            FlowPrior(latent, layers, width=8)


def test_no_event_can_throw_its_code_away() -> None:
    """The encoder's spread ends at e³, whatever the network says; what is below is left as it is."""
    encoder = Encoder(nn.Identity(), first_log_std=0.0)
    said = torch.tensor([[0.0, 40.0], [0.0, 2.9], [0.0, -1.0]])
    assert torch.allclose(encoder(said)[1][:, 0], torch.tensor([3.0, 2.9, -1.0]), atol=1e-2)
