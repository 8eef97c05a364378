"""The VAE's bounds are bounds, its knobs turn what they say, and its samples come from its own likelihood."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families.toys import train
from genfam.families.base import Optimisation
from genfam.families.priors import Couplings, Normal, Vamp
from genfam.families.vae import FIRST_LOG_STD, VAE, Decoder, Encoder
from genfam.networks.base import count_parameters
from genfam.networks.convolutional import Convolutional
from genfam.networks.observation import LEAST_LOG_STD, MOST_LOG_STD, Gaussian
from genfam.networks.perceptron import Perceptron
from genfam.types import Batch, Event, Likelihood
from stand_ins import look_at

POINT, DIE, TINY = Event((2,)), Event((1,), 6), Event((1, 2, 2), 4)
GREY, DIGIT = Event((1, 2, 2), 256), Event((1, 8, 8), 17)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def events(event: Event, n: int, seed: int = 0) -> Tensor:
    if event.levels is None:
        return 3.0 + 2.0 * torch.randn(n, *event.shape, generator=generator(seed))
    return torch.randint(event.levels, (n, *event.shape), generator=generator(seed)).to(torch.uint8)


def vae(event: Event, parameters: int = 3000, batch_size: int = 64, ema: float = 0.05, **settings: Any) -> VAE:
    torch.manual_seed(0)
    chosen: dict[str, Any] = {"latent": 2, "network": Perceptron(depth=2), "warmup": 0.0} | settings
    optimisation = Optimisation(learning_rate=5e-3, ema=ema)
    return VAE(event, parameters, optimisation=optimisation, batch_size=batch_size, **chosen)


# ---- a model whose likelihood can be written down ------------------------------------------------------

LOADING = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, -0.4]])  # x = W z + b + noise of std 0.5
ORTHOGONAL = torch.tensor([[1.0, 0.0], [0.0, 0.8], [0.0, 0.0]])
OFFSET, STD = torch.tensor([0.4, -0.2, 0.1]), 0.5


class Linear(nn.Module):
    """(B, inputs), condition -> (B, *shape)."""

    def __init__(self, weight: Tensor, bias: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.bias, self.shape = nn.Parameter(weight), nn.Parameter(bias), shape

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias).view(-1, *self.shape)


def above(value: Tensor, least: float) -> Tensor:
    """What the soft floor makes `value` of."""
    return torch.log(torch.expm1(value - least)) + least


def linear_gaussian(exact: bool, samples: int) -> VAE:
    """Probabilistic PCA in the VAE's clothes, with its exact posterior's mean and a diagonal covariance.

    Args:
        exact: with a loading whose columns are orthogonal the posterior is diagonal, so the encoder can be exact.
        samples: K.
    """
    family = vae(Event((3,)), importance_samples=samples, ema=0.0)
    loading = ORTHOGONAL if exact else LOADING
    precision = torch.eye(2) + loading.T @ loading / STD**2
    covariance = torch.linalg.inv(precision)
    to_mean = covariance @ loading.T / STD**2
    log_std = 0.5 * covariance.diagonal().log() if exact else torch.log(0.8 * covariance.diagonal().sqrt())
    raw = above(log_std, LEAST_LOG_STD) - FIRST_LOG_STD
    encode = Linear(torch.cat([to_mean, torch.zeros(2, 3)]), torch.cat([-to_mean @ OFFSET, raw]), (4,))
    floored = above(torch.tensor(math.log(STD)), LEAST_LOG_STD)
    raw = MOST_LOG_STD - torch.log(torch.expm1(MOST_LOG_STD - floored))
    decode = Linear(torch.cat([loading, torch.zeros(3, 2)]), torch.cat([OFFSET, raw.expand(3)]), (2, 3))
    family.model["encoder"], family.model["decoder"] = Encoder(encode), Decoder(decode, Gaussian(Event((3,))))
    return family


def evidence(x: Tensor, loading: Tensor) -> Tensor:
    covariance = loading @ loading.T + STD**2 * torch.eye(3)
    return torch.distributions.MultivariateNormal(OFFSET, covariance).log_prob(x)


def test_the_bound_is_exact_where_the_posterior_is() -> None:
    family = linear_gaussian(exact=True, samples=1)
    x = torch.randn(50, 3, generator=generator())
    expected = evidence(x, ORTHOGONAL)
    assert torch.allclose(family.log_prob(x), expected, atol=1e-4)
    torch.manual_seed(0)  # and so is the ELBO: it has no variance left but that of the integral over z
    losses = torch.stack([family.loss(Batch(x), "model").detach() for _ in range(400)])
    assert float(losses.mean()) == pytest.approx(-float(expected.mean()), abs=5 * float(losses.std()) / 20)


def test_more_importance_samples_tighten_the_bound() -> None:
    x = torch.randn(500, 3, generator=generator())
    exact = float(evidence(x, LOADING).mean())
    bounds = {k: float(linear_gaussian(False, k).log_prob(x).mean()) for k in (1, 8, 64, 512)}
    assert bounds[1] < bounds[8] < bounds[64] < exact + 1e-3
    assert exact - bounds[1] > 0.05
    assert bounds[512] == pytest.approx(exact, abs=5e-3)


def test_with_one_sample_the_bound_is_the_training_objective() -> None:
    family, x = linear_gaussian(False, 1), torch.randn(2000, 3, generator=generator())
    torch.manual_seed(1)
    elbo = -torch.stack([family.loss(Batch(x), "model").detach() for _ in range(30)]).mean()
    assert float(family.log_prob(x).mean()) == pytest.approx(float(elbo), abs=0.03)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_are_of_the_model_and_at_a_temperature_of_a_narrower_prior(temperature: float) -> None:
    """x ~ N(b, T² W Wᵀ + s²): 20,000 draws, every covariance within five standard errors, a false alarm in 1e-5."""
    family = linear_gaussian(False, 1)
    family.choose_sampling(temperature=temperature)
    x = family.sample(20_000, generator=generator())
    wanted = temperature**2 * LOADING @ LOADING.T + STD**2 * torch.eye(3)
    variances = wanted.diagonal()
    assert bool(((x.mean(dim=0) - OFFSET).abs() < 5 * (variances / 20_000).sqrt()).all())
    error = 5 * ((variances[:, None] * variances + wanted.square()) / 20_000).sqrt()
    assert bool(((torch.cov(x.T) - wanted).abs() < error).all())
    with pytest.raises(ValueError, match="temperature: expected a positive number, got 0"):
        family.choose_sampling(temperature=0.0)


def integrated(family: VAE, x: Tensor, condition: int | None = None) -> Tensor:
    """(B,) log p(x | c) by quadrature over a latent of one dimension."""
    z = torch.linspace(-8, 8, 1601)[:, None]
    networks, values = family.sampler, None if condition is None else torch.full((1601,), condition)
    with torch.no_grad():
        weights = networks["prior"].log_prob(z, networks["encoder"], values) + math.log(0.01)
        likelihoods = [networks["decoder"].log_prob(e.expand(1601, *e.shape), z, values) for e in x]
        return torch.stack([torch.logsumexp(each + weights, dim=0) for each in likelihoods])


@pytest.mark.parametrize("event", [DIE, TINY], ids=["die", "tiny"])
def test_the_bound_is_below_the_integral_over_the_latent(event: Event) -> None:
    """ELBO < IWAE < log p(x), with p(x) by quadrature over a one-dimensional latent."""
    x = events(event, 300) // 2
    family = vae(event, latent=1)
    train(family, x, 100)
    exact, means = float(integrated(family, x[:40]).mean()), {}
    for k in (1, 2000):
        family.importance_samples = k
        means[k] = float(family.log_prob(x[:40]).mean())
    assert means[1] < exact
    assert means[2000] == pytest.approx(exact, abs=0.01)


def test_the_model_of_a_die_is_a_distribution_and_samples_follow_it() -> None:
    faces = torch.tensor([0, 0, 0, 1, 1, 5], dtype=torch.uint8)[:, None].repeat(50, 1)
    family = vae(DIE, importance_samples=4000)
    train(family, faces, 150)
    table = family.log_prob(torch.arange(6).to(torch.uint8)[:, None]).exp()
    assert float(table.sum()) == pytest.approx(1.0, abs=0.01)
    samples = family.sample(20_000, generator=generator())
    frequencies = torch.bincount(samples.flatten().long(), minlength=6) / 20_000
    assert torch.allclose(frequencies, table, atol=0.015)
    truth = torch.tensor([3, 2, 0, 0, 0, 1]) / 6
    assert 0.5 * float((frequencies - truth).abs().sum()) < 0.08


def test_densities_are_in_the_sources_own_units() -> None:
    """The same model of data measured in metres and in millimetres: densities differ by the volume's factor."""
    x = events(POINT, 500)
    families = []
    for unit in (1.0, 1000.0):
        family = vae(POINT)
        look_at(family, x * unit)
        families.append(family)
    metres, millimetres = families[0].log_prob(x), families[1].log_prob(x * 1000.0)
    assert torch.allclose(metres - millimetres, torch.full((500,), 2 * math.log(1000.0)), atol=1e-2)


