"""Priors are densities, with and without a condition, and draw from what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from genfam.families.priors import LARGEST_LOG_SCALE, Couplings, Normal, Prior, Vamp
from genfam.families.vae import FIRST_LOG_STD, Encoder

CLASSES = 3
KINDS = [Normal, Vamp, Couplings]
COUNTS = [0, CLASSES]


class Linear(nn.Module):
    """An encoder's body: linear, with a shift per value of the condition."""

    def __init__(self, inputs: int, latent: int, classes: int = 0) -> None:
        super().__init__()
        self.body = nn.Linear(inputs, 2 * latent)
        self.shift = nn.Embedding(classes, 2 * latent) if classes else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.body(x) if self.shift is None else self.body(x) + self.shift(condition)


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def make(kind: type[Prior], classes: int = 0, latent: int = 2) -> tuple[Prior, Encoder]:
    """A prior away from how it begins, and the encoder that it may ask."""
    torch.manual_seed(0)
    encoder = Encoder(Linear(3, latent, classes))
    if kind is Vamp:
        prior: Prior = Vamp(latent, (3,), classes, pseudo_inputs=5)
        nn.init.normal_(prior.pseudo_inputs)
    elif kind is Couplings:
        prior = Couplings(latent, (3,), classes, layers=3, width=8)
        for layer in prior.layers:
            nn.init.normal_(layer.exit.weight, std=0.06)
    else:
        prior = Normal(latent, (3,), classes)
        if prior.moments is not None:
            nn.init.normal_(prior.moments.weight, std=0.4)
    return prior, encoder


def values(classes: int, value: int, n: int) -> Tensor | None:
    return torch.full((n,), value) if classes else None


