"""Reflow: the teacher's pairs in closed form, straighter paths than flow matching's, and what both flows cost."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families.test_mean_flow import S, velocity
from families.toys import Slices, train
from genfam.families.base import Optimisation
from genfam.families.flow_matching import FlowMatching
from genfam.families.reflow import KEPT, Reflow
from genfam.families.solvers import Solver
from genfam.networks.perceptron import Perceptron
from genfam.running.flops import count_flops
from genfam.running.training import plan
from genfam.types import Batch, Event
from stand_ins import look_at

POINT = Event((2,))


def make(kind: type[FlowMatching] = Reflow, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(POINT, 5000, Perceptron(depth=2), Optimisation(learning_rate=3e-3), 128, **options).eval()


class OfGaussian(nn.Module):
    """The exact field from N(0, I) to N(0, S²), by any prediction."""

    def __init__(self, prediction: str) -> None:
        super().__init__()
        self.prediction = prediction

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        v = velocity(x, t)
        return {
            "velocity": v,
            "data": x + (1 - t)[:, None] * v,
            "noise": x - t[:, None] * v,
        }[self.prediction]


def planned(family: Reflow, updates: int = 1000) -> Reflow:
    look_at(family, torch.randn(500, 2))
    family.total_updates = updates
    return family


@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_pairs_are_the_ends_of_the_teachers_paths(prediction: str) -> None:
    """A Gaussian's flow is x ↦ S x; Heun's error falls with the square of the steps."""
    x = torch.linspace(-3, 3, 22).reshape(11, 2)
    errors = []
    for steps in (20, 40):
        family = planned(make(prediction=prediction, teacher=Solver("heun", steps)))
        family.teacher = OfGaussian(prediction)
        errors.append(float((family.taught(x, None) - S * x).abs().max()))
    assert errors[1] < 0.02  # of ends up to 0.9 away
    if prediction == "velocity":  # a prediction of the data ends with a step of another kind
        assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def test_one_step_after_reflow_lands_where_many_steps_of_flow_matching_do() -> None:
    """Two narrow clusters: one step of flow matching goes between them, whatever it learns."""
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(0, 2, (2000, 1), generator=generator) - 1
    x = torch.cat([signs, torch.zeros(2000, 1)], dim=1) + 0.05 * torch.randn(2000, 2, generator=generator)

    def between(family: FlowMatching, steps: int) -> float:
        family.choose_sampling(steps=steps)
        drawn = family.sample(1000, generator=torch.Generator().manual_seed(1))
        return float((drawn[:, 0].abs() < 0.5).double().mean())

    plain = make(FlowMatching, solver=Solver("euler", 1))
    train(plain, x, 1500)
    straight = make()
    train(straight, x, 1500)
    assert between(plain, 1) > 0.9 and between(plain, 50) < 0.1
    assert between(straight, 1) < 0.3


def test_the_teacher_is_the_average_at_the_change_and_stays() -> None:
    family = planned(make(first=0.5), updates=10)
    optimisers = family.configure_optimizers()
    batch = Batch(torch.randn(128, 2))
    for _ in range(5):
        family.update(batch, optimisers, torch.autograd.backward)
    assert not family.made
    reached = {name: value.clone() for name, value in family.sampler.state_dict().items()}
    for _ in range(5):
        family.update(batch, optimisers, torch.autograd.backward)
    kept = family.teacher.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in reached.items())
    assert not all(torch.equal(value, reached[name]) for name, value in family.sampler.state_dict().items())
    assert int(family.made) == 5 * 128 // 8
    assert not any(parameter.requires_grad for parameter in family.teacher.parameters())


def test_new_pairs_take_the_place_of_the_oldest() -> None:
    family = planned(make())
    family._make(KEPT - 2, None)
    oldest, last = family.starts[:2].clone(), family.starts[-2:].clone()
    family._make(4, None)
    assert int(family.made) == KEPT + 2
    assert not torch.equal(family.starts[:2], oldest) and not torch.equal(family.starts[-2:], last)
    torch.testing.assert_close(family.ends, family.taught(family.starts, None), atol=1e-5, rtol=1e-5)


def test_a_pair_keeps_the_value_that_it_was_made_for() -> None:
    family = make(first=0.0, classes=2)
    family.condition = Slices(2)
    family = planned(family)
    family.updates = 500
    values = torch.arange(128) % 2
    x0, x1, given = family.pairs(Batch(torch.randn(128, 2), values))
    assert given is not None and set(given.tolist()) == {0, 1}
    torch.testing.assert_close(x1, family.taught(x0, given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prediction", ["velocity", "data", "noise"])
def test_pairs_are_made_in_float32_and_without_dropout(prediction: str) -> None:
    torch.manual_seed(0)
    family = planned(Reflow(POINT, 5000, Perceptron(depth=2, dropout=0.5), Optimisation(), 128, prediction, first=0.0))
    with torch.no_grad():  # branches begin as zeros, where dropout would not show
        for parameter in family.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    family.in_bfloat16 = True
    family.train()
    family.update(Batch(torch.randn(128, 2)), family.configure_optimizers(), torch.autograd.backward)
    made = int(family.made)
    assert made == 16 and family.ends.dtype == torch.float32
    torch.testing.assert_close(family.ends[:made], family.taught(family.starts[:made], None), rtol=0, atol=0)


@pytest.mark.parametrize("prediction", ["velocity", "data"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_energy_is_that_of_the_steps_taken(prediction: str, steps: int) -> None:
    """Of one step it is the squared displacement; of more it is at least that, by Jensen's inequality."""
    family = planned(make(prediction=prediction))
    with torch.no_grad():
        for parameter in family.sampler.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    family.choose_sampling(steps=steps)
    x = torch.randn(50, 2)
    moved = (family.carry(x, torch.Generator()) - x).square().sum(dim=1)
    energy = family.path_energy(x, torch.Generator())
    if steps == 1:
        torch.testing.assert_close(energy, moved)
    else:
        assert bool((energy >= moved * (1 - 1e-5)).all()) and not torch.allclose(energy, moved)


def test_the_plan_counts_both_flows() -> None:
    """Of the second flow's updates each makes 128 / 8 pairs, with 2 evaluations in each of the teacher's 10 steps."""
    family = planned(make(first=0.25))
    data: Any = SimpleNamespace(train=torch.randn(500, 2))
    plan(family, data, 1e10)
    plain = make(FlowMatching)
    plain.prepare(data)
    plan(plain, data, 1e10)
    passes = count_flops(lambda: family.teacher(torch.zeros(16, 2), torch.zeros(16), None)) * 20
    assert family.flops_per_update == pytest.approx(plain.flops_per_update + 0.75 * passes, rel=1e-9)
    assert family.total_updates == int(1e10 / family.flops_per_update)


def test_what_training_alone_needs_is_not_sampled_from() -> None:
    family = make()
    assert family.of_training_only == {"teacher", "starts", "ends", "values", "made"}