def test_a_density_integrates_to_one() -> None:
    family = vae(Event((1,)), latent=1, importance_samples=500)
    train(family, 5.0 + events(Event((1,)), 400), 100)
    grid = torch.linspace(-15, 30, 901)[:, None]
    mass = float(family.log_prob(grid).exp().sum() * 0.05)
    assert mass == pytest.approx(1.0, abs=0.02)


def test_the_divergence_warms_up() -> None:
    x = events(DIGIT, 32)

    def loss(progress: float, warmup: float) -> float:
        family = vae(DIGIT, 20_000, latent=4, warmup=warmup)
        family.total_updates, family.updates = 1000, int(1000 * progress)
        torch.manual_seed(7)
        return float(family.loss(Batch(x), "model").detach())

    begin, quarter, end, late = (loss(progress, 0.5) for progress in (0.0, 0.25, 0.5, 0.9))
    assert end == late == loss(0.0, 0.0) > begin
    assert quarter - begin == pytest.approx(0.5 * (end - begin), rel=1e-2)
    family = vae(DIGIT, 20_000, latent=4)
    encoder, decoder = family.model["encoder"], family.model["decoder"]
    torch.manual_seed(7)
    mean, log_std = encoder(family.inputs(x))
    z = mean + log_std.exp() * torch.randn_like(mean)
    assert begin == pytest.approx(-float(decoder.log_prob(x, z, None).mean().detach()), rel=1e-5)