@torch.no_grad()
@pytest.mark.parametrize("classes", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_integrates_to_one_and_draws_what_it_says(kind: type[Prior], classes: int) -> None:
    """By quadrature over the plane; shares of 20,000 draws per quadrant within five standard errors (alarm < 1e-4)."""
    prior, encoder = make(kind, classes)
    axis = torch.linspace(-10, 10, 501)
    z = torch.cartesian_prod(axis, axis)
    masses = []
    for value in range(max(1, classes)):
        mass = prior.log_prob(z, encoder, values(classes, value, len(z))).exp() * 0.04**2
        assert float(mass.sum()) == pytest.approx(1.0, abs=2e-3)
        drawn = prior.sample(20_000, encoder, values(classes, value, 20_000), generator())
        at = ((drawn.median(dim=0).values / 0.04).round() + 0.5) * 0.04  # between cells

        def quadrant(points: Tensor, at: Tensor = at) -> Tensor:
            return ((points > at) * torch.tensor([1, 2])).sum(dim=1)

        wanted = torch.bincount(quadrant(z), weights=mass, minlength=4)
        found = torch.bincount(quadrant(drawn), minlength=4) / len(drawn)
        assert ((found - wanted).abs() < 5 * (wanted * (1 - wanted) / len(drawn)).sqrt() + 1e-3).all()
        masses.append(mass)
    assert all(float((masses[0] - other).abs().sum()) > 0.05 for other in masses[1:])  # values have their own


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_of_many_values_each_row_has_its_own(kind: type[Prior]) -> None:
    prior, encoder = make(kind, CLASSES)
    z, mixed = torch.randn(4, 7, 2, generator=generator()), torch.tensor([0, 2, 2, 1, 0, 1, 2])
    together = prior.log_prob(z, encoder, mixed)
    assert together.shape == (4, 7)
    for row, value in enumerate(mixed.tolist()):
        alone = prior.log_prob(z[:, row : row + 1], encoder, torch.tensor([value]))
        assert torch.allclose(together[:, row], alone[:, 0], atol=1e-4)
    drawn = prior.sample(7, encoder, mixed, generator())
    for value in range(CLASSES):
        alone = prior.sample(7, encoder, torch.full((7,), value), generator())
        assert torch.allclose(drawn[mixed == value], alone[mixed == value], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("classes", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_divergence_is_the_mean_of_the_log_ratio(kind: type[Prior], classes: int) -> None:
    """20,000 draws: within five standard errors, a false alarm in 1e-6."""
    prior, encoder = make(kind, classes)
    mean, log_std = torch.tensor([0.3, -0.5]), torch.tensor([-0.4, 0.2])
    z = mean + log_std.exp() * torch.randn(20_000, 2, generator=generator())
    seen = values(classes, 1, len(z))
    normal = torch.distributions.Normal(mean, log_std.exp())
    ratio = normal.log_prob(z).sum(dim=1) - prior.log_prob(z, encoder, seen)
    found = prior.divergence(z, mean.expand_as(z), log_std.expand_as(z), encoder, seen)
    assert float(found.mean()) == pytest.approx(float(ratio.mean()), abs=5 * float(ratio.std()) / 141)
    if kind is Normal and not classes:
        expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()
        assert torch.allclose(found, expected.expand(len(z)), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_scales_the_noise_that_a_draw_is_made_of(kind: type[Prior]) -> None:
    prior, encoder = make(kind)
    cold, cool, warm = (prior.sample(500, encoder, None, generator(), t) for t in (1e-6, 0.5, 1.0))
    if isinstance(prior, Couplings):
        noise = torch.randn(500, 2, generator=generator())
        assert torch.allclose(cool, prior.transport(0.5 * noise)) and torch.allclose(warm, prior.transport(noise))
    else:  # a component's mean is where there is no noise
        assert torch.allclose(cool - cold, 0.5 * (warm - cold), atol=1e-4)
    assert len(torch.unique(cold.round(decimals=3), dim=0)) == (5 if kind is Vamp else 1)


@pytest.mark.parametrize("classes", COUNTS)
@pytest.mark.parametrize("kind", [Normal, Couplings])
def test_a_prior_that_is_a_network_begins_as_the_standard_normal(kind: type[Prior], classes: int) -> None:
    z = torch.randn(5, 2, 4, generator=generator())
    wanted = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=-1)
    _, encoder = make(kind)
    found = kind(4, (3,), classes).log_prob(z, encoder, values(classes, 1, 2))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert kind.is_network and not Vamp.is_network


@torch.no_grad()
def test_a_vamp_prior_is_the_mixture_of_what_the_encoder_says_of_its_pseudo_inputs() -> None:
    prior, encoder = make(Vamp)
    assert isinstance(prior, Vamp)
    mean, log_std = encoder(prior.pseudo_inputs)
    parts = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(5)), parts)
    z = 0.3 * torch.randn(7, 2, 2)
    assert torch.allclose(prior.log_prob(z, encoder, None), mixture.log_prob(z), atol=1e-3, rtol=1e-4)
    drawn = prior.sample(40_000, encoder, None, generator())
    error = 5 * mixture.stddev / 200  # five standard errors: false alarm below 1e-6
    assert ((drawn.mean(dim=0) - mixture.mean).abs() < error).all()
    assert torch.allclose(drawn.std(dim=0), mixture.stddev, rtol=0.05)


@pytest.mark.parametrize("classes", COUNTS)
def test_couplings_have_the_density_of_their_jacobian_in_any_dimension(classes: int) -> None:
    """Draws are T(u) with u normal: log p(T(u)) = log N(u) − log |det ∂T/∂u|."""
    prior, encoder = make(Couplings, classes, latent=5)
    assert isinstance(prior, Couplings)
    u, seen = torch.randn(1, 5, generator=generator()), values(classes, 2, 1)
    assert torch.allclose(prior.transport(u, seen), prior.sample(1, encoder, seen, generator()), atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(lambda u: prior.transport(u, seen), u)[0, :, 0]
    wanted = -0.5 * u.square().sum() - 2.5 * math.log(2 * math.pi) - torch.linalg.slogdet(jacobian)[1]
    found = prior.log_prob(prior.transport(u, seen), encoder, seen)
    assert float(found.detach()) == pytest.approx(float(wanted), abs=1e-4)


def test_no_coupling_layer_stretches_further_than_the_bound() -> None:
    """Of 5 dimensions each of 3 layers changes 3."""
    prior, _ = make(Couplings, latent=5)
    assert isinstance(prior, Couplings)
    for layer in prior.layers:
        nn.init.constant_(layer.exit.bias, 100.0)
    jacobian = torch.autograd.functional.jacobian(prior.transport, torch.randn(1, 5))[0, :, 0]
    assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(3 * 3 * LARGEST_LOG_SCALE, rel=1e-3)


def test_couplings_need_two_dimensions_and_a_layer() -> None:
    for latent, layers in ((1, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"at least 2 latent dimensions and 1 coupling layer, got {latent} and"):
            Couplings(latent, layers=layers, width=8)


def test_no_event_can_throw_its_code_away() -> None:
    """The encoder's spread ends at e³, whatever the network says; what is below is left as it is."""

    class Said(nn.Module):
        def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
            return x

    said = torch.tensor([[0.0, 40.0], [0.0, 2.9 - FIRST_LOG_STD], [0.0, -1.0 - FIRST_LOG_STD]])
    assert torch.allclose(Encoder(Said())(said)[1][:, 0], torch.tensor([3.0, 2.9, -1.0]), atol=1e-2)
