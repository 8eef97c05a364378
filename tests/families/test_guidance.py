"""Guidance: where it leads in closed form, what it costs, and that no likelihood knows of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families.toys import Slices, train
from genfam.families.base import NothingToChoose, Optimisation
from genfam.families.flow_matching import FlowMatching
from genfam.families.gaussian import Gaussian
from genfam.families.guidance import guided
from genfam.families.paths import PREDICTIONS
from genfam.families.solvers import Solver
from genfam.networks.base import Network
from genfam.networks.dit import DiT
from genfam.networks.perceptron import Perceptron
from genfam.networks.unet import UNet
from genfam.seeds import derived_generator
from genfam.types import Event

CENTRES = torch.tensor([[-2.0, 0.0], [1.0, 1.0], [1.0, -3.0]])
EVERYWHERE = torch.tensor([[0.3, -0.5]])  # where the null label lies
SPREAD = 0.4


class Towards(nn.Module):
    """Of N(c_k, s²), or of N(c, s²) given the null label, in closed form: the velocity, or the predicted data."""

    def __init__(self, prediction: str = "velocity", centres: Tensor | None = None) -> None:
        super().__init__()
        self.prediction, self.told = prediction, list[Tensor]()
        self.centres = torch.cat([CENTRES, EVERYWHERE]) if centres is None else centres

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """(B, 2), (B,), (B,) -> (B, 2)."""
        self.told.append(condition)
        t, centre = t[:, None], self.centres[condition]
        variance = (1 - t) ** 2 + (t * SPREAD) ** 2
        velocity = centre + (x - t * centre) * (t * SPREAD**2 - (1 - t)) / variance
        return velocity if self.prediction == "velocity" else x + (1 - t) * velocity


def make(dropout: float = 0.1, prediction: str = "velocity", **solver: Any) -> FlowMatching:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"prediction": prediction, "solver": Solver(**solver)}
    family = FlowMatching(
        Event((2,)), 3000, Perceptron(depth=1), Optimisation(ema=0.0), 64, classes=3 + (dropout > 0), **settings
    )
    family.condition = Slices(3, dropout)
    family.model = Towards(prediction)
    return family.eval()


def test_guidance_is_a_straight_line_from_the_weak_one_through_the_strong_one() -> None:
    x, t = torch.randn(4, 2, generator=derived_generator(0, "x")), torch.rand(4)
    strong, weak = (lambda x, t: 2 * x + t[:, None]), (lambda x, t: x.square())
    assert guided(strong, weak, 1.0) is strong
    for weight in (0.0, 1.5, 3.0):
        expected = weak(x, t) + weight * (strong(x, t) - weak(x, t))
        assert torch.equal(guided(strong, weak, weight)(x, t), expected)


@pytest.mark.parametrize("guidance", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("prediction", ["velocity", "data"])
@pytest.mark.parametrize("away_from", ["null label", "weaker model"])
def test_a_guided_flow_ends_beyond_its_centre(prediction: str, guidance: float, away_from: str) -> None:
    """Both velocities are affine in their centres, so the guided one is that of N(w + guidance (c_k − w), s²).

    4,000 points a centre: means and spreads within four standard errors, a false alarm in 1e-3.
    """
    family, weak = make(prediction=prediction, method="midpoint", steps=50), EVERYWHERE.expand(3, 2)
    if away_from == "weaker model":
        weaker, weak = make(dropout=0.0, prediction=prediction), 0.5 * CENTRES + 0.2
        weaker.model = Towards(prediction, weak)
        family.guide_by(weaker)
    x = torch.randn(12_000, 2, generator=derived_generator(0, "noise"))
    values = torch.arange(3).repeat_interleave(4000)
    end = family.transport(x, values, guidance)
    for k in range(3):
        own, mean = end[values == k], weak[k] + guidance * (CENTRES[k] - weak[k])
        if prediction == "velocity":  # the last step of the other goes to a prediction: a mean, with little spread
            assert torch.allclose(own.std(dim=0), torch.full((2,), SPREAD), atol=4 * SPREAD / (2 * 4000) ** 0.5 + 2e-3)
        assert torch.allclose(own.mean(dim=0), mean, atol=4 * SPREAD / 4000**0.5 + 2e-3)


@pytest.mark.parametrize(("prediction", "calls"), [("velocity", 14), ("data", 13)])
def test_guidance_asks_the_network_twice(prediction: str, calls: int) -> None:
    family = make(prediction=prediction, steps=7)
    for guidance, times in ((1.0, 1), (2.0, 2)):
        family.choose_sampling(guidance=guidance)
        family.model.told.clear()
        family.sample(4, generator=derived_generator(0, "calls"), condition=1)
        assert len(family.model.told) == family.evaluations_per_sample == times * calls
        assert {int(values[0]) for values in family.model.told} == ({1} if times == 1 else {1, 3})


@pytest.mark.parametrize("network", [Perceptron(depth=1), UNet(depth=1), DiT(depth=1)], ids=["mlp", "unet", "dit"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_each_network_learns_with_hidden_values_and_is_guided_by_its_average(network: Network, prediction: str) -> None:
    event, g = Event((1, 4, 4), 256), derived_generator(0, "x")
    x = torch.randint(256, (300, 1, 4, 4), generator=g, dtype=torch.uint8)
    condition = Slices(3, dropout=0.1)
    source: Any = SimpleNamespace(train=x)
    condition.fit(source)
    torch.manual_seed(0)
    family = FlowMatching(event, 9000, network, Optimisation(ema=0.5), 64, prediction, classes=condition.codes)
    family.condition = condition
    train(family, x, 4, condition.of(x))
    state, values, t = torch.randn(3, 1, 4, 4, generator=g), torch.arange(3), torch.full((3,), 0.4)
    net = family.sampler
    assert net is family.average.module
    told, untold = (net(state, t, seen) for seen in (values, torch.full((3,), 3)))
    assert not torch.allclose(told, untold)
    assert torch.allclose(family.predictor(values, 2.0)(state, t), 2 * told - untold, atol=1e-6)
    family.choose_sampling(guidance=2.0)
    assert family.sample(5, generator=g).shape == (5, 1, 4, 4)


def test_samples_are_guided_and_likelihoods_are_not() -> None:
    family, x = make(), torch.randn(50, 2, generator=derived_generator(0, "x"))
    plain = family.sample(200, generator=derived_generator(0, "samples")), family.log_prob(x)
    family.choose_sampling(guidance=2.0)
    led = family.sample(200, generator=derived_generator(0, "samples")), family.log_prob(x)
    assert torch.equal(plain[1], led[1])
    assert not torch.allclose(plain[0], led[0], atol=0.1)


def test_the_bound_on_levels_is_that_of_the_unguided_flow() -> None:
    """Its spread is fitted to the model's own samples: to unguided ones."""

    class Flat(nn.Module):
        def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
            return (0.2 * condition.float() - 0.3).view(-1, 1).expand_as(x)

    family = FlowMatching(Event((2,), 256), 3000, Perceptron(depth=1), Optimisation(ema=0.0), 64, "data", classes=4)
    family.condition, family.model = Slices(3, dropout=0.1), Flat()
    x = torch.randint(256, (50, 2), generator=derived_generator(0, "x"), dtype=torch.uint8)
    plain = family.eval().log_prob(x)
    family.choose_sampling(guidance=2.0)
    assert torch.equal(plain, family.log_prob(x))


def test_guidance_needs_something_to_lead_away_from() -> None:
    family = make(dropout=0.0)
    with pytest.raises(ValueError, match=r"guidance: expected a model .* condition.dropout above 0, or a weaker run"):
        family.choose_sampling(guidance=1.5)
    family.guide_by(make(dropout=0.0))
    family.choose_sampling(guidance=1.5)
    for impossible in (0.5, float("nan")):
        with pytest.raises(ValueError, match=r"guidance: expected 1 \(none\) or more"):
            make().choose_sampling(guidance=impossible)


def test_a_weaker_model_is_of_the_same_event_and_prediction_and_no_part_of_the_stronger_one() -> None:
    family = make()
    before = set(family.state_dict())
    family.guide_by(make())
    assert set(family.state_dict()) == before
    for other in (make(prediction="data"), Gaussian(Event((2,)))):
        with pytest.raises(ValueError, match=r"guide: expected a model of the same kind .FlowMatching, .*velocity"):
            family.guide_by(other)
    with pytest.raises(NothingToChoose, match="Gaussian has no guidance"):
        Gaussian(Event((2,))).guide_by(family)
