"""Adversarial losses and penalties against closed forms."""

import math

import pytest
import torch
from torch import nn

from genfam.families.base import Diverged, Optimisation
from genfam.families.gan import GAN, LOSSES, adversarial_loss, squared_gradient_norm
from genfam.networks.embeddings import FourierFeatures
from genfam.seeds import derived_generator
from genfam.types import Event


def make(**options) -> GAN:
    torch.manual_seed(0)
    options = {
        "optimisation": Optimisation(betas=(0.0, 0.99), clip=None, warmup=0.0, ema=1.8), "batch_size": 32,
        "parameters": 3000, "latent": 2, "depth": 2,
    } | options  # fmt: skip
    return GAN(Event((2,)), **options)


def test_losses_at_known_scores():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0])
    softplus = lambda v: math.log1p(math.exp(v))  # noqa: E731  (a formula)
    expected = {
        ("relativistic", "critic"): (softplus(-2) + softplus(0)) / 2,
        ("relativistic", "generator"): (softplus(2) + softplus(0)) / 2,
        ("non_saturating", "critic"): (softplus(-2) + softplus(0)) / 2 + softplus(0),
        ("non_saturating", "generator"): softplus(0),
        ("hinge", "critic"): 0.5 + 1.0,
        ("hinge", "generator"): 0.0,
        ("wasserstein", "critic"): -1.0,
        ("wasserstein", "generator"): 0.0,
    }
    for (loss, player), value in expected.items():
        assert float(adversarial_loss(loss, player, real, fake)) == pytest.approx(value, abs=1e-6), (loss, player)


@pytest.mark.parametrize("loss", LOSSES)
def test_players_pull_in_opposite_directions(loss):
    real = torch.zeros(4)
    fake = torch.full((4,), 0.1, requires_grad=True)
    pulls = [torch.autograd.grad(adversarial_loss(loss, p, real, fake), fake)[0] for p in ("critic", "generator")]
    assert bool((pulls[0] > 0).all()) and bool((pulls[1] < 0).all())


def test_gradient_norm_of_a_linear_critic_is_its_weight():
    critic = nn.Linear(3, 1)
    x = torch.randn(7, 3, generator=derived_generator(0, "x"))
    assert torch.allclose(squared_gradient_norm(critic, x), critic.weight.square().sum().expand(7))


@pytest.mark.parametrize(
    ("penalty", "factor"),
    [("r1", lambda n: 0.5 * n), ("r1_r2", lambda n: n), ("wgan_gp", lambda n: (n**0.5 - 1) ** 2)],
)
def test_penalties_of_a_linear_critic(penalty, factor):
    gan = make(penalty=penalty, penalty_weight=0.3, penalty_final=None)
    gan.critic = nn.Linear(2, 1)
    square = float(gan.critic.weight.detach().square().sum())
    x = torch.randn(5, 2, generator=derived_generator(0, "x"))
    assert float(gan.gradient_penalty(x, x + 1).detach()) == pytest.approx(0.3 * factor(square), rel=1e-5)


def test_penalty_weight_falls_geometrically_and_is_lazy():
    gan = make(penalty_weight=0.1, penalty_final=0.001, penalty_burn_in=0.5, penalty_interval=4)
    gan.total_updates = 100
    weights = []
    for gan.updates in (0, 25, 50, 100):
        weights.append(gan.current_penalty_weight())
    assert weights == pytest.approx([0.1, 0.01, 0.001, 0.001])
    assert make(penalty_weight=0.1, penalty_final=0.001, penalty_burn_in=0.0).current_penalty_weight() == 0.001
    x = torch.randn(8, 2, generator=derived_generator(0, "x"))

    def critic_loss(at: int) -> float:
        gan.updates = at
        torch.manual_seed(1)
        return float(gan.loss(x, "critic").detach())

    assert critic_loss(1) == critic_loss(2) != critic_loss(4)


def test_samples_do_not_hang_on_the_chunks_they_are_drawn_in(monkeypatch):
    gan = make()
    whole = gan.sample(50, generator=derived_generator(0, "z"))
    passes = []
    gan.sampler.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    monkeypatch.setattr("genfam.families.gan.CHUNK", 41)  # 20 events of two scalars
    assert torch.allclose(gan.sample(50, generator=derived_generator(0, "z")), whole, atol=1e-6)
    assert passes == [20, 20, 10]


def test_spectral_norm_bounds_every_layer_of_the_critic_only():
    gan = make(spectral_norm=True)
    for _ in range(200):
        gan.critic(torch.zeros(1, 2))  # power iterations
    for module in gan.critic.modules():
        if isinstance(module, nn.Linear):
            assert float(torch.linalg.matrix_norm(module.weight.detach(), 2)) == pytest.approx(1.0, abs=0.02)
    assert all("parametrizations" not in name for name, _ in gan.generator.named_parameters())


def test_averages_only_the_generator_and_samples_from_the_average():
    gan = make()
    assert "average.module.body.enter.weight" in gan.state_dict()
    x = torch.randn(32, 2, generator=derived_generator(0, "x"))
    optimisers = gan.configure_optimizers()
    gan.total_updates = 5
    snapshots = []
    for _ in range(3):
        gan.update(x, optimisers, lambda loss: loss.backward())
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
        gan.update(torch.full((32, 2), math.nan), optimisers, lambda loss: loss.backward())


