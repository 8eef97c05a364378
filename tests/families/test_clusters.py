"""Clusters as a discrete latent: found where they are, drawn by their shares, and p(k) p(x | k) at most p(x)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genfam.families.base import Optimisation
from genfam.families.clusters import Clusters
from genfam.families.codec import Codec
from genfam.families.flow_matching import FlowMatching
from genfam.networks.velocity import CODE, VelocityDiT, VelocityMLP, VelocityUNet
from genfam.saved import load_weights, sampling_weights
from genfam.seeds import derived_generator
from genfam.types import Event
from stand_ins import look_at

CENTRES = torch.tensor([[-3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
SHARES = torch.tensor([0.5, 0.3, 0.2])
SPREAD = 0.4  # 9 standard deviations between centres: no event is nearer to another


def planted(n: int) -> tuple[Tensor, Tensor]:
    """-> (n, 2) points and (n,) the centre of each, exactly by the shares."""
    labels = torch.repeat_interleave(torch.arange(3), (SHARES * n).long())
    g = derived_generator(0, "planted")
    labels = labels[torch.randperm(n, generator=g)]
    return CENTRES[labels] + SPREAD * torch.randn(n, 2, generator=g), labels


def make(train: Tensor, clusters: int, **settings: Any) -> FlowMatching:
    torch.manual_seed(0)
    optimisation = Optimisation(ema=settings.pop("ema", 0.0))
    family = FlowMatching(Event((2,)), 3000, optimisation, 64, depth=1, clusters=clusters, **settings)
    look_at(family, train)
    return family.eval()


def test_planted_clusters_are_found_with_their_shares() -> None:
    x, labels = planted(3000)
    clusters = Clusters(3, (2,))
    clusters.fit(x)
    found = clusters.assign(x)
    order = clusters.assign(CENTRES)
    assert torch.equal(order[labels], found), "each event with its own centre"
    assert torch.equal(clusters.shares[order], SHARES)
    for k in range(3):
        assert torch.allclose(clusters.means[order[k]], x[labels == k].mean(dim=0), atol=1e-5)
    again = Clusters(3, (2,))
    again.fit(x)
    assert torch.equal(again.means, clusters.means), "the same events give the same clusters"


def test_draws_follow_the_shares_and_nobody_meets_an_empty_cluster() -> None:
    """20,000 draws: four standard errors, an alarm in 1e-4 or less."""
    clusters = Clusters(4, (2,))
    clusters.shares.copy_(torch.tensor([0.5, 0.0, 0.3, 0.2]))
    clusters.means.copy_(torch.tensor([[-3.0, 0.0], [9.0, 9.0], [0.0, 3.0], [3.0, 0.0]]))
    draws = torch.bincount(clusters.draw(20_000, derived_generator(0, "draws")), minlength=4) / 20_000
    assert draws[1] == 0
    assert torch.all((draws - clusters.shares).abs() <= 4 * (clusters.shares * (1 - clusters.shares) / 20_000).sqrt())
    assert clusters.assign(torch.tensor([[9.0, 9.0]])).item() != 1


def test_codes_keep_what_is_near_what() -> None:
    """Distances among means on 3 axes of 40 are those among the codes, up to one scale; a network begins with them."""
    g = derived_generator(0, "codes")
    clusters = Clusters(12, (40,))
    basis = torch.linalg.qr(torch.randn(40, 3, generator=g)).Q.T
    clusters.means.copy_(torch.randn(12, 3, generator=g) @ basis + 5.0)
    codes = clusters.codes(3)
    ratio = torch.pdist(codes) / torch.pdist(clusters.means)
    assert torch.allclose(ratio, ratio.mean().expand_as(ratio), rtol=1e-3)
    assert float(codes.square().mean()) == pytest.approx(1.0, abs=1e-4)
    wide = clusters.codes(60)
    assert wide.shape == (12, 60)
    assert not wide[:, 40:].any()
    family = make(planted(3000)[0], 3)
    assert family.clusters is not None
    assert torch.equal(family.model.label.codes.weight, family.clusters.codes(CODE))


def test_more_clusters_than_events_are_refused() -> None:
    with pytest.raises(ValueError, match=r"clusters: expected at most as many as training events, 10, got 11"):
        Clusters(11, (2,)).fit(torch.randn(10, 2))


class OwnGaussian(nn.Module):
    """The closed-form velocity to N(c_k, s²) of the cluster that it is told."""

    def __init__(self, centres: Tensor, s: float) -> None:
        super().__init__()
        self.centres, self.s = centres, s

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """(B, 2), (B,), (B,) -> (B, 2)."""
        t, centre = t[:, None], self.centres[label]
        variance = (1 - t) ** 2 + (t * self.s) ** 2
        return centre + (x - t * centre) * (t * self.s**2 - (1 - t)) / variance


def test_likelihood_and_samples_of_a_mixture() -> None:
    """log p(k) + log N(x; c_k, s²), at most the mixture's density, and equal to it where components are far apart.

    12,000 samples: means and shares within four standard errors.
    """
    x, _ = planted(3000)
    family = make(x, 3, solver="midpoint", steps=40, likelihood_steps=80)
    assert family.clusters is not None
    scale = float(family.codec.scale)
    family.model = OwnGaussian(family.clusters.means.clone(), SPREAD / scale)
    family.eval()
    means = family.codec.decode(family.clusters.means)
    components = torch.distributions.Independent(torch.distributions.Normal(means, SPREAD), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(family.clusters.shares), components)
    found, truth = family.log_prob(x[:500]), mixture.log_prob(x[:500])
    assert torch.allclose(found, truth, atol=5e-3)
    between = (means[0] + means[1])[None] / 2  # two components say as much there: log 2 or so is lost, never gained
    assert float(family.log_prob(between)) < float(mixture.log_prob(between)) - 0.3
    samples = family.sample(12_000, generator=derived_generator(0, "samples"))
    drawn = family.clusters.assign(family.codec.encode_quietly(samples))
    for k in range(3):
        own, share = samples[drawn == k], float(family.clusters.shares[k])
        assert len(own) / 12_000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 12_000))
        assert torch.allclose(own.mean(dim=0), means[k], atol=4 * SPREAD / math.sqrt(len(own)))
        assert torch.allclose(own.std(dim=0), torch.full((2,), SPREAD), atol=4 * SPREAD / math.sqrt(2 * len(own)))


def test_training_tells_the_network_the_clusters_of_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = planted(3000)
    family = make(x, 3)
    told: list[Tensor] = []

    def spy(state: Tensor, t: Tensor, label: Tensor) -> Tensor:
        told.append(label)
        return torch.zeros_like(state)

    monkeypatch.setattr(family.model, "forward", spy)
    family.loss(x[:200], "model")
    order = family.label(CENTRES)[0]
    assert torch.equal(told[0], order[labels[:200]])


@pytest.mark.parametrize(
    "network",
    [
        lambda: VelocityMLP((1, 8, 8), 16, 2, classes=5),
        lambda: VelocityUNet((1, 8, 8), 8, 2, classes=5),
        lambda: VelocityDiT((1, 8, 8), 16, 2, 4, classes=5),
    ],
    ids=["mlp", "unet", "dit"],
)
def test_each_body_listens_to_the_label(network: Any) -> None:
    """Away from the zeros that it begins with, another label is another output, and each row has its own."""
    torch.manual_seed(0)
    net = network()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    x, t = torch.randn(1, 1, 8, 8).expand(5, -1, -1, -1), torch.full((5,), 0.3)
    out = net(x, t, torch.arange(5))
    assert torch.unique(out.flatten(1), dim=0).shape[0] == 5
    assert torch.allclose(net(x, t, torch.arange(4, -1, -1)).flip(0), out, atol=1e-5)


def test_clusters_are_saved_with_the_weights() -> None:
    x, _ = planted(3000)
    family, other = make(x, 3, ema=0.5), make(x.flip(1), 3, ema=0.5)
    optimisers = family.configure_optimizers()
    for step in range(3):
        family.update(x[64 * step : 64 * step + 64], optimisers, lambda loss: loss.backward())
    assert not torch.equal(*(draws(f) for f in (family, other)))
    load_weights(other, sampling_weights(family))
    assert torch.equal(*(draws(f) for f in (family, other)))
    assert torch.equal(*(f.log_prob(x[:20]) for f in (family, other)))


def draws(family: FlowMatching) -> Tensor:
    return family.sample(50, generator=derived_generator(0, "draws"))


def images(n: int) -> Tensor:
    """(n, 1, 10, 10) uint8, dark as digits are, in four kinds that overlap."""
    g = derived_generator(0, "images")
    bright = torch.rand(n, 1, 10, 10, generator=g)
    kind = torch.randint(4, (n, 1, 1, 1), generator=g)
    where = torch.arange(100).view(1, 10, 10) // 25 == kind
    return (255 * bright * torch.where(where, 0.6, 0.1)).to(torch.uint8)


def test_shares_are_those_of_what_training_is_told_also_in_bfloat16() -> None:
    """100 dimensions, of which k-means sees 50, and clusters that touch."""
    family = FlowMatching(Event((1, 10, 10), 256), 20_000, Optimisation(), 64, body="unet", depth=1, clusters=40)
    x = images(2000)
    look_at(family, x)
    assert family.clusters is not None
    (label,) = family.label(x)
    assert torch.equal(family.clusters.shares, torch.bincount(label, minlength=40) / 2000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(family.label(x)[0], label)
    means = family.clusters.means.flatten(1)[family.clusters.shares > 0]
    nearest = torch.cdist(Codec.centre(x, 256).flatten(1).double(), means.double()).argmin(dim=1)
    assert torch.equal(torch.arange(40)[family.clusters.shares > 0][nearest], label)


class Told(nn.Module):
    """The mean of the cluster that it is told, as the prediction of the data."""

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.means = means

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """(B, *shape), (B,), (B,) -> (B, *shape)."""
        return self.means[label]


def test_levels_are_bounded_by_the_term_of_their_own_cluster() -> None:
    """A network that knows nothing but the cluster: its samples are means; a likelihood counts the share once."""
    settings: dict[str, Any] = {"body": "unet", "depth": 1, "prediction": "data"}
    family = FlowMatching(Event((1, 10, 10), 256), 8000, Optimisation(ema=0.0), 64, clusters=4, **settings).eval()
    x = images(2000)
    look_at(family, x)
    assert family.clusters is not None
    family.model = Told(family.clusters.means)
    samples = family.sample(200, generator=derived_generator(0, "samples"))
    assert len(torch.unique(samples.flatten(1), dim=0)) == 4
    assert torch.equal(torch.unique(samples, dim=0), torch.unique(family.codec.decode(family.clusters.means), dim=0))
    assert family.likelihood_method == "path to t = 0.6, own cluster of 4"
    told: list[Tensor] = []
    family.model.register_forward_pre_hook(lambda module, inputs: told.append(inputs[2]))
    own = family.log_prob(x[:100])
    assert bool(torch.isfinite(own).all())
    (label,) = family.label(x[:100])
    of_these = [seen for seen in told if len(seen) == 100]
    assert len(of_these) > 40
    assert all(torch.equal(seen, label) for seen in of_these)
    family.clusters.shares.div_(2)
    assert torch.allclose(own - family.log_prob(x[:100]), torch.full((100,), math.log(2.0)), rtol=1e-2)


@pytest.mark.parametrize("clusters", [-1, 47])
def test_a_number_of_clusters_that_does_not_fit_is_refused(clusters: int) -> None:
    with pytest.raises(ValueError, match=rf"clusters: expected at least 0, .* at most 46; got {clusters}"):
        FlowMatching(Event((2,)), 3000, Optimisation(), 64, clusters=clusters)
