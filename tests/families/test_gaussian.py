"""The closed-form floor against torch's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from families.toys import Slices
from genfam.families.gaussian import Gaussian
from genfam.seeds import derived_generator
from genfam.types import Event
from stand_ins import look_at

MIXING = torch.tensor([[2.0, 0.0], [1.0, 0.3]])


def points(n: int = 20_000) -> torch.Tensor:
    return torch.tensor([5.0, -3.0]) + torch.randn(n, 2, generator=derived_generator(0, "points")) @ MIXING.T


def normal(x: torch.Tensor) -> torch.distributions.MultivariateNormal:
    return torch.distributions.MultivariateNormal(x.mean(dim=0), torch.cov(x.T))


def test_it_is_the_gaussian_of_the_training_splits_moments() -> None:
    x, family = points(), Gaussian(Event((2,)))
    look_at(family, x)
    assert torch.allclose(family.log_prob(x[:50]), normal(x).log_prob(x[:50]), atol=1e-3)
    drawn = family.sample(20_000, generator=derived_generator(0, "samples"))  # five standard errors: alarm in 1e-6
    assert bool(((drawn.mean(dim=0) - x.mean(dim=0)).abs() < 5 * x.std(dim=0) / 141).all())
    assert torch.allclose(torch.cov(drawn.T), torch.cov(x.T), rtol=0.05)


@pytest.mark.parametrize("own", [True, False], ids=["own covariance", "shared covariance"])
def test_with_a_condition_there_is_one_per_value(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not own:
        monkeypatch.setattr("genfam.families.gaussian.OWN_COVARIANCE_UP_TO", 2)
    x, family = points(), Gaussian(Event((2,)), classes=3)
    family.condition = Slices(3)
    source: Any = SimpleNamespace(train=x)
    family.condition.fit(source)
    family.prepare(source)
    values = family.condition.of(x)
    means = torch.stack([x[values == value].mean(dim=0) for value in range(3)])
    within = x - means[values]
    for value in range(3):
        covariance = torch.cov((x[values == value] if own else within).T)
        truth = torch.distributions.MultivariateNormal(means[value], covariance).log_prob(x[:50])
        assert torch.allclose(family.log_prob(x[:50], condition=value), truth, rtol=1e-2, atol=1e-2)
        drawn = family.sample(4000, generator=derived_generator(0, "samples"), condition=value)
        assert bool(((drawn.mean(dim=0) - means[value]).abs() < 5 * covariance.diagonal().sqrt() / 63).all())


def test_levels_are_bounded_and_drawn_as_levels() -> None:
    event = Event((3,), 17)
    x = torch.randint(17, (500, 3), generator=derived_generator(0, "levels")).to(torch.uint8)
    family = Gaussian(event)
    look_at(family, x)
    assert bool((family.log_prob(x[:9]) < 0).all())
    drawn = family.sample(2000, generator=derived_generator(0, "samples")).float()
    assert drawn.mean() == pytest.approx(8.0, abs=0.5)