def test_learns_one_tight_gaussian():
    settings = Optimisation(betas=(0.0, 0.99), clip=None, warmup=0.0, ema=0.05)
    gan = make(parameters=10_000, penalty_interval=1, batch_size=128, optimisation=settings)
    gan.total_updates = 600
    optimisers = gan.configure_optimizers()
    g = derived_generator(0, "data")
    for _ in range(600):
        gan.update(1.0 + 0.2 * torch.randn(128, 2, generator=g), optimisers, lambda loss: loss.backward())
    gan.eval()
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


def test_event_scale_changes_what_the_players_see_and_not_what_comes_out():
    gan, large = make(), make(event_scale=3.0)
    with torch.no_grad():
        large.generator.body.exit.weight.mul_(3.0)
        large.generator.body.exit.bias.mul_(3.0)
    samples = [g.sample(50, generator=derived_generator(0, "z")) for g in (gan, large)]
    assert torch.allclose(*samples, atol=1e-5)
    seen = []
    large.critic.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(50, 2, generator=derived_generator(0, "x"))
    large.loss(x, "critic")
    assert torch.allclose(seen[0][:50], 3.0 * x)


def test_a_packed_critic_judges_events_of_one_kind_together():
    gan = make(packing=4)
    x = torch.randn(32, 2, generator=derived_generator(0, "x"))
    assert torch.equal(gan.packed(x)[1], x[4:8].flatten())  # PacGAN, figure 1
    assert gan.critic(gan.packed(x)).shape == (8, 1)
    assert all(math.isfinite(gan.loss(x, player).item()) for player in gan.players)
    assert 0 <= gan.diagnostics(x[:30])["critic_accuracy"] <= 1  # the two left over are in no pack
    with pytest.raises(ValueError, match="divisor of the batch size 32, got 5"):
        make(packing=5)
    images = GAN(
        Event((3, 8, 8), 17), 3000, Optimisation(ema=0.0), batch_size=8, latent=4, depth=1, body="conv", packing=2
    )
    picture = torch.randint(17, (8, 3, 8, 8), dtype=torch.uint8)
    assert images.packed(picture).shape == (4, 6, 8, 8)
    assert math.isfinite(images.loss(picture, "critic").item())


def test_latent_bits_are_corners_of_the_cube():
    gan = make(latent_bits=3)
    z = gan.draw_latent(4000, derived_generator(0, "z"))
    assert z.shape == (4000, 5)
    assert z[:, 2:].abs().eq(1).all()
    assert z[:, 2:].mean(dim=0).abs().max() < 4 / 4000**0.5  # false alarm below 2e-4
    assert not z[:, :2].abs().eq(1).any()
    assert gan.sample(7, generator=derived_generator(0, "s")).shape == (7, 2)


@pytest.mark.parametrize(("bits", "n"), [(3, 32), (3, 29), (6, 32)], ids=["whole", "five over", "too few"])
def test_balanced_bits_show_every_corner_equally_often_in_training_only(bits, n):
    gan = make(latent_bits=bits, balanced_bits=True, batch_size=n)
    seen = []
    gan.generator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for player in gan.players:
        gan.loss(torch.zeros(n, 2), player)
    for z in seen:
        assert z[:, 2:].abs().eq(1).all()
        counts = z[:, 2:].unique(dim=0, return_counts=True)[1]
        assert len(counts) == min(n, 2**bits)
        assert set(counts.tolist()) == {n // 2**bits, -(-n // 2**bits)} - {0}
    assert not torch.equal(seen[0][:, 2:], seen[1][:, 2:])  # in another order
    gan.sample(2**bits, generator=derived_generator(0, "z"))
    gan.diagnostics(torch.zeros(2**bits, 2))
    for z in seen[2:]:  # independent flips: all different has probability below 0.003
        assert len(z[:, 2:].unique(dim=0)) < 2**bits


def test_balanced_bits_are_fair_where_a_batch_cannot_have_every_corner():
    gan = make(latent_bits=6, balanced_bits=True)
    z = torch.cat([gan.draw_latent(8, derived_generator(i, "z"), balanced=True) for i in range(500)])[:, 2:]
    assert z.mean(dim=0).abs().max() < 4 / 4000**0.5  # false alarm below 4e-4
    for bits in (0, 17):
        with pytest.raises(ValueError, match=f"latent_bits: expected 1 to 16.*got {bits}"):
            make(latent_bits=bits, balanced_bits=True)


def test_a_critic_with_frequencies_sees_them_of_what_it_judges():
    gan = make(frequencies=5, frequency_scale=0.5, packing=2, event_scale=2.0)
    features, body = gan.critic.body
    x = torch.randn(32, 2, generator=derived_generator(0, "x"))
    seen = []
    body.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    gan.loss(x, "critic")
    pack = 2.0 * gan.packed(x)
    assert seen[0].shape == (32, 4 + 2 * 5)
    assert torch.allclose(seen[0][:16, :4], pack)
    assert torch.equal(features.frequencies, FourierFeatures(4, 5, 0.5).frequencies)  # the draw is architecture
    angles = 2 * math.pi * pack @ features.frequencies
    assert torch.allclose(seen[0][:16, 4:], torch.cat([angles.sin(), angles.cos()], dim=1), atol=1e-5)
    assert sum(p.numel() for p in gan.generator.parameters()) == sum(
        p.numel() for p in make(packing=2).generator.parameters()
    )
    with pytest.raises(ValueError, match="frequencies: expected body=mlp, got conv"):
        GAN(Event((1, 8, 8), 17), 3000, Optimisation(), batch_size=8, body="conv", frequencies=4)
    with pytest.raises(ValueError, match="frequencies: expected 0 or more, got -1"):
        make(frequencies=-1)
