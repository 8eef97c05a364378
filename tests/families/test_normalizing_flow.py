"""Normalising flows: densities that integrate to one, samples that have them, a bound on levels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from families.toys import Slices
from genfam.build import ConfigurationError, parse
from genfam.families.base import Family, Optimisation
from genfam.families.normalizing_flow import NormalizingFlow, log_density
from genfam.networks.bijections import InvertibleNetwork
from genfam.networks.embeddings import Fourier
from genfam.networks.multi_scale import MultiScale
from genfam.networks.spline_couplings import SplineCouplings
from genfam.seeds import derived_generator
from genfam.types import Event, Likelihood
from stand_ins import look_at


def made(event: Event, network: InvertibleNetwork, train: Tensor, classes: int = 0) -> NormalizingFlow:
    """Away from the identity that it begins as."""
    torch.manual_seed(0)
    family = NormalizingFlow(event, 8000, network, Optimisation(), 64, classes)
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    if classes:
        family.condition = Slices(classes)
    look_at(family, train)
    return family.eval()


def points(classes: int = 0) -> Family:
    train = torch.tensor([3.0, -1.0]) + torch.randn(500, 2, generator=derived_generator(0, "x")) * torch.tensor([1, 2])
    return made(Event((2,)), SplineCouplings(features=Fourier(4, 0.3)), train, classes)


@pytest.mark.parametrize("classes", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_on_points_it_integrates_to_one_and_draws_what_it_says(classes: int) -> None:
    """Quadrature over twelve standard deviations; shares of 20,000 draws per quadrant within five standard errors."""
    family = points(classes)
    assert family.likelihood_kind is Likelihood.EXACT
    axis = torch.linspace(-12.0, 12.0, 401)
    x, area = torch.tensor([3.0, -1.0]) + torch.cartesian_prod(axis, axis), (24 / 400) ** 2
    for temperature in (1.0, 0.7):
        family.choose_sampling(temperature=temperature)
        for value in [1, None] if classes else [None]:
            mass = family.log_prob(x, value).double().exp() * area
            assert float(mass.sum()) == pytest.approx(1.0, abs=1e-3)
            drawn = family.sample(20_000, generator=derived_generator(0, "s"), condition=value)
            at = ((drawn.median(dim=0).values / 0.06).round() + 0.5) * 0.06  # between cells

            def quadrant(y: Tensor, at: Tensor = at) -> Tensor:
                return ((y > at) * torch.tensor([1, 2])).sum(dim=1)

            wanted = torch.bincount(quadrant(x), weights=mass, minlength=4)
            shares = torch.bincount(quadrant(drawn), minlength=4) / len(drawn)
            assert ((shares - wanted).abs() < 5 * (wanted * (1 - wanted) / len(drawn)).sqrt() + 2e-3).all()


def test_on_levels_it_is_a_bound_on_what_is_drawn() -> None:
    """All 81 images of 2 × 2 pixels: frequencies of 40,000 draws are above the bound, within five standard errors."""
    event = Event((1, 2, 2), 3)
    train = torch.randint(3, (500, 1, 2, 2), generator=derived_generator(0, "x")).to(torch.uint8)
    family = made(event, SplineCouplings(pairs=2), train)
    assert family.likelihood_kind is Likelihood.LOWER_BOUND
    every = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 1, 2, 2).to(torch.uint8)
    generator = derived_generator(0, "noise")
    with torch.no_grad():  # the mean over the noise, of which `log_prob` takes one draw
        noisy = [log_density(family.sampler, family.codec.encode(every, generator), None) for _ in range(200)]
    bound = torch.stack(noisy).mean(dim=0) + family.codec.log_volume
    drawn = family.sample(40_000, generator=derived_generator(0, "s")).flatten(1).long() @ torch.tensor([27, 9, 3, 1])
    shares = drawn.bincount(minlength=81) / 40_000
    assert ((bound.exp() - shares) < 5 * (shares.clamp_min(1e-4) / 40_000).sqrt()).all()
    assert 0.0 < float(bound.exp().sum()) < 1.0
    one = family.log_prob(every)  # each from a distribution whose mean is the bound
    spread = torch.stack(noisy).std(dim=0)
    assert float(((one - bound) / spread).abs().max()) < 5.0


def test_on_images_the_bound_is_that_of_uniform_noise_on_the_cell() -> None:
    """With the identity the density is known: the mean of log N(z; 0, I) over each cell, in closed form."""
    event = Event((1, 4, 4), 17)
    torch.manual_seed(0)
    family = NormalizingFlow(event, 4000, MultiScale(steps=2), Optimisation(), 64).eval()
    x = torch.randint(17, (400, 1, 4, 4), generator=derived_generator(0, "x")).to(torch.uint8)
    centre, half = 2.0 * (x.double() + 0.5) / 17 - 1.0, 1.0 / 17
    square = (centre.square() + half**2 / 3).flatten(1).sum(dim=1)
    truth = -0.5 * square - 8 * math.log(2 * math.pi) + 16 * math.log(2 / 17)
    found = family.log_prob(x).double()
    error = (found - truth).std() / 400**0.5
    assert abs(float((found - truth).mean())) < 5 * float(error) < 0.05
    again = family.codec.decode(family.codec.encode(x, derived_generator(0, "u")))
    assert torch.equal(again, x)


def test_samples_of_a_steep_flow_are_finite() -> None:
    """Slopes up to a thousand, where a spline's root loses every digit of float32."""
    family = points()
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    x = family.sample(20_000, generator=derived_generator(0, "s"))
    assert bool(torch.isfinite(x).all())
    assert bool(torch.isfinite(family.log_prob(x)).all())


def test_a_network_that_is_no_bijection_is_refused_before_any_work() -> None:
    node = {
        "_target_": "genfam.families.normalizing_flow.NormalizingFlow", "batch_size": 8,
        "network": {"_target_": "genfam.networks.perceptron.Perceptron"},
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"expected a InvertibleNetwork, got genfam\.networks\.perceptron"):
        parse(node, Family, "family")
    with pytest.raises(ValueError, match="temperature: expected a positive number, got 0"):
        points().choose_sampling(temperature=0.0)
