"""What families of a field share: snapshots of their walks, and guidance, in closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families.closed_forms import Mixture, OfDiffusion, OfScore
from families.test_mean_flow import OfMean
from families.toys import Slices
from genfam.families.base import NothingToChoose, Optimisation
from genfam.families.diffusion import Diffusion
from genfam.families.field import FieldFamily
from genfam.families.flow_matching import FlowMatching
from genfam.families.gaussian import Gaussian
from genfam.families.mean_flow import MeanFlow
from genfam.families.paths import Uniform
from genfam.families.schedules import NoiseScales, VariancePreserving
from genfam.families.score import Score
from genfam.networks.perceptron import Perceptron
from genfam.seeds import derived_generator
from genfam.types import Event

KINDS: dict[str, Any] = {
    "diffusion": (Diffusion, {"schedule": VariancePreserving()}),
    "score": (Score, {"scales": NoiseScales()}),
    "mean_flow": (MeanFlow, {"times": Uniform()}),
}
POINT = Event((2,))
CENTRES = torch.tensor([[-2.0, 0.0], [1.0, 1.0], [1.0, -3.0], [0.3, -0.5]])  # the last given the null label
SPREAD = 0.3


def make(name: str, event: Event = POINT, dropout: float = 0.0, labels: bool = False, **more: Any) -> Any:
    kind, settings = KINDS[name]
    torch.manual_seed(0)
    classes = (3 + (dropout > 0)) if labels else 0
    family = kind(event, 3000, Perceptron(depth=1), Optimisation(ema=0.0), 8, classes=classes, **settings, **more)
    if labels:
        family.condition = Slices(3, dropout)
    return family.eval()


def of_normal(name: str, family: Any, centre: list[float]) -> nn.Module:
    truth = Mixture([1.0], [centre], [SPREAD])
    return OfDiffusion(truth, family) if name == "diffusion" else OfScore(truth, family)


@pytest.mark.parametrize("solver", ["ancestral", "ddim", "heun", "reverse_sde", "mean_flow"])
def test_states_lie_on_flow_matchings_path(solver: str) -> None:
    """Of N(m, s²) in units of its own: x_t ~ N(t m, (1 − t)² + t² s²) before the way back to those units.

    2,000 walks: means and spreads within four standard errors and the nearest time's distance (a false alarm in 1e-3).
    """
    name = {"ancestral": "diffusion", "ddim": "diffusion", "mean_flow": "mean_flow"}.get(solver, "score")
    knobs = {} if name == "mean_flow" else {"solver": solver, "steps": 100}
    family, centre = make(name, **knobs), [0.0, 0.0] if name == "mean_flow" else [1.0, -0.5]
    family.model = OfMean() if name == "mean_flow" else of_normal(name, family, centre)
    family.codec.mean.copy_(torch.tensor([3.0, 4.0]))
    family.codec.scale.fill_(2.0)
    times, n = (0.02, 0.3, 0.5, 0.9, 1.0), 2000
    states = family.snapshots(n, times, derived_generator(0, "states"), None)
    assert states.shape == (5, n, 2) and states.dtype == torch.float32 and not states.requires_grad
    for t, x in zip(times, states, strict=True):
        mean, width = t * torch.tensor(centre), ((1 - t) ** 2 + (t * SPREAD) ** 2) ** 0.5
        z = (x - torch.tensor([3.0, 4.0])) / 2.0
        assert torch.allclose(z.mean(dim=0), mean, atol=4 * width / n**0.5 + 0.004)
        assert torch.allclose(z.std(dim=0), torch.full((2,), width), atol=4 * width / (2 * n) ** 0.5 + 0.004)
    again = family.snapshots(n, times, derived_generator(0, "states"), None)
    assert torch.equal(states, again)


@pytest.mark.parametrize("name", KINDS)
def test_the_last_state_is_the_sample(name: str) -> None:
    """Of levels too: there the sample is the state, rounded to the middle of the nearest cell."""
    for event in (Event((2,)), Event((1, 4, 4), 17)):
        family = make(name, event)
        last = family.snapshots(6, [1.0], derived_generator(0, "draw"), None)[0]
        sample = family.sample(6, generator=derived_generator(0, "draw"))
        assert torch.equal(sample, last if event.levels is None else last.round().clamp(0, 16).to(torch.uint8))
    for times in ([], [0.0, 1.5]):
        with pytest.raises(ValueError, match="t: expected numbers from 0 to 1, got"):
            make(name).snapshots(3, times, derived_generator(0, "none"), None)


@pytest.mark.parametrize("steps", [1, 2])
def test_looking_on_changes_no_step_of_mean_flow(steps: int) -> None:
    """x_t = x_s + (t − s) u(x_s; s, t) from where the step begins, and the step ends where it would unseen."""
    family = make("mean_flow")
    family.choose_sampling(steps=steps)
    for parameter in family.model.parameters():
        nn.init.normal_(parameter, std=0.5)
    first, early, _, last = family.snapshots(6, [0.0, 0.25, 0.75, 1.0], derived_generator(0, "draw"))
    assert torch.equal(last, family.sample(6, generator=derived_generator(0, "draw")))
    with torch.no_grad():
        velocity = family.model(first, torch.tensor([0.0, 0.25]).expand(6, 2), None)
    assert torch.allclose(early, first + 0.25 * velocity)


@pytest.mark.parametrize("name", KINDS)
def test_states_are_given_a_condition(name: str) -> None:
    family = make(name, labels=True)
    for parameter in family.model.parameters():
        nn.init.normal_(parameter, std=0.2)
    one, other = (
        family.snapshots(4, [0.5, 1.0], derived_generator(0, "c"), value) for value in (0, torch.ones(4).long())
    )
    assert not torch.allclose(one[1], other[1])
    assert family.snapshots(4, [1.0], derived_generator(0, "c"), None).shape == (1, 4, 2)
    with pytest.raises(ValueError, match="condition: expected 0 to 2, got 3"):
        family.snapshots(4, [1.0], derived_generator(0, "c"), 3)


class Towards(nn.Module):
    """A network that knows N(c_k, s²) for each value k, and for the null label."""

    def __init__(self, name: str, family: Any, centres: Tensor) -> None:
        super().__init__()
        self.each = nn.ModuleList(of_normal(name, family, centre) for centre in centres.tolist())
        self.told: list[int] = []

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.told.append(int(condition[0]))
        every = torch.stack([one(x, t) for one in self.each])
        return every[condition, torch.arange(len(x))]


@pytest.mark.parametrize("away_from", ["null label", "weaker model"])
@pytest.mark.parametrize("name", ["diffusion", "score"])
def test_a_guided_walk_ends_beyond_its_centre(name: str, away_from: str) -> None:
    """All predictions are affine in their centres, so the guided one is that of N(w + guidance (c_k − w), s²).

    500 points a centre: means within four standard errors and the steps' own error (a false alarm in 1e-3).
    """
    family = make(name, dropout=0.1, labels=True, **({"solver": "ddim", "steps": 40} if name == "diffusion" else {}))
    family.model, weak = Towards(name, family, CENTRES), CENTRES[3].expand(3, 2)
    if away_from == "weaker model":
        weaker, weak = make(name, labels=True), 0.5 * CENTRES[:3] + 0.2
        weaker.model = Towards(name, weaker, weak)
        family.guide_by(weaker)
    values = torch.arange(3).repeat_interleave(500)
    for guidance in (1.0, 2.0):
        family.choose_sampling(guidance=guidance)
        family.model.told.clear()
        end = family.sample(1500, generator=derived_generator(0, "guided"), condition=values)
        mean = weak + guidance * (CENTRES[:3] - weak)
        assert torch.allclose(end.view(3, 500, 2).mean(dim=1), mean, atol=4 * SPREAD / 500**0.5 + 0.02)
        networks = 1 + (guidance > 1 and away_from == "null label")
        assert len(family.model.told) == family.evaluations_per_sample / (2 if guidance > 1 else 1) * networks


@pytest.mark.parametrize("name", KINDS)
def test_guidance_changes_samples_and_no_likelihood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genfam.families.flow_density.MOST_STEPS", 20)
    family: FieldFamily = make(name, dropout=0.1, labels=True)
    for parameter in family.model.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(5, 2, generator=derived_generator(0, "x"))

    def seen() -> tuple[Tensor, Any]:
        scored = None if name == "mean_flow" else family.log_prob(x)
        return family.sample(50, generator=derived_generator(0, "samples"), condition=1), scored

    plain, work = seen(), family.evaluations_per_sample
    family.choose_sampling(guidance=2.0)
    led = seen()
    assert family.evaluations_per_sample == 2 * work
    assert name == "mean_flow" or torch.equal(plain[1], led[1])
    assert not torch.allclose(plain[0], led[0])


@pytest.mark.parametrize("name", KINDS)
def test_a_weaker_model_is_of_the_same_kind_and_no_part_of_the_stronger_one(name: str) -> None:
    family = make(name)
    before = set(family.state_dict())
    family.guide_by(make(name))
    assert set(family.state_dict()) == before
    family.choose_sampling(guidance=1.5)
    others = [make(other) for other in KINDS if other != name]
    others += [Gaussian(Event((2,))), make(name, Event((3,))),
               FlowMatching(Event((2,)), 3000, Perceptron(depth=1), Optimisation(), 8)]  # fmt: skip
    others += [make(name, prediction="data")] if name == "diffusion" else []
    for other in others:
        with pytest.raises(ValueError, match=r"guide: expected a model of the same kind \("):
            family.guide_by(other)
    with pytest.raises(ValueError, match="guide: expected 0 classes or none, got 3"):
        family.guide_by(make(name, labels=True))
    with pytest.raises(NothingToChoose, match="Gaussian has no guidance"):
        Gaussian(Event((2,))).guide_by(family)
    for impossible in (0.5, float("nan")):
        with pytest.raises(ValueError, match=r"guidance: expected 1 \(none\) or more"):
            family.choose_sampling(guidance=impossible)
