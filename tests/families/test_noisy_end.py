"""A path that ends in noise gives a bound: normalised parts, and never more than the truth."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genfam.families.base import Optimisation
from genfam.families.codec import Codec
from genfam.families.flow_density import log_density
from genfam.families.flow_matching import FlowMatching
from genfam.families.noisy_end import NOISY_END, Spread, entropy, noisy
from genfam.networks.perceptron import Perceptron
from genfam.seeds import derived_generator
from genfam.types import Event

DIE = Event((1,), 6)
P = torch.tensor([0.4, 0.05, 0.05, 0.1, 0.1, 0.3])


class Exact(torch.nn.Module):
    """E[x_1 | x_t] for a die with the masses P: what a perfectly trained network would predict."""

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, 1), (B,) -> (B, 1)."""
        faces = Codec.centre(torch.arange(6), 6)
        error = (x - t[:, None] * faces) / (1 - t[:, None]).clamp_min(1e-3)
        posterior = torch.softmax(P.log() - 0.5 * error.square(), dim=1)
        return (posterior * faces).sum(dim=1, keepdim=True)


def flow(event: Event, prediction: str) -> FlowMatching:
    return FlowMatching(event, 2000, Perceptron(depth=1), Optimisation(ema=0.0), 8, prediction).eval()


def exact_flow() -> FlowMatching:
    family = flow(DIE, "data")
    family.model = Exact()
    return family


def test_the_bound_is_at_most_the_truth_and_near_it() -> None:
    """On 20,000 throws; false alarms below 1e-4 (four standard errors)."""
    x = torch.multinomial(P, 20_000, replacement=True, generator=derived_generator(0, "throws"))[:, None]
    found = exact_flow().log_prob(x.to(torch.uint8))
    truth = P.log()[x[:, 0]]
    gap = truth - found  # its mean is a divergence; single draws of the bound lie on both sides
    error = 4 * float(gap.std()) / math.sqrt(len(gap))
    assert -error < float(gap.mean()) < 0.35


def test_the_flow_up_to_the_noisy_end_has_the_density_of_the_noisy_data() -> None:
    family = exact_flow()
    z = torch.linspace(-1.5, 1.5, 31)[:, None]
    parts = torch.distributions.Normal(NOISY_END * Codec.centre(torch.arange(6), 6), 1 - NOISY_END)
    truth = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(P), parts).log_prob(z[:, 0])

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return family.velocity(t, x, family.predictor(None))

    assert torch.allclose(
        log_density(lambda rows: velocity, z, NOISY_END, derived_generator(0, "probe"))[0], truth, atol=5e-3
    )


def test_the_noisy_end_is_a_normal_of_known_entropy() -> None:
    """20,000 draws: moments within five standard errors, a false alarm in 1e-6."""
    drawn = noisy(torch.full((20_000,), 0.5), derived_generator(0, "noise"))
    assert float(drawn.mean()) == pytest.approx(0.5 * NOISY_END, abs=5 * (1 - NOISY_END) / 141)
    assert float(drawn.std()) == pytest.approx(1 - NOISY_END, abs=5 * (1 - NOISY_END) / 200)
    q = torch.distributions.Normal(torch.zeros(7), 1 - NOISY_END)
    assert entropy(7, NOISY_END) == pytest.approx(float(q.entropy().sum()), abs=1e-5)


def test_the_spread_is_normalised_and_learns_how_good_the_prediction_is() -> None:
    event, g = Event((1, 2, 2), 256), derived_generator(0, "spread")
    levels = torch.arange(256)[:, None, None, None]
    alone = Spread(Event((1, 1, 1), 256)).log_prob(levels, torch.full(levels.shape, 0.3))
    assert float(alone.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    x = torch.randint(256, (400, 1, 2, 2), generator=g)
    losses = []
    for error in (0.003, 0.1):
        predicted = Codec.centre(x, 256) + error * torch.randn(x.shape, generator=g)
        spread = Spread(event)
        before = float(spread.log_prob(x, predicted).mean())
        spread.fit(x, predicted)
        losses.append(float(spread.log_prob(x, predicted).mean()))
        assert losses[-1] > before
        normal = -4 * (0.5 * math.log(2 * math.pi * math.e) + math.log(error) - math.log(2 / 256))
        assert losses[-1] == pytest.approx(min(normal, 0.0), abs=1.2)  # logistics are no normals, levels no points
    assert losses[0] > losses[1]
    assert float((spread.log_scales.exp() * torch.softmax(spread.logits, 0)).sum()) == pytest.approx(0.055, rel=0.4)


def test_levels_with_a_predicting_network_are_bounded_by_it_and_nothing_else_is() -> None:
    assert exact_flow().likelihood_method == "path to t = 0.6"
    for event, prediction in ((DIE, "velocity"), (Event((2,)), "data")):
        assert flow(event, prediction).likelihood_method == ""
    x = torch.tensor([[0], [5]], dtype=torch.uint8)
    family = exact_flow()
    assert torch.equal(family.log_prob(x), family.log_prob(x))