# ---- learned priors, and a condition ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "latent"), [(partial(Vamp, pseudo_inputs=4), 1), (partial(Couplings, layers=2, width=8), 2)]
)
def test_a_learned_prior_bounds_the_same_evidence_that_it_samples_from(prior: Any, latent: int) -> None:
    """20,000 samples: the table's shares within 0.015, four standard errors."""
    x = events(DIE, 300) // 2
    family = vae(DIE, latent=latent, prior=prior, importance_samples=2000)
    train(family, x, 100)
    if latent == 1:
        assert torch.allclose(family.log_prob(x[:40]), integrated(family, x[:40]), atol=0.05)
    table = family.log_prob(torch.arange(6).to(torch.uint8)[:, None]).exp()
    assert float(table.sum()) == pytest.approx(1.0, abs=0.01)
    shares = torch.bincount(family.sample(20_000, generator=generator()).flatten().long(), minlength=6) / 20_000
    assert torch.allclose(shares, table, atol=0.015)
    truth = torch.bincount(x.flatten().long(), minlength=6) / len(x)
    assert 0.5 * float((shares - truth).abs().sum()) < 0.08


def test_pseudo_inputs_begin_as_events_and_learn() -> None:
    x = events(DIE, 300)
    family = vae(DIE, prior=partial(Vamp, pseudo_inputs=4))
    look_at(family, x[:3])  # fewer events than pseudo-inputs: begun from the start again
    for networks in (family.model, family.average.module):
        assert torch.equal(networks["prior"].pseudo_inputs, family.inputs(x[[0, 1, 2, 0]]))
    train(family, x, 5)
    assert not torch.equal(family.model["prior"].pseudo_inputs, family.inputs(x[:4]))


