"""Guidance by clusters: where it goes in closed form, what it costs, and that no likelihood knows of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genfam.families.base import Optimisation
from genfam.families.flow_matching import UNTOLD, FlowMatching
from genfam.networks.velocity import CODE, DenseBlock, VelocityUNet
from genfam.seeds import derived_generator
from genfam.types import Event
from stand_ins import look_at

CENTRES = torch.tensor([[-2.0, 0.0], [1.0, 1.0], [1.0, -3.0]])
EVERYWHERE = torch.tensor([[0.3, -0.5]])  # what is told of no cluster
SPREAD = 0.4


class Towards(nn.Module):
    """Of N(c_k, s²), or of N(c, s²) where no cluster is told, in closed form: the velocity, or the predicted data."""

    def __init__(self, prediction: str) -> None:
        super().__init__()
        self.prediction, self.told = prediction, list[Tensor]()

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """(B, 2), (B,), (B,) -> (B, 2)."""
        self.told.append(label)
        t, centre = t[:, None], torch.cat([CENTRES, EVERYWHERE])[label]
        variance = (1 - t) ** 2 + (t * SPREAD) ** 2
        velocity = centre + (x - t * centre) * (t * SPREAD**2 - (1 - t)) / variance
        return velocity if self.prediction == "velocity" else x + (1 - t) * velocity


def make(guidance: float, **settings: Any) -> FlowMatching:
    torch.manual_seed(0)
    settings = {"depth": 1, "clusters": 3} | settings
    return FlowMatching(Event((2,)), 3000, Optimisation(ema=0.0), 64, guidance=guidance, **settings).eval()


@pytest.mark.parametrize("guidance", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_a_guided_flow_ends_beyond_its_cluster(prediction: str, guidance: float) -> None:
    """Both velocities are affine in their centres, so the guided one is that of N(c + guidance (c_k − c), s²).

    4,000 points a cluster: means and spreads within four standard errors.
    """
    family = make(guidance, prediction=prediction, solver="midpoint", steps=100)
    family.model = Towards(prediction)
    x = torch.randn(12_000, 2, generator=derived_generator(0, "noise"))
    label = torch.arange(3).repeat_interleave(4000)
    end = family.transport(x, label, guidance=guidance)
    means = EVERYWHERE + guidance * (CENTRES - EVERYWHERE)
    for k in range(3):
        own = end[label == k]
        if prediction == "velocity":  # the last step of the other goes to a prediction: a mean, with little spread
            assert torch.allclose(own.std(dim=0), torch.full((2,), SPREAD), atol=4 * SPREAD / (2 * 4000) ** 0.5 + 2e-3)
        assert torch.allclose(own.mean(dim=0), means[k], atol=4 * SPREAD / 4000**0.5 + 2e-3)


@pytest.mark.parametrize(("prediction", "calls"), [("velocity", 14), ("data", 13)])
def test_guidance_asks_the_network_twice(prediction: str, calls: int) -> None:
    for guidance, times in ((1.0, 1), (2.0, 2)):
        family = make(guidance, prediction=prediction, steps=7)
        family.model = Towards(prediction)
        family.sample(4, generator=derived_generator(0, "calls"))
        assert len(family.model.told) == family.evaluations_per_sample == times * calls
        family.choose_sampling(1)
        assert family.evaluations_per_sample == times * (2 if prediction == "velocity" else 1)


@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_what_an_adaptive_solver_asked_is_counted_and_a_likelihood_leaves_it(prediction: str) -> None:
    x = torch.randint(3, (300, 2), generator=derived_generator(0, "x"), dtype=torch.uint8)
    settings: dict[str, Any] = {"prediction": prediction, "solver": "dopri5", "clusters": 3, "depth": 1}
    family = FlowMatching(Event((2,), 3), 3000, Optimisation(ema=0.0), 64, guidance=2.0, **settings).eval()
    look_at(family, x)
    family.model = Towards(prediction)
    family.sample(4, generator=derived_generator(0, "calls"))
    asked = family.evaluations_per_sample
    assert len(family.model.told) == asked > 20
    family.log_prob(x[:5])
    assert family.evaluations_per_sample == asked


@pytest.mark.parametrize("body", ["mlp", "unet", "dit"])
@pytest.mark.parametrize("prediction", ["velocity", "data", "noise"])
def test_a_guided_network_of_each_body_learns_samples_and_guides_by_its_average(body: str, prediction: str) -> None:
    event, g = Event((1, 4, 4), 256), derived_generator(0, "x")
    settings: dict[str, Any] = {"body": body, "depth": 1, "clusters": 3, "loss_in": "velocity"}
    family = FlowMatching(event, 9000, Optimisation(ema=0.5), 64, guidance=2.0, prediction=prediction, **settings)
    x = torch.randint(256, (300, 1, 4, 4), generator=g, dtype=torch.uint8)
    look_at(family, x)
    family.total_updates = 6
    optimisers = family.configure_optimizers()
    for _ in range(4):
        family.update(x[:64], optimisers, lambda loss: loss.backward())
    state, label, t = torch.randn(3, 1, 4, 4, generator=g), torch.arange(3), torch.tensor(0.4)
    net = family.sampler
    assert net is family.average.module
    told, untold = (net(state, t.expand(3), label) for label in (label, torch.full((3,), 3)))
    assert not torch.allclose(told, untold)
    assert torch.allclose(family.predict(t, state, label, guidance=2.0), 2 * told - untold, atol=1e-6)
    assert family.sample(5, generator=g).shape == (5, 1, 4, 4)


def test_told_nothing_a_network_can_go_without_its_bottleneck() -> None:
    event, g = Event((1, 8, 8), 256), derived_generator(0, "x")
    settings: dict[str, Any] = {"body": "unet", "depth": 2, "clusters": 3, "bottleneck": 8, "patch": 2}
    torch.manual_seed(0)
    family = FlowMatching(
        event, 18_000, Optimisation(ema=0.0), 64, guidance=2.0, untold_bottleneck=False, **settings
    ).eval()
    net = family.model
    assert isinstance(net, VelocityUNet)
    for parameter in net.parameters():  # blocks begin as the identity
        torch.nn.init.normal_(parameter, std=0.2, generator=g)
    state, label, t = torch.randn(4, 1, 8, 8, generator=g), torch.arange(4), torch.full((4,), 0.4)
    whole = net(state, t, label)
    (dense,) = (block for block in net.below if isinstance(block, DenseBlock))
    with torch.no_grad():
        dense.exit.weight.zero_()
        dense.exit.bias.zero_()
    without = net(state, t, label)
    assert torch.equal(whole[3], without[3]) and not torch.isclose(whole[:3], without[:3]).all(dim=(1, 2, 3)).any()
    net(state, t, label)[3].sum().backward()
    assert dense.enter.weight.grad is not None and not dense.enter.weight.grad.any()


@pytest.mark.parametrize("changes", [{"body": "mlp"}, {"bottleneck": 0}, {"guidance": 1.0}])
def test_a_network_without_a_bottleneck_cannot_go_without_it(changes: dict[str, Any]) -> None:
    settings = {"body": "unet", "bottleneck": 8, "clusters": 3, "guidance": 2.0, "depth": 1} | changes
    with pytest.raises(ValueError, match="untold_bottleneck=false: expected body=unet with a bottleneck, and guidance"):
        FlowMatching(Event((1, 8, 8), 256), 20_000, Optimisation(), 64, untold_bottleneck=False, **settings)


def test_samples_are_guided_and_likelihoods_are_not() -> None:
    plain, guided = make(1.0), make(2.0)
    x = torch.randn(200, 2, generator=derived_generator(0, "x"))
    for family in (plain, guided):
        look_at(family, x)
        family.model = Towards("velocity")
    assert torch.equal(plain.log_prob(x), guided.log_prob(x))
    assert guided.likelihood_method == "own cluster of 3, without guidance"
    one, two = (f.sample(200, generator=derived_generator(0, "samples")) for f in (plain, guided))
    assert not torch.allclose(one, two, atol=0.1)
    assert torch.equal(one, guided.draw(200, derived_generator(0, "samples"), 1.0))


def test_the_bound_on_levels_is_that_of_the_unguided_flow() -> None:
    """Its spread is fitted to the model's own samples: to unguided ones."""

    class Flat(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
            return (0.2 * label.float() - 0.3).view(-1, 1, 1, 1).expand_as(x)

    def bound(guidance: float) -> Tensor:
        settings: dict[str, Any] = {"body": "unet", "depth": 1, "prediction": "data", "clusters": 3}
        event = Event((1, 4, 4), 256)
        family = FlowMatching(event, 3300, Optimisation(ema=0.0), 64, guidance=guidance, **settings).eval()
        look_at(family, x)
        family.model = Flat()
        return family.log_prob(x[:50])

    x = torch.randint(256, (300, 1, 4, 4), generator=derived_generator(0, "x"), dtype=torch.uint8)
    assert torch.equal(bound(1.0), bound(2.0))


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_training_hides_a_tenth_of_the_clusters(guidance: float) -> None:
    """20,000 events: four standard errors, an alarm in 1e-4 or less; none is hidden where sampling is not guided."""
    family = make(guidance)
    x = CENTRES.repeat_interleave(200, dim=0) + 0.1 * torch.randn(600, 2, generator=derived_generator(0, "x"))
    look_at(family, x)
    torch.manual_seed(0)
    events = x[torch.randint(600, (20_000,))]
    (known,), (told,) = family.label(events), family.told(events)
    hidden = told != known
    assert torch.all(told[hidden] == 3)
    expected = UNTOLD if guidance > 1 else 0.0
    assert float(hidden.float().mean()) == pytest.approx(expected, abs=4 * (UNTOLD * (1 - UNTOLD) / 20_000) ** 0.5)
    codes = family.model.label.codes.weight
    assert codes.shape == (3 + (guidance > 1), CODE)
    assert family.clusters is not None
    assert torch.equal(codes[:3], family.clusters.codes(CODE))
    assert not codes[3:].any(), "where nothing is told it begins with the average of all codes"


def test_the_loss_tells_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    family = make(1.5)
    network = Towards("velocity")
    monkeypatch.setattr(family.model, "forward", network.forward)
    look_at(family, torch.randn(300, 2))
    family.loss(torch.randn(2000, 2), "model")
    assert 100 < int((network.told[0] == 3).sum()) < 300


@pytest.mark.parametrize(("guidance", "clusters"), [(0.5, 3), (1.2, 0), (float("nan"), 3)])
def test_guidance_needs_clusters_and_does_not_lead_away(guidance: float, clusters: int) -> None:
    with pytest.raises(ValueError, match=rf"guidance: expected 1 .* got {guidance} and clusters={clusters}"):
        make(guidance, clusters=clusters)
