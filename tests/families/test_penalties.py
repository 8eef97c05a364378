"""Gradient penalties against gradients by hand."""

import pytest
import torch
from torch import nn

from genfam.families.penalties import GradientPenalty, squared_gradient_norm
from genfam.seeds import derived_generator

WEIGHT = torch.tensor([3.0, -4.0])  # of norm 5


def linear(x):
    return x @ WEIGHT + 7.0


def quadratic(x):
    """Whose gradient at x is x."""
    return 0.5 * x.square().flatten(1).sum(dim=1)


def two(n: int = 5):
    g = derived_generator(0, "events")
    return torch.randn(n, 2, generator=g), 3.0 + torch.randn(n, 2, generator=g)


def test_gradient_norms_are_those_of_each_event():
    x = two()[0].view(5, 1, 2)
    assert torch.allclose(squared_gradient_norm(linear, x[:, 0]), torch.full((5,), 25.0))
    assert torch.allclose(squared_gradient_norm(quadratic, x), x.square().sum(dim=(1, 2)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("r1", lambda real, fake: 0.5 * real.square().sum(dim=1).mean()),
        ("r1_r2", lambda real, fake: 0.5 * (real.square().sum(dim=1).mean() + fake.square().sum(dim=1).mean())),
    ],
)
def test_r1_and_r2_are_half_the_squared_gradient_where_they_are_taken(kind, expected):
    real, fake = two()
    penalty = GradientPenalty(kind, weight=0.3, interval=1)
    assert torch.allclose(penalty(quadratic, real, fake, 0.0), 0.3 * expected(real, fake))


def test_wgan_gp_wants_a_gradient_of_norm_one_between_real_and_generated_events():
    real, fake = two()
    torch.manual_seed(0)
    penalty, seen = GradientPenalty("wgan_gp", weight=0.3, interval=1), []

    def score(x):
        seen.append(x.detach())
        return linear(x)

    assert float(penalty(score, real, fake, 0.0)) == pytest.approx(0.3 * (5.0 - 1.0) ** 2)
    share = (seen[0] - fake) / (real - fake)  # one place on each line
    assert torch.allclose(share[:, 0], share[:, 1], atol=1e-4)
    assert bool((share > -1e-4).all() and (share < 1 + 1e-4).all()) and float(share[:, 0].std()) > 0.1
    flat = penalty(lambda x: 0.0 * x.sum(dim=1), real, fake, 0.0)
    assert float(flat) == pytest.approx(0.3, rel=1e-4)  # and is finite where there is none


@pytest.mark.parametrize("kind", ["r1", "r1_r2", "wgan_gp"])
def test_a_penalty_has_a_gradient_by_the_critics_weights(kind):
    critic = nn.Linear(2, 1)
    loss = GradientPenalty(kind, interval=1)(lambda x: critic(x)[:, 0], *two(), 0.0)
    (slope,) = torch.autograd.grad(loss, critic.weight)
    assert slope.abs().sum() > 0


def test_its_weight_falls_geometrically_until_the_end_of_the_burn_in():
    falling = GradientPenalty(weight=0.1, final=0.001, burn_in=0.5)
    assert [falling.weight_at(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.1, 0.01, 0.001, 0.001])
    assert GradientPenalty(weight=0.1, final=0.001, burn_in=0.0).weight_at(0.0) == 0.001
    assert GradientPenalty(weight=0.1).weight_at(0.7) == 0.1
    real, fake = two()
    late, early = (falling(quadratic, real, fake, progress) for progress in (0.25, 0.0))
    assert torch.allclose(10 * late, early)


def test_a_lazy_penalty_is_rare_and_as_much_stronger():
    lazy, always = GradientPenalty(interval=4), GradientPenalty(interval=1)
    assert [lazy.is_due(updates) for updates in range(5)] == [True, False, False, False, True]
    assert lazy.period == 4 and always.period == 1 and GradientPenalty("none", interval=4).period == 1
    assert not GradientPenalty("none").is_due(0)
    real, fake = two()
    assert torch.allclose(lazy(quadratic, real, fake, 0.3), 4 * always(quadratic, real, fake, 0.3))


def test_refusals_say_what_was_expected():
    with pytest.raises(
        ValueError, match=r"penalty.kind: expected one of \['none', 'r1', 'r1_r2', 'wgan_gp'\], got 'r3'"
    ):
        GradientPenalty("r3")
    with pytest.raises(ValueError, match=r"penalty.interval: expected at least 1, got 0"):
        GradientPenalty(interval=0)
