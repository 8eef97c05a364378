"""The extrapolated Fréchet distance: unbiased under the null where the plain one is not, right on known Gaussians."""

import math
from types import SimpleNamespace

import pytest
import torch

from genfam.metrics.base import Evaluation
from genfam.metrics.extractors import Identity
from genfam.metrics.frechet import Moments, frechet
from genfam.metrics.frechet_infinity import FrechetInfinity, frechet_infinity, nested_moments
from genfam.types import Event


def pairs(shift: float, draws: int = 30, d: int = 16, n: int = 2000, m: int = 500):
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, d, generator=generator, dtype=torch.float64)
        yield x + shift / math.sqrt(d), torch.randn(m, d, generator=generator, dtype=torch.float64), generator


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_it_has_no_bias_where_the_plain_distance_has_one(shift):
    # Two Gaussians whose means are `shift` apart: the distance is shift². Fixed seeds; 4 standard errors, 6e-5.
    found = torch.tensor([[frechet_infinity(x, y, g), frechet(x, y)[0]] for x, y, g in pairs(shift)])
    mean, stderr = found.mean(dim=0) - shift**2, found.std(dim=0) / math.sqrt(len(found))
    assert abs(float(mean[0])) < 4 * float(stderr[0]) + 0.01  # what of the bias is not linear in 1/N
    assert float(mean[1]) > 0.15  # the planted positive: d / N of either set is not small


def test_nested_moments_are_those_of_the_first_rows():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    for size, found in zip((20, 30, 60), nested_moments(x, [20, 30, 60]), strict=True):
        plain = Moments.of(x[:size])
        assert torch.allclose(found.mean, plain.mean) and torch.allclose(found.covariance, plain.covariance)


def test_the_metric_is_seeded_and_its_error_is_about_right():
    values, errors = [], []
    for x, y, _ in pairs(1.0, draws=20, d=2):
        data = SimpleNamespace(name="points", event=Event((2,)), train=y, test=y)
        (found,) = FrechetInfinity().measure(Evaluation(data, x, y, Identity(), None, 3))
        assert found.estimate == FrechetInfinity().measure(Evaluation(data, x, y, Identity(), None, 3))[0].estimate
        values.append(found.estimate.value), errors.append(found.estimate.stderr)
    spread = float(torch.tensor(values).std())
    assert 0.6 * spread < sum(errors) / len(errors) < 1.7 * spread  # a standard deviation of 20 is 16 % uncertain


def test_too_few_events_are_refused_with_their_number():
    x = torch.zeros(20, 2)
    data = SimpleNamespace(name="points", event=Event((2,)), train=x, test=x)
    (found,) = FrechetInfinity().measure(Evaluation(data, x, x, Identity(), None, 0))
    assert found.estimate is None and "expected at least 100 events, got 20" in found.reason


def test_too_few_events_for_the_features_are_refused():
    x = torch.randn(300, 256, generator=torch.Generator().manual_seed(0))
    data = SimpleNamespace(name="points", event=Event((256,)), train=x, test=x)
    (found,) = FrechetInfinity().measure(Evaluation(data, x, x, Identity(), None, 0))
    assert found.estimate is None and "at least 1024 events for 256 features, got 300" in found.reason
