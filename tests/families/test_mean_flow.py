"""Mean flow: the identity in closed form, its derivative on every network, and one step against many."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families.toys import train
from genfam.families.base import Optimisation
from genfam.families.mean_flow import MeanFlow, identity
from genfam.families.paths import LogitNormal, Uniform
from genfam.networks.base import Network, count_parameters
from genfam.networks.dit import DiT
from genfam.networks.interval import ElementaryNorm, IntervalFeatures, of_interval
from genfam.networks.perceptron import Perceptron
from genfam.networks.unet import UNet
from genfam.seeds import derived_generator
from genfam.types import Batch, Event, Likelihood

POINT = Event((2,))
NETWORKS: dict[str, tuple[Network, tuple[int, ...]]] = {
    "perceptron": (Perceptron(depth=2), (3,)),
    "unet": (UNet(depth=2, patch=2, bottleneck=8), (1, 8, 8)),
    "dit": (DiT(depth=2), (1, 8, 8)),
}
S = 0.3  # of data N(0, S²)


def make(event: Event = POINT, network: Network | None = None, **options: Any) -> MeanFlow:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"optimisation": Optimisation(ema=0.0), "batch_size": 64, "times": Uniform()}
    return MeanFlow(event, 5000, network or Perceptron(depth=2), **(settings | options)).eval()


def width(t: Tensor) -> Tensor:
    return ((1 - t).square() + (t * S).square()).sqrt()


def velocity(x: Tensor, t: Tensor) -> Tensor:
    return x * ((t * S**2 - (1 - t)) / width(t).square())[:, None]


def average(x: Tensor, t: Tensor, end: Tensor) -> Tensor:
    """The flow of Gaussian to Gaussian carries x to x · width(end) / width(t): the rest is division."""
    return x * ((width(end) / width(t) - 1) / (end - t))[:, None]


class OfMean(nn.Module):
    """What a perfectly trained network says."""

    def forward(self, x: Tensor, times: Tensor, condition: Tensor | None = None) -> Tensor:
        t, end = times.unbind(dim=1)
        return average(x, t, end)


def test_the_average_velocity_of_a_gaussian_fulfils_the_identity() -> None:
    """Both sides in float64, and both the integral of the velocity along the path, by Simpson's rule."""
    g = derived_generator(0, "x")
    x, t = torch.randn(64, 2, generator=g, dtype=torch.float64), torch.rand(64, generator=g, dtype=torch.float64)
    end = t + (1 - t) * torch.rand(64, generator=g, dtype=torch.float64).clamp(min=0.05)
    u, right = identity(lambda x, t: average(x, t, end), x, velocity(x, t), t, end)
    assert torch.allclose(u, right, atol=1e-12)
    shares = torch.linspace(0, 1, 201, dtype=torch.float64)
    simpson = torch.tensor([1.0, *([4.0, 2.0] * 99), 4.0, 1.0], dtype=torch.float64) / 600
    integral = torch.zeros_like(x)
    for share, weight in zip(shares, simpson, strict=True):
        now = t + share * (end - t)
        integral += weight * velocity(x * (width(now) / width(t))[:, None], now)
    assert torch.allclose(u, integral, atol=1e-7)
    wrong = identity(lambda x, t: velocity(x, t), x, velocity(x, t), t, end)
    assert not torch.allclose(*wrong, atol=0.1)  # an instantaneous velocity does not fulfil it


@pytest.mark.parametrize("name", NETWORKS)
def test_the_derivative_is_that_of_finite_differences(name: str) -> None:
    """float64, central differences of 1e-5: to their own error."""
    network, shape = NETWORKS[name]
    torch.manual_seed(0)
    field = of_interval(network.field(shape, 8, 3)).double()
    for parameter in field.parameters():
        if not bool(parameter.any()):  # what begins as zeros would hide the rest
            nn.init.normal_(parameter, std=0.1)
    g = derived_generator(0, "x")
    x, v = (torch.randn(5, *shape, generator=g, dtype=torch.float64) for _ in range(2))
    t, end = torch.linspace(0.1, 0.5, 5).double(), torch.linspace(0.5, 1.0, 5).double()
    condition = torch.tensor([0, 1, 2, 0, 1])

    def model(x: Tensor, t: Tensor) -> Tensor:
        return field(x, torch.stack([t, end], dim=1), condition)

    u, right = identity(model, x, v, t, end)
    h = 1e-5
    slope = (model(x + h * v, t + h) - model(x - h * v, t - h)) / (2 * h)
    span = (end - t).view(-1, *[1] * len(shape))
    assert torch.allclose(u, model(x, t)) and bool((slope.abs() > 0.01).any())
    assert torch.allclose(right, v + span * slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_field_of_two_times_is_as_large_as_one_of_one_and_sees_both(name: str) -> None:
    network, shape = NETWORKS[name]
    torch.manual_seed(0)
    one, two = network.field(shape, 8), of_interval(network.field(shape, 8))
    assert count_parameters(one) == count_parameters(two) and set(dict(one.named_parameters())) == set(
        dict(two.named_parameters())
    )
    for parameter in two.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, t = torch.randn(3, *shape), torch.full((3,), 0.4)
    found = [two(x, torch.stack([start, end], dim=1)) for start, end in ((t, t), (t, t + 0.3), (t + 0.3, t + 0.6))]
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])
    with pytest.raises(ValueError, match="network: expected a field whose `time` makes features of it, got Linear"):
        of_interval(nn.Linear(2, 2))


