"""What all families share: the loop over players, the schedule, the average, and what a checkpoint holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from genfam.families.base import Family, Optimisation
from genfam.families.players import Diverged
from genfam.seeds import derived_generator, normal
from genfam.types import Batch, Event, Likelihood


class Pair(Family):
    """Two numbers: the first wants to be the events' mean, the second to be the first; samples are the second."""

    players = ("first", "second")
    likelihood = Likelihood.NONE

    def __init__(self, **settings: Any) -> None:
        super().__init__(Event((1,)), Optimisation(**settings), 4)
        self.register_players(first=nn.Linear(1, 1, bias=False), second=nn.Linear(1, 1, bias=False))
        for player in (self.first, self.second, self.average.module):
            nn.init.zeros_(player.weight)
        self.seen: list[tuple[str, bool, bool]] = []

    def loss(self, batch: Batch, player: str) -> Tensor:
        self.seen.append((player, self.first.weight.requires_grad, self.second.weight.requires_grad))
        wanted = batch.event.mean() if player == "first" else self.first.weight.sum()
        loss: Tensor = (getattr(self, player).weight.sum() - wanted).square()
        return loss

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        return self.sampler.weight.expand(n, 1) + 0.0 * normal((n, 1), self.device, generator)


def run(family: Pair, updates: int) -> None:
    family.total_updates = updates
    optimisers = family.configure_optimizers()
    for _ in range(updates):
        family.update(Batch(torch.full((4, 1), 3.0)), optimisers, torch.autograd.backward)


def test_each_player_is_updated_by_its_own_loss_while_the_others_are_held() -> None:
    family = Pair(learning_rate=0.05, warmup=0.0, ema=0.0)
    run(family, 400)
    assert family.seen[:2] == [("first", True, False), ("second", False, True)]
    assert float(family.first.weight.detach()) == pytest.approx(3.0, abs=0.05)
    assert float(family.second.weight.detach()) == pytest.approx(3.0, abs=0.2)
    assert family.updates == 400 and family.events_seen == 1600 and len(family.losses["second"]) == 400
    assert family.grad_norms["first"][0] == pytest.approx(2 * 3.0)  # of (w − 3)², before it is clipped
    with pytest.raises(ValueError, match=r"expected players \('first', 'second'\), got \('first',\)"):
        family.register_players(first=nn.Linear(1, 1))


def test_a_gradient_that_is_not_finite_ends_training() -> None:
    family = Pair()
    with pytest.raises(Diverged, match=r"first: loss nan, gradient norm nan at update 0 of 1"):
        family.update(Batch(torch.full((4, 1), float("nan"))), family.configure_optimizers(), torch.autograd.backward)


def test_samples_come_from_the_average_but_for_a_look_at_the_live_network() -> None:
    family = Pair(learning_rate=0.05, warmup=0.0, ema=0.5)
    run(family, 20)
    averaged = family.sample(2, generator=derived_generator(0, "s"))
    with family.without_average():
        live = family.sample(2, generator=derived_generator(0, "s"))
    assert float(live[0]) == float(family.second.weight.detach()) > float(averaged[0]) > 0.0
    assert torch.equal(averaged, family.sample(2, generator=derived_generator(0, "s")))


@pytest.mark.parametrize(
    ("decay", "middle"), [("cosine", 0.1 + 0.9 * 0.5), ("linear", 0.1 + 0.9 * 0.5), ("constant", 1.0)]
)
def test_the_learning_rate_rises_and_falls_as_the_schedule_says(decay: str, middle: float) -> None:
    schedule = Optimisation(warmup=0.2, decay=decay, final=0.1)
    assert schedule.factor(0.0) == 1e-3
    assert schedule.factor(0.1) == pytest.approx(0.5)
    assert schedule.factor(0.2) == pytest.approx(1.0)
    assert schedule.factor(0.6) == pytest.approx(middle)
    assert schedule.factor(1.0) == pytest.approx(1.0 if decay == "constant" else 0.1)
    with pytest.raises(ValueError, match=r"decay: expected one of \['constant', 'cosine', 'linear'\], got 'step'"):
        Optimisation(decay="step").factor(0.5)


def test_a_player_may_have_a_learning_rate_of_its_own() -> None:
    family = Pair(learning_rate=0.1, learning_rates={"second": 0.01})
    family.learning_rate_factor = 2.0
    assert [group["lr"] for one in family.configure_optimizers() for group in one.param_groups] == [0.2, 0.02]


def test_what_is_declared_is_saved_and_may_grow() -> None:
    family, other = Pair(), Pair()
    for one in (family, other):
        one.declare("scale", torch.ones(1), sampling=True)
        one.declare("replay", torch.zeros(0, 1), sampling=False)
    family.replay = torch.arange(5.0)[:, None]
    assert family.of_training_only == {"replay"}
    other.load_state_dict(family.state_dict())
    assert torch.equal(other.replay, family.replay)
