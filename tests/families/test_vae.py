"""The VAE's bounds are bounds, its knobs turn what they say, and its samples come from its own likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from genfam.build import build
from genfam.families.base import Optimisation
from genfam.families.vae import VAE, gaussian_divergence
from genfam.networks.observation import LEAST_LOG_STD, MOST_LOG_STD, Gaussian
from genfam.networks.sizing import count_parameters
from genfam.networks.variational import Decoder, Encoder
from genfam.types import Event, Likelihood

POINT, DIE, TINY = Event((2,)), Event((1,), 6), Event((1, 2, 2), 4)
GREY, DIGIT = Event((1, 2, 2), 256), Event((1, 8, 8), 17)


@dataclass
class Toy:
    """Just enough of a source."""

    event: Event
    train: Tensor
    name: str = "toy"

    @property
    def test(self) -> Tensor:
        return self.train

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        return self.train[:n]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def events(event: Event, n: int, seed: int = 0) -> Tensor:
    if event.levels is None:
        return 3.0 + 2.0 * torch.randn(n, *event.shape, generator=generator(seed))
    return torch.randint(event.levels, (n, *event.shape), generator=generator(seed)).to(torch.uint8)


def vae(event: Event, parameters: int = 3000, batch_size: int = 64, ema: float = 0.05, **settings: Any) -> VAE:
    torch.manual_seed(0)
    chosen: dict[str, Any] = {"latent": 2, "depth": 2, "beta_warmup": 0.0} | settings
    return VAE(event, parameters, Optimisation(learning_rate=5e-3, ema=ema), batch_size, **chosen)


def train(family: VAE, x: Tensor, updates: int) -> None:
    family.prepare(Toy(family.event, x))
    optimisers, family.total_updates = family.configure_optimizers(), updates
    rows = generator()
    for _ in range(updates):
        batch = x[torch.randint(len(x), (family.batch_size,), generator=rows)]
        family.update(batch, optimisers, lambda loss: loss.backward())


# ---- a model whose likelihood can be written down ------------------------------------------------------

LOADING = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, -0.4]])  # x = W z + b + noise of std 0.5
OFFSET, STD = torch.tensor([0.4, -0.2, 0.1]), 0.5


def linear_gaussian(exact: bool, samples: int) -> VAE:
    """Probabilistic PCA in the VAE's clothes, with its exact posterior's mean and a diagonal covariance.

    Args:
        exact: with a loading whose columns are orthogonal the posterior is diagonal, so the encoder can be exact.
        samples: K.
    """
    family = vae(Event((3,)), variance="shared", importance_samples=samples, ema=0.0)
    loading = torch.tensor([[1.0, 0.0], [0.0, 0.8], [0.0, 0.0]]) if exact else LOADING
    precision = torch.eye(2) + loading.T @ loading / STD**2
    covariance = torch.linalg.inv(precision)
    decode, encode = nn.Linear(2, 3), nn.Linear(3, 4)
    to_mean = covariance @ loading.T / STD**2
    log_std = 0.5 * covariance.diagonal().log() if exact else torch.log(0.8 * covariance.diagonal().sqrt())
    raw = torch.log(torch.expm1(log_std + 6.0)) - 6.0  # undoes the soft floor
    with torch.no_grad():
        decode.weight.copy_(loading)
        decode.bias.copy_(OFFSET)
        encode.weight.copy_(torch.cat([to_mean, torch.zeros(2, 3)]))
        encode.bias.copy_(torch.cat([-to_mean @ OFFSET, raw]))
    observation = Gaussian(Event((3,)), "shared")
    assert observation.log_std is not None
    unfloored = math.log(math.expm1(math.log(STD) - LEAST_LOG_STD)) + LEAST_LOG_STD
    nn.init.constant_(observation.log_std, MOST_LOG_STD - math.log(math.expm1(MOST_LOG_STD - unfloored)))
    family.model["encoder"], family.model["decoder"] = Encoder(encode, 0.0), Decoder(decode, observation)
    return family


def evidence(x: Tensor, loading: Tensor) -> Tensor:
    covariance = loading @ loading.T + STD**2 * torch.eye(3)
    return torch.distributions.MultivariateNormal(OFFSET, covariance).log_prob(x)


def test_the_bound_is_exact_where_the_posterior_is() -> None:
    family = linear_gaussian(exact=True, samples=1)
    x = torch.randn(50, 3, generator=generator())
    expected = evidence(x, torch.tensor([[1.0, 0.0], [0.0, 0.8], [0.0, 0.0]]))
    assert torch.allclose(family.log_prob(x), expected, atol=1e-4)
    torch.manual_seed(0)  # and so is the ELBO: it has no variance left but that of the integral over z
    losses = torch.stack([family.loss(x, "model").detach() for _ in range(400)])
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
    elbo = -torch.stack([family.loss(x, "model").detach() for _ in range(30)]).mean()
    assert float(family.log_prob(x).mean()) == pytest.approx(float(elbo), abs=0.03)


@pytest.mark.parametrize("event", [DIE, TINY], ids=["die", "tiny"])
def test_the_bound_is_below_the_integral_over_the_latent(event: Event) -> None:
    """ELBO < IWAE < log p(x), with p(x) by quadrature over a one-dimensional latent."""
    x = events(event, 300) // 2
    family = vae(event, latent=1)
    train(family, x, 100)
    z = torch.linspace(-6, 6, 1201)[:, None]
    weights = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0]) + math.log(0.01)
    decoder = family.sampler["decoder"]
    with torch.no_grad():
        exact = torch.stack(
            [torch.logsumexp(decoder.log_prob(e.expand(1201, *event.shape), z) + weights, dim=0) for e in x[:40]]
        )
    means = {}
    for k in (1, 2000):
        family.importance_samples = k
        means[k] = float(family.log_prob(x[:40]).mean())
    assert means[1] < float(exact.mean())
    assert means[2000] == pytest.approx(float(exact.mean()), abs=0.01)


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
        family.prepare(Toy(POINT, x * unit))
        families.append(family)
    metres, millimetres = families[0].log_prob(x), families[1].log_prob(x * 1000.0)
    assert torch.allclose(metres - millimetres, torch.full((500,), 2 * math.log(1000.0)), atol=1e-2)


def test_a_density_integrates_to_one() -> None:
    family = vae(Event((1,)), latent=1, importance_samples=500)
    train(family, 5.0 + events(Event((1,)), 400), 100)
    grid = torch.linspace(-15, 30, 901)[:, None]
    mass = float(family.log_prob(grid).exp().sum() * 0.05)
    assert mass == pytest.approx(1.0, abs=0.02)


# ---- the objective's knobs -----------------------------------------------------------------------------


def test_divergence_is_torchs() -> None:
    mean, log_std = torch.randn(2, 5, 3, generator=generator())
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0))
    assert torch.allclose(gaussian_divergence(mean, log_std), expected, atol=1e-5)


def losses_of(x: Tensor, progress: float = 1.0, **settings: Any) -> float:
    family = vae(DIGIT, 20_000, latent=4, **settings)
    family.total_updates, family.updates = 1000, int(1000 * progress)
    torch.manual_seed(7)
    return float(family.loss(x, "model").detach())


def test_beta_weighs_the_divergence_and_warms_up() -> None:
    x = events(DIGIT, 32)
    none, one, four = (losses_of(x, beta=beta) for beta in (0.0, 1.0, 4.0))
    assert one > none
    assert four - none == pytest.approx(4.0 * (one - none), rel=1e-2)
    begin, quarter, end, late = (losses_of(x, p, beta_warmup=0.5) for p in (0.0, 0.25, 0.5, 0.9))
    assert begin == pytest.approx(none)
    assert end == late == pytest.approx(one)
    assert quarter - begin == pytest.approx(0.5 * (end - begin), rel=1e-2)


def test_free_bits_are_not_reduced_any_further() -> None:
    family, x = vae(DIGIT, 20_000, latent=4, free_bits=100.0), events(DIGIT, 32)
    torch.manual_seed(7)
    assert float(family.loss(x, "model").detach()) == pytest.approx(losses_of(x, beta=0.0) + 4 * 100.0, rel=1e-5)
    free = torch.autograd.grad(family.loss(x, "model"), list(family.model["encoder"].parameters()))
    paid = vae(DIGIT, 20_000, latent=4)
    assert all(bool(g.isfinite().all()) for g in free)
    mean, log_std = paid.model["encoder"](paid.inputs(x))
    divergence = float(gaussian_divergence(mean, log_std).mean(dim=0).min().detach())
    assert losses_of(x, free_bits=0.5 * divergence) == pytest.approx(losses_of(x))  # a floor below changes nothing


def test_beta_zero_lets_the_divergence_grow_and_a_large_beta_makes_it_vanish() -> None:
    x, rates = events(TINY, 200), {}
    for beta in (0.0, 20.0):
        family = vae(TINY, beta=beta)
        train(family, x, 80)
        mean, log_std = family.model["encoder"](family.inputs(x))
        rates[beta] = float(gaussian_divergence(mean, log_std).sum(dim=1).mean().detach())
    assert rates[20.0] < 0.05 < 1.0 < rates[0.0]


# ---- a learned prior -------------------------------------------------------------------------------------


def test_a_learned_prior_bounds_the_same_evidence_that_it_samples_from() -> None:
    """By quadrature over a one-dimensional latent; and the training objective is the bound with one sample."""
    x = events(DIE, 300) // 2
    family = vae(DIE, latent=1, pseudo_inputs=4, importance_samples=2000)
    assert family.average.module["prior"].pseudo_inputs.shape == (4, 6)
    family.prepare(Toy(DIE, x[:3]))  # fewer events than pseudo-inputs: begun from the start again
    assert torch.equal(family.model["prior"].pseudo_inputs[3], family.model["prior"].pseudo_inputs[0])
    train(family, x, 100)
    z = torch.linspace(-8, 8, 1601)[:, None]
    networks = family.sampler
    with torch.no_grad():
        weights = family.log_prior(networks, z) + math.log(0.01)
        exact = torch.stack([
            torch.logsumexp(networks["decoder"].log_prob(e.expand(1601, 1), z) + weights, dim=0) for e in x[:40]
        ])  # fmt: skip
    assert float(family.log_prob(x[:40]).mean()) == pytest.approx(float(exact.mean()), abs=0.01)
    shares = torch.bincount(family.sample(20_000, generator=generator()).flatten().long(), minlength=6) / 20_000
    truth = torch.bincount(x.flatten().long(), minlength=6) / len(x)
    assert 0.5 * float((shares - truth).abs().sum()) < 0.08
    assert not torch.equal(family.model["prior"].pseudo_inputs[:, :6].detach(), family.inputs(x[:4]))  # it learns
    with pytest.raises(ValueError, match="no free bits with a learned prior"):
        vae(DIE, pseudo_inputs=4, free_bits=0.1)


def test_a_flow_as_prior_is_counted_and_draws_nothing_where_no_event_is_encoded() -> None:
    """Two far modes: what is decoded between their codes lies between them, unless the prior has no mass there."""
    x = torch.cat([0.1 * torch.randn(200, 2, generator=generator()) + side for side in (-4.0, 4.0)])
    between: dict[int, float] = {}
    for layers in (0, 6):
        family = vae(POINT, coupling_layers=layers, coupling_width=12)
        assert count_parameters(family.sampling_network) == pytest.approx(3000, rel=0.1)
        train(family, x, 600)
        drawn = family.sample(4000, generator=generator(1))
        between[layers] = float((drawn.abs() < 3.0).all(dim=1).float().mean())
    assert between[6] < 0.05 < 0.1 < between[0]
    for settings in ({"coupling_layers": 2, "pseudo_inputs": 4}, {"coupling_layers": 2, "free_bits": 0.1}):
        with pytest.raises(ValueError, match="not both above, and no free bits"):
            vae(POINT, **settings)
    with pytest.raises(ValueError, match="a prior of at most half of the 3000 parameters"):
        vae(POINT, coupling_layers=6, coupling_width=64)


# ---- learning and sampling -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "settings", "least"),
    [
        (DIGIT, {"batch_size": 16}, -6.0),
        (DIGIT, {"batch_size": 8, "body": "conv", "parameters": 6000}, -20.0),
        (GREY, {"batch_size": 32}, -14.0),
        (POINT, {"batch_size": 32}, -1.0),
    ],
    ids=["digits", "digits conv", "grey", "points"],
)
def test_learns_four_events_by_heart(event: Event, settings: dict[str, Any], least: float) -> None:
    """Discrete events: at best probability 1/4 each, which a normalised model's mean log-probability cannot pass."""
    x = events(event, 4)
    family = vae(event, **({"parameters": 12_000, "beta_warmup": 0.5} | settings))
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
    monkeypatch.setattr("genfam.families.vae.CHUNK", 4 * 40 * 3 * event.dimensions)  # several chunks, one unfinished
    state = torch.random.get_rng_state()
    first, again, other = (family.sample(100, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.shape == (100, *event.shape)
    assert first.dtype == (torch.float32 if event.levels is None else torch.uint8)
    assert int(first.max()) < (event.levels or 10**6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:50], first[50:])
    assert family.sample(0, generator=generator()).shape == (0, *event.shape)


def test_the_bound_repeats_and_leaves_the_global_random_state() -> None:
    family, x = vae(DIGIT, 20_000), events(DIGIT, 6)
    state = torch.random.get_rng_state()
    bound = family.log_prob(x)
    assert bound.shape == (6,)
    assert bool((bound < 0).all())
    assert torch.equal(bound, family.log_prob(x))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("latents", [100, 5000])
def test_chunks_of_events_and_of_importance_samples_add_up(latents: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer latents at once than one event has samples, and several events at once: the same exact evidence."""
    family, x = linear_gaussian(exact=True, samples=1024), torch.randn(7, 3, generator=generator())
    monkeypatch.setattr("genfam.families.vae.CHUNK", latents * 4 * 3)
    expected = evidence(x, torch.tensor([[1.0, 0.0], [0.0, 0.8], [0.0, 0.0]]))
    assert torch.allclose(family.log_prob(x), expected, atol=1e-3)


def test_weights_kept_and_loaded_give_the_same_samples() -> None:
    x = events(POINT, 200)
    trained = vae(POINT)
    train(trained, x, 20)
    torch.manual_seed(99)
    fresh = VAE(POINT, 3000, trained.optimisation, 64, latent=2, depth=2)
    assert not torch.equal(trained.sample(9, generator=generator()), fresh.sample(9, generator=generator()))
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(trained.sample(9, generator=generator()), fresh.sample(9, generator=generator()))
    assert torch.equal(trained.log_prob(x[:9]), fresh.log_prob(x[:9]))


def test_dropout_is_for_training_only() -> None:
    family, x = vae(DIE, dropout=0.5, ema=0.0), events(DIE, 50)
    family.train()
    assert torch.equal(family.log_prob(x), family.log_prob(x))
    assert family.model["decoder"].training  # as it was
    torch.manual_seed(0)
    with torch.no_grad():
        z = torch.ones(4, 2)
        assert not torch.equal(family.model["decoder"](z), family.model["decoder"](z))


@pytest.mark.parametrize("event", [POINT, DIE, TINY, GREY, DIGIT])
@pytest.mark.parametrize("budget", [8_000, 70_000, 200_000])
def test_both_networks_meet_the_budget(event: Event, budget: int) -> None:
    for body in ("mlp", "conv") if event.is_image and budget > 8_000 else ("mlp",):
        family = vae(event, budget, latent=16, body=body)
        assert family.sampling_network is family.model["decoder"]
        for network in family.model.values():
            assert abs(count_parameters(network) - budget) <= 0.1 * budget


def test_a_face_is_a_name_and_not_a_number() -> None:
    assert vae(DIE).inputs(torch.tensor([[4]], dtype=torch.uint8)).tolist() == [[0, 0, 0, 0, 1, 0]]
    grey = vae(DIGIT, 20_000).inputs(torch.tensor([0, 8, 16], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 8, 8))
    assert grey[:, 0].tolist() == [-1.0, 0.0, 1.0]


def test_refusals_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"body: expected mlp or .* conv, got 'conv'"):
        vae(POINT, body="conv")
    with pytest.raises(ValueError, match="importance_samples ≥ 1"):
        vae(POINT, importance_samples=0)
    with pytest.raises(ValueError, match="variance"):
        vae(POINT, variance="unit")


def test_the_configuration_builds() -> None:
    config = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[2] / "conf" / "family" / "vae.yaml"))
    assert isinstance(config, dict)
    for event in (POINT, DIE, TINY, GREY, DIGIT):
        family = build(config, event=event, parameters=70_000)
        assert isinstance(family, VAE)
        assert family.likelihood_kind is Likelihood.LOWER_BOUND