def test_a_flow_as_prior_is_counted_and_draws_nothing_where_no_event_is_encoded() -> None:
    """Two far modes: what is decoded between their codes lies between them, unless the prior has no mass there."""
    x = torch.cat([0.1 * torch.randn(200, 2, generator=generator()) + side for side in (-4.0, 4.0)])
    between = []
    for prior in (Normal, partial(Couplings, layers=6, width=12)):
        family = vae(POINT, prior=prior)
        assert count_parameters(family.sampling_network) == pytest.approx(3000, rel=0.1)
        train(family, x, 400)
        drawn = family.sample(4000, generator=generator(1))
        between.append(float((drawn.abs() < 3.0).all(dim=1).float().mean()))
    assert between[1] < 0.05 < 0.1 < between[0]
    with pytest.raises(ValueError, match="prior: expected at most half of the 3000 parameters"):
        vae(POINT, prior=partial(Couplings, layers=6, width=64))


@pytest.mark.parametrize("prior", [Normal, partial(Vamp, pseudo_inputs=4)])
def test_a_condition_has_a_bound_of_its_own(prior: Any) -> None:
    """Against quadrature; what is learnt of one value is not what is learnt of another."""
    kinds = torch.arange(300) % 2
    x = (3 * kinds[:, None] + torch.randint(3, (300, 1), generator=generator())).to(torch.uint8)
    family = vae(DIE, latent=1, prior=prior, importance_samples=2000, classes=2)
    train(family, x, 150, kinds)
    faces = torch.arange(6).to(torch.uint8)[:, None]
    for value in (0, 1):
        found = family.density(faces, torch.full((6,), value)).detach()
        assert torch.allclose(found, integrated(family, faces, value), atol=0.05)
        own = found.exp()[3 * value : 3 * value + 3]
        assert float(own.sum()) > 0.9


# ---- learning and sampling -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "settings", "least"),
    [
        (DIGIT, {"batch_size": 16}, -6.0),
        (DIGIT, {"batch_size": 8, "network": Convolutional(blocks=1), "parameters": 6000}, -20.0),
        (GREY, {"batch_size": 32}, -14.0),
        (POINT, {"batch_size": 32}, -1.0),
    ],
    ids=["digits", "digits conv", "grey", "points"],
)
def test_learns_four_events_by_heart(event: Event, settings: dict[str, Any], least: float) -> None:
    """Discrete events: at best probability 1/4 each, which a normalised model's mean log-probability cannot pass."""
    x = events(event, 4)
    family = vae(event, **({"parameters": 12_000, "warmup": 0.5} | settings))
    train(family, x, 250)
    bound = float(family.log_prob(x).mean())
    assert bound > least
    if event.is_discrete:
        assert bound < -math.log(4.0) + 0.05
    samples = family.sample(64, generator=generator()).flatten(1).double()
    others = events(event, 64, seed=1).flatten(1).double()
    nearest = [float(torch.cdist(y, x.flatten(1).double()).min(dim=1).values.mean()) for y in (samples, others)]
    assert nearest[0] < 0.75 * nearest[1]


