"""Observation models are distributions: they normalise, and they draw from what they say."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats

from genfam.networks.observation import (
    LEAST_LOG_STD,
    MOST_LOG_STD,
    Bernoulli,
    Categorical,
    Gaussian,
    LogisticMixture,
    Observation,
    bounded_log_std,
    observation_for,
)
from genfam.types import Event


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(observation: Observation, parameters: torch.Tensor, levels: int) -> torch.Tensor:
    """(1, P, 1) -> (L,) float64 probabilities of a one-dimensional event."""
    x = torch.arange(levels).to(torch.uint8)[:, None]
    return observation.log_prob(x, parameters.double().expand(levels, -1, -1)).exp()


def discrete(levels: int) -> list[Observation]:
    event = Event((1,), levels)
    return [Categorical(event), LogisticMixture(event, 1), LogisticMixture(event, 5)]


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("spread", [0.0, 1.0, 10.0])
def test_levels_sum_to_one(levels: int, which: int, spread: float) -> None:
    observation = discrete(levels)[which]
    parameters = spread * torch.randn(1, observation.parameters_per_dimension, 1, generator=generator())
    assert float(table(observation, parameters, levels).sum()) == pytest.approx(1.0, abs=1e-9)


def test_logistic_mixture_is_the_difference_of_cumulative_distributions() -> None:
    levels, mixtures = 9, 3
    observation = LogisticMixture(Event((1,), levels), mixtures)
    parameters = torch.randn(1, 3 * mixtures, 1, generator=generator(3)).double()
    logits, means, log_scales = (t.flatten().numpy() for t in observation._split(parameters))
    edges = [-math.inf, *[(2 * k + 1) / (levels - 1) - 1 for k in range(levels - 1)], math.inf]
    weights = torch.softmax(torch.tensor(logits), 0).numpy()
    expected = [
        sum(
            w * (stats.logistic.cdf(b, m, math.exp(s)) - stats.logistic.cdf(a, m, math.exp(s)))
            for w, m, s in zip(weights, means, log_scales, strict=True)
        )
        for a, b in pairwise(edges)
    ]
    assert table(observation, parameters, levels).tolist() == pytest.approx(expected, rel=1e-9)


def test_logistic_mixture_is_finite_and_has_gradients_far_from_the_event() -> None:
    observation = LogisticMixture(Event((1,), 256), 2)
    parameters = torch.tensor([0.0, 0.0, 40.0, 40.0, -30.0, -30.0]).view(1, 6, 1).repeat(3, 1, 1).requires_grad_()
    log_prob = observation.log_prob(torch.tensor([[0], [100], [255]], dtype=torch.uint8), parameters)
    log_prob.sum().backward()
    assert bool(log_prob.isfinite().all())
    assert bool(parameters.grad.isfinite().all())
    assert bool((parameters.grad[:2, 2] < 0).all())  # the mean of the nearer component must come down
    assert float(log_prob[2].detach()) == pytest.approx(0.0, abs=1e-6)  # the last bin reaches to infinity


def test_black_and_white_pixels_drive_no_scale_to_where_gradients_end() -> None:
    """Their best component has half of its mass in each edge bin, so its scale grows for ever."""
    observation = LogisticMixture(Event((1,), 256), 2)
    parameters = torch.tensor([0.0, 0.0, 0.0, 0.0, 130.0, 130.0]).view(1, 6, 1).requires_grad_()
    for level in (0, 100, 255):
        value = observation.log_prob(torch.tensor([[level]], dtype=torch.uint8), parameters)
        if level != 100:
            assert value.item() == pytest.approx(math.log(0.5), abs=1e-3)
        (gradient,) = torch.autograd.grad(value.sum(), parameters)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


def test_a_temperature_sharpens_what_is_drawn_and_its_probability_alike() -> None:
    """At half the temperature: weights squared, scales halved; 20,000 draws, a false alarm in 1,000 seeds."""
    levels, n = 9, 20_000
    observation = LogisticMixture(Event((1,), levels), 2)
    parameters = torch.randn(1, 6, generator=generator(4))
    probabilities = observation.log_prob_each(
        torch.arange(levels), parameters.expand(levels, -1), temperature=0.5
    ).exp()
    logits, means, log_scales = observation._split(parameters)
    expected = [2.0 * logits, means, log_scales - math.log(2.0)]
    for sharpened, value in zip(observation._split(parameters, 0.5), expected, strict=True):
        torch.testing.assert_close(sharpened, value)
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
    drawn = observation.sample(parameters.expand(n, -1), generator(5), temperature=0.5)
    counts = torch.bincount(drawn.long(), minlength=levels).numpy()
    expected_counts = n * torch.softmax(probabilities.double().log(), 0).numpy()
    assert stats.chisquare(counts, expected_counts).pvalue > 1e-3


def test_logistic_components_start_apart() -> None:
    observation = LogisticMixture(Event((1,), 256), 4)
    parameters = torch.zeros(1, 12, 1, requires_grad=True)
    observation.log_prob(torch.tensor([[40]], dtype=torch.uint8), parameters).sum().backward()
    assert len(set(parameters.grad[0, 4:8, 0].tolist())) == 4


@pytest.mark.parametrize("which", [0, 1, 2])
def test_frequencies_of_samples_match_the_probabilities(which: int) -> None:
    levels, n = 7, 20_000
    observation = discrete(levels)[which]
    parameters = torch.randn(1, observation.parameters_per_dimension, 1, generator=generator(5))
    samples = observation.sample(parameters.expand(n, -1, -1), generator(1))
    assert samples.dtype == torch.uint8
    assert samples.shape == (n, 1)
    observed = torch.bincount(samples.flatten().long(), minlength=levels).numpy()
    expected = table(observation, parameters, levels).numpy() * n
    assert expected.min() > 5
    assert stats.chisquare(observed, expected * n / expected.sum()).pvalue > 0.001
    # The same test notices another distribution: it can fail.
    wrong = table(observation, parameters + 0.3 * torch.randn(parameters.shape, generator=generator(6)), levels)
    assert stats.chisquare(observed, wrong.numpy() * n / float(wrong.sum())).pvalue < 1e-6


def test_bernoulli_agrees_with_torch_and_its_samples_with_it() -> None:
    event, n = Event((3,), 2), 20_000
    logits = torch.tensor([-2.0, 0.3, 60.0]).view(1, 1, 3)
    expected = torch.distributions.Bernoulli(logits=logits[0, 0].double())
    x = torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=torch.uint8)
    found = Bernoulli(event).log_prob(x, logits.double().expand(2, -1, -1))
    assert torch.allclose(found, expected.log_prob(x.double()).sum(dim=1))
    samples = Bernoulli(event).sample(logits.expand(n, -1, -1), generator(2))
    assert samples.dtype == torch.uint8
    assert torch.allclose(samples.double().mean(dim=0), expected.probs, atol=0.014)  # 4 standard errors: 1 in 5,000
    with pytest.raises(ValueError, match="2 levels"):
        Bernoulli(Event((1,), 3))


def test_an_impossible_level_is_never_drawn() -> None:
    observation = Categorical(Event((1,), 3))
    logits = torch.tensor([-math.inf, 0.0, -math.inf]).view(1, 3, 1).expand(5000, -1, -1)
    assert observation.sample(logits, generator()).unique().tolist() == [1]


@pytest.mark.parametrize("shape", [(2, 3), (3, 4, 4)])
def test_dimensions_are_independent_and_kept_apart(shape: tuple[int, ...]) -> None:
    """The log-probability of an event is the sum over its dimensions, each with its own parameters."""
    event = Event(shape, 40)
    for observation in (Categorical(event), LogisticMixture(event, 3)):
        count = observation.parameters_per_dimension
        parameters = torch.randn(5, count, *shape, generator=generator())
        x = torch.randint(40, (5, *shape), generator=generator(1)).to(torch.uint8)
        single = type(observation)(Event((1,), 40), *([3] if isinstance(observation, LogisticMixture) else []))
        flat = parameters.flatten(2).movedim(1, 2).reshape(-1, count, 1)
        expected = single.log_prob(x.reshape(-1, 1), flat).view(5, -1).sum(dim=1)
        assert torch.allclose(observation.log_prob(x, parameters), expected, rtol=1e-5)


def test_gaussian_is_scipys() -> None:
    observation = Gaussian(Event((3,)))
    parameters = torch.randn(6, 2, 3, generator=generator())
    x = torch.randn(6, 3, generator=generator(1))
    std = bounded_log_std(parameters[:, 1]).exp()
    expected = stats.norm.logpdf(x.numpy(), parameters[:, 0].numpy(), std.numpy()).sum(axis=1)
    assert observation.log_prob(x, parameters).numpy() == pytest.approx(expected, rel=1e-4)
    samples = observation.sample(parameters[:1].expand(20_000, -1, -1), generator(2))
    assert samples.dtype == torch.float32
    for j in range(3):
        mean, scale = float(parameters[0, 0, j]), float(std[0, j])
        assert stats.kstest(samples[:, j].numpy(), "norm", (mean, scale)).pvalue > 0.001
        assert stats.kstest(samples[:, j].numpy(), "norm", (mean + 0.1 * scale, scale)).pvalue < 1e-6


def test_the_likelihood_of_a_repeated_point_stays_finite() -> None:
    observation = Gaussian(Event((1,)))
    parameters = torch.tensor([0.0, -1e4]).view(1, 2, 1)
    limit = -LEAST_LOG_STD - 0.5 * math.log(2 * math.pi)
    assert float(observation.log_prob(torch.zeros(1, 1), parameters)) == pytest.approx(limit)


def test_the_event_chooses() -> None:
    assert isinstance(observation_for(Event((2,))), Gaussian)
    assert isinstance(observation_for(Event((1,), 2)), Bernoulli)
    assert isinstance(observation_for(Event((1,), 32)), Categorical)
    assert isinstance(observation_for(Event((1,), 33)), LogisticMixture)


def test_refusals_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="continuous"):
        Gaussian(Event((2,), 4))
    for model in (Categorical, LogisticMixture):
        with pytest.raises(ValueError, match="discrete"):
            model(Event((2,)))


def test_log_std_stays_between_its_bounds_and_is_the_networks_in_between():
    raw = torch.tensor([-1e4, -3.0, 0.0, 1e4], requires_grad=True)
    found = bounded_log_std(raw)
    values = found.detach()
    assert float(values[0]) == pytest.approx(LEAST_LOG_STD)
    assert float(values[1]) == pytest.approx(-3.0, abs=0.1)
    assert float(values[3]) == pytest.approx(MOST_LOG_STD, abs=1e-3)
    (slope,) = torch.autograd.grad(found.sum(), raw)
    assert bool((slope[1:3] > 0.5).all())
