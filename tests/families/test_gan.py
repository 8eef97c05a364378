"""Adversarial losses against closed forms, and the two players."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from families.toys import train
from genfam.families.base import Optimisation
from genfam.families.gan import GAN, LOSSES, ProjectionCritic, adversarial_loss
from genfam.families.latents import Latent
from genfam.families.penalties import GradientPenalty
from genfam.families.players import Diverged
from genfam.networks.base import count_parameters
from genfam.networks.convolutional import Convolutional
from genfam.networks.embeddings import CODE
from genfam.networks.perceptron import Perceptron
from genfam.seeds import derived_generator
from genfam.types import Batch, Event


def make(**options: Any) -> GAN:
    torch.manual_seed(0)
    options = {
        "optimisation": Optimisation(betas=(0.0, 0.99), clip=None, warmup=0.0, ema=1.8),
        "batch_size": 32,
        "parameters": 3000,
        "latent": Latent(2),
        "network": Perceptron(depth=2, activation="leaky_relu", random_biases=True),
    } | options
    return GAN(Event((2,)), **options)


def events(n: int = 32) -> torch.Tensor:
    return torch.randn(n, 2, generator=derived_generator(0, "x"))


def test_losses_at_known_scores():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0])
    softplus = lambda v: math.log1p(math.exp(v))  # noqa: E731  (a formula)
    expected = {
        ("relativistic", "critic"): (softplus(-2) + softplus(0)) / 2,
        ("relativistic", "generator"): (softplus(2) + softplus(0)) / 2,
        ("non_saturating", "critic"): (softplus(-2) + softplus(0)) / 2 + softplus(0),
        ("non_saturating", "generator"): softplus(0),
        ("minimax", "critic"): (softplus(-2) + softplus(0)) / 2 + softplus(0),
        ("minimax", "generator"): -softplus(0),
        ("hinge", "critic"): 0.5 + 1.0,
        ("hinge", "generator"): 0.0,
        ("wasserstein", "critic"): -1.0,
        ("wasserstein", "generator"): 0.0,
    }
    assert {loss for loss, _ in expected} == set(LOSSES)
    for (loss, player), value in expected.items():
        assert float(adversarial_loss(loss, player, real, fake)) == pytest.approx(value, abs=1e-6), (loss, player)


@pytest.mark.parametrize("loss", LOSSES)
def test_players_pull_in_opposite_directions(loss):
    real = torch.zeros(4)
    fake = torch.full((4,), 0.1, requires_grad=True)
    pulls = [torch.autograd.grad(adversarial_loss(loss, p, real, fake), fake)[0] for p in ("critic", "generator")]
    assert bool((pulls[0] > 0).all()) and bool((pulls[1] < 0).all())


@pytest.mark.parametrize("packing", [1, 2])
def test_a_condition_is_scored_by_the_projection_on_its_code(packing):
    """D(x, c) = ψ(φ(x)) + φ(x) · V_c (Miyato & Koyama 2018, equation 3); of a pack, the sum of its codes."""
    torch.manual_seed(0)
    encoder = nn.Linear(2 * packing, 1 + CODE)
    critic = ProjectionCritic(encoder, classes=3, packing=packing)
    x, condition = torch.randn(4, 2 * packing), torch.randint(3, (4 * packing,))
    assert critic.codes is not None
    for row, score in enumerate(critic(x, condition)):
        own, features = encoder(x[row])[0], encoder(x[row])[1:]
        codes = [critic.codes.weight[c] for c in condition[packing * row : packing * (row + 1)]]
        assert torch.allclose(score, own + sum(features @ code for code in codes), atol=1e-5)
    unconditional = ProjectionCritic(nn.Linear(2, 1), classes=0)
    assert torch.equal(unconditional(x[:, :2]), unconditional.encoder(x[:, :2])[:, 0])


@pytest.mark.parametrize("kind", ["r1", "r1_r2", "wgan_gp"])
@pytest.mark.parametrize("packing", [1, 4])
def test_the_critics_loss_has_its_penalty_with_the_events_own_conditions(kind, packing):
    """Of a critic ½ x₁² Σ_j V_cj, whose gradient is by hand."""
    gan = make(penalty=GradientPenalty(kind, 0.3, interval=1), packing=packing, classes=3, loss="wasserstein")
    seen = []

    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach()[:, 0])
            return torch.cat([0 * x[:, :1], 0.5 * x[:, :1].square().expand(-1, CODE)], dim=1)

    gan.critic.encoder = Square()
    x, condition = events(), torch.arange(32) % 3
    losses = []
    for penalty in (GradientPenalty("none"), gan.penalty):
        gan.penalty = penalty
        torch.manual_seed(1)
        losses.append(gan.loss(Batch(x, condition), "critic"))
    codes = gan.critic.codes.weight.sum(dim=1)[condition].view(-1, packing).sum(dim=1)
    slope = seen[-1] * (codes.repeat(2) if kind == "r1_r2" else codes)
    expected = {
        "r1": 0.5 * 0.3 * slope.square().mean(),
        "r1_r2": 0.3 * slope.square().mean(),
        "wgan_gp": 0.3 * (slope.abs() - 1).square().mean(),
    }[kind]
    assert torch.allclose(losses[1] - losses[0], expected, rtol=1e-3)


def test_the_penalty_is_taken_when_it_is_due():
    gan = make(penalty=GradientPenalty(weight=0.1, final=0.001, interval=4))
    assert gan.flop_period == 4
    gan.total_updates = 100
    losses = []
    for gan.updates in (1, 2, 4, 40):
        torch.manual_seed(1)
        losses.append(float(gan.loss(Batch(events()), "critic").detach()))
    assert losses[0] == losses[1] != losses[2]
    assert losses[2] - losses[0] > 10 * (losses[3] - losses[0]) > 0  # γ has fallen 28-fold
    assert make(penalty=GradientPenalty("none")).flop_period == 1


def test_samples_are_drawn_in_bounded_passes(monkeypatch):
    gan, passes = make(), []
    gan.sampler.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    monkeypatch.setattr("genfam.families.base.SCALARS_AT_ONCE", 41)  # 20 events of two scalars
    assert gan.sample(50, generator=derived_generator(0, "z")).shape == (50, 2)
    assert passes == [20, 20, 10]


def test_a_temperature_multiplies_the_latent():
    gan = make(latent=Latent(1, 1))
    seen = []
    gan.sampler.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for temperature in (1.0, 0.5):
        gan.choose_sampling(temperature=temperature)
        gan.sample(20, generator=derived_generator(0, "z"))
    assert torch.equal(seen[1], 0.5 * seen[0])
    for impossible in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature: expected a positive number"):
            gan.choose_sampling(temperature=impossible)


def test_averages_only_the_generator_and_samples_from_the_average():
    gan = make()
    assert "average.module.body.enter.weight" in gan.state_dict()
    optimisers = gan.configure_optimizers()
    gan.total_updates = 5
    snapshots = []
    for _ in range(3):
        gan.update(Batch(events()), optimisers, torch.autograd.backward)
        snapshots.append(gan.generator.body.enter.weight.detach().clone())
    expected = snapshots[0]
    for snapshot in snapshots[1:]:
        expected = 0.9 * expected + 0.1 * snapshot
    assert torch.allclose(gan.sampler.body.enter.weight, expected, atol=1e-6)


def test_a_loss_that_is_not_finite_is_a_divergence_told_with_its_update():
    gan = make()
    gan.total_updates = 5
    optimisers = gan.configure_optimizers()
    with pytest.raises(Diverged, match=r"critic: loss nan.* at update 0 of 5"):
        gan.update(Batch(torch.full((32, 2), math.nan)), optimisers, torch.autograd.backward)


def test_learns_one_tight_gaussian():
    settings = Optimisation(betas=(0.0, 0.99), clip=None, warmup=0.0, ema=0.05)
    penalty = GradientPenalty(interval=1)
    gan = make(parameters=6000, penalty=penalty, batch_size=64, optimisation=settings)
    x = 1.0 + 0.2 * torch.randn(20_000, 2, generator=derived_generator(0, "data"))
    train(gan, x, 500)
    samples = gan.sample(4000, generator=derived_generator(0, "samples"))
    assert torch.allclose(samples.mean(dim=0), torch.ones(2), atol=0.1)
    assert torch.allclose(samples.std(dim=0), torch.full((2,), 0.2), atol=0.1)


@pytest.mark.parametrize("player", ["generator", "critic"])
def test_kinks_of_the_players_do_not_meet_in_the_origin(player):
    """A piecewise linear network without biases is homogeneous, f(a z) = a f(z): its samples lie on rays."""
    network = getattr(make(), player)
    z = torch.randn(64, 2, generator=derived_generator(0, "z"))
    bend = network(2 * z) - 2 * network(z) + network(0 * z)
    assert float(bend.detach().abs().mean()) > 0.1


def test_a_packed_critic_judges_events_of_one_kind_together():
    gan = make(packing=4)
    x = events()
    assert torch.equal(gan.packed(x)[1], x[4:8].flatten())  # PacGAN, figure 1
    assert gan.critic(gan.packed(x)).shape == (8,)
    assert all(math.isfinite(gan.loss(Batch(x), player).item()) for player in gan.players)
    assert 0 <= gan.diagnostics(Batch(x[:30]))["critic_accuracy"] <= 1  # the two left over are in no pack
    with pytest.raises(ValueError, match="divisor of the batch size 32, got 5"):
        make(packing=5)
    images = GAN(Event((3, 8, 8), 17), 3000, Convolutional(), Optimisation(), 8, Latent(4), packing=2)
    picture = torch.randint(17, (8, 3, 8, 8), dtype=torch.uint8)
    assert images.packed(picture).shape == (4, 6, 8, 8)
    assert math.isfinite(images.loss(Batch(picture), "critic").item())


def test_accuracy_is_the_share_of_pairs_that_the_critic_orders_rightly():
    gan = make()
    gan.generator.forward = lambda z, condition: torch.zeros(len(z), 2)
    gan.critic.forward = lambda x, condition: x[:, 0]
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
    assert gan.diagnostics(Batch(x)) == {"critic_accuracy": (2 + 0.5) / 4}


def test_players_are_as_wide_and_only_the_generators_parameters_are_the_budgets():
    gan = make(parameters=20_000)
    assert count_parameters(gan.generator) == pytest.approx(20_000, rel=0.1)
    assert gan.sampling_network is gan.generator
    assert gan.critic.encoder.body.enter.out_features == gan.generator.body.enter.out_features


def test_unknown_losses_name_the_known_ones():
    with pytest.raises(ValueError, match=r"loss: expected one of \['relativistic', .*\], got 'lsgan'"):
        make(loss="lsgan")