@pytest.mark.parametrize("event", [POINT, DIE, TINY, GREY, DIGIT, Event((3, 8, 8), 17)])
def test_samples_are_events_and_repeat_with_their_seed(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    family = vae(event, 30_000)
    monkeypatch.setattr("genfam.families.vae.AT_ONCE", 4 * 40 * 3 * event.dimensions)  # several passes, one unfinished
    state = torch.random.get_rng_state()
    first, again, other = (family.sample(100, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.shape == (100, *event.shape)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:50], first[50:])


def test_the_bound_repeats_and_leaves_the_global_random_state() -> None:
    family, x = vae(DIGIT, 20_000), events(DIGIT, 6)
    state = torch.random.get_rng_state()
    bound = family.log_prob(x)
    assert bound.shape == (6,)
    assert bool((bound < 0).all())
    assert torch.equal(bound, family.log_prob(x))
    assert torch.equal(state, torch.random.get_rng_state())
    assert family.likelihood_kind is Likelihood.LOWER_BOUND
    assert family.likelihood_method == "64 importance samples"


@pytest.mark.parametrize("latents", [100, 5000])
def test_passes_of_events_and_of_importance_samples_add_up(latents: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer latents at once than one event has samples, and several events at once: the same exact evidence."""
    family, x = linear_gaussian(exact=True, samples=1024), torch.randn(7, 3, generator=generator())
    monkeypatch.setattr("genfam.families.vae.AT_ONCE", latents * 4 * 3 * 2)
    assert family.drawn_at_once == latents
    assert torch.allclose(family.log_prob(x), evidence(x, ORTHOGONAL), atol=1e-3)


def test_dropout_is_for_training_only() -> None:
    family, x = vae(DIE, network=Perceptron(depth=2, dropout=0.5), ema=0.0), events(DIE, 50)
    family.train()
    assert torch.equal(family.log_prob(x), family.log_prob(x))
    assert family.model["decoder"].training  # as it was
    torch.manual_seed(0)
    with torch.no_grad():
        z, body = torch.ones(4, 2), family.model["decoder"].body
        assert not torch.equal(body(z), body(z))


@pytest.mark.parametrize("event", [POINT, DIE, TINY, GREY, DIGIT])
@pytest.mark.parametrize("budget", [8_000, 70_000, 200_000])
def test_both_networks_meet_the_budget(event: Event, budget: int) -> None:
    networks = [Perceptron(depth=2), Convolutional()] if event == DIGIT and budget > 8_000 else [Perceptron(depth=2)]
    for network in networks:
        family = vae(event, budget, latent=16, network=network)
        assert count_parameters(family.sampling_network) == count_parameters(family.model["decoder"])
        for name in ("encoder", "decoder"):
            assert abs(count_parameters(family.model[name]) - budget) <= 0.1 * budget


def test_a_latent_is_as_large_as_the_event_but_for_large_ones() -> None:
    for event, size in ((POINT, 2), (DIE, 1), (DIGIT, 16)):
        family = vae(event, 30_000, latent=None)
        assert family.model["encoder"](family.inputs(events(event, 1)))[0].shape == (1, size)


def test_a_face_is_a_name_and_not_a_number() -> None:
    assert vae(DIE).inputs(torch.tensor([[4]], dtype=torch.uint8)).tolist() == [[[0, 0, 0, 0, 1, 0]]]
    grey = vae(DIGIT, 20_000).inputs(torch.tensor([0, 8, 16], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 8, 8))
    assert grey[:, 0, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_refusals_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"network: expected images of at least 4 × 4 pixels for convolutions"):
        vae(POINT, network=Convolutional())
    for wrong in ({"importance_samples": 0}, {"warmup": 1.5}, {"latent": 0}):
        with pytest.raises(ValueError, match=r"expected warmup in \[0, 1\], importance_samples ≥ 1 and latent ≥ 1"):
            vae(POINT, **wrong)