def test_the_parts_of_a_field_of_two_times_are_what_they_replace() -> None:
    x = 3.0 + 2.0 * torch.randn(5, 4, 16, generator=derived_generator(0, "x"))
    for affine in (True, False):
        plain, own = nn.LayerNorm(16, elementwise_affine=affine), ElementaryNorm(16, elementwise_affine=affine)
        if affine:
            nn.init.normal_(plain.weight)
            nn.init.normal_(plain.bias)
            own.load_state_dict(plain.state_dict())
        assert torch.allclose(own(x), plain(x), atol=1e-5)
    features, times = IntervalFeatures(16), torch.rand(7, 2, generator=derived_generator(0, "t"))
    assert features(times).shape == (7, 16) and features.outputs == 16
    assert torch.equal(features(times)[:, :8], features(times + torch.tensor([0.0, 0.1]))[:, :8])


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_target_is_no_part_of_what_is_differentiated(power: float) -> None:
    """The loss's gradient by hand: u towards a fixed right-hand side, each event's error over a power of its size."""
    family, x1 = make(apart=1.0, power=power), torch.randn(32, 2, generator=derived_generator(0, "x"))
    for parameter in family.model.parameters():
        nn.init.normal_(parameter, std=0.2)
    torch.manual_seed(3)
    family.loss(Batch(x1), "model").backward()
    found = [p.grad.clone() for p in family.model.parameters() if p.grad is not None]
    family.zero_grad()
    torch.manual_seed(3)
    x0, first, second = torch.randn(32, 2), torch.rand(32), torch.rand(32)
    start, end = torch.minimum(first, second), torch.maximum(first, second)
    x = (1 - start[:, None]) * x0 + start[:, None] * x1

    def model(x: Tensor, t: Tensor) -> Tensor:
        return family.model(x, torch.stack([t, end], dim=1))

    u, right = identity(model, x, x1 - x0, start, end)
    errors = (u - right.detach()).square().mean(dim=1)
    (errors / (errors.detach() + 1e-3) ** power).mean().backward()
    assert all(map(torch.allclose, found, (p.grad for p in family.model.parameters() if p.grad is not None)))


def test_times_are_two_of_the_chosen_ones_apart_as_often_as_said() -> None:
    """10,000 events: the share within four standard errors (a false alarm in 1e-4)."""
    family = make(times=LogitNormal(0.4, 1.0), apart=0.25)
    seen: list[Tensor] = []
    torch.manual_seed(0)
    family.model.time.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        family.loss(Batch(torch.zeros(10_000, 2)), "model")
    start, end = (column.detach() for column in seen[0].unbind(dim=1))
    share = float((start < end).double().mean())
    assert bool((start <= end).all()) and abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 10_000)


def test_any_number_of_steps_of_an_exact_average_ends_at_the_same_place() -> None:
    family = make()
    family.model = OfMean()
    noise = torch.randn(100, 2, generator=derived_generator(0, "noise"))
    for steps in (1, 2, 4):
        family.choose_sampling(steps=steps)
        walked = list(family.walk(noise, family.predictor(None), derived_generator(0, "unused"), (0.3,)))
        assert len(walked) == steps + 2 and walked[0][0] == 0.0
        for t, x in walked:
            assert torch.allclose(x, noise * width(torch.tensor(t)), atol=1e-5)
        assert family.evaluations_per_sample == steps
    assert family.likelihood is Likelihood.NONE


def test_learns_a_shifted_gaussian_in_one_step() -> None:
    """p_data = N((1.5, −0.5), 0.25²). One step is narrow after so short a training (0.13; 0.22 after 3,000 updates)."""
    family = make(optimisation=Optimisation(learning_rate=3e-3), batch_size=128, times=Uniform(), apart=0.5)
    x = torch.tensor([1.5, -0.5]) + 0.25 * torch.randn(20_000, 2, generator=derived_generator(0, "data"))
    train(family, x, 400)
    for steps, narrowest in ((1, 0.09), (4, 0.17)):
        family.choose_sampling(steps=steps)
        samples = family.sample(4000, generator=derived_generator(0, "samples"))
        assert torch.allclose(samples.mean(dim=0), torch.tensor([1.5, -0.5]), atol=0.1)
        assert narrowest < float(samples.std(dim=0).min()) and float(samples.std(dim=0).max()) < 0.3
