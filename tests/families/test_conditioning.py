"""p(x) = Σ_c p(c) p(x | c): what a condition owns, what `Family` makes of it, and that every family learns p(x | c)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from families.toys import Slices, train
from genfam.families.autoregressive import Autoregressive
from genfam.families.base import Family, Optimisation
from genfam.families.flow_matching import FlowMatching
from genfam.families.gan import GAN
from genfam.families.gaussian import Gaussian
from genfam.families.latents import Latent
from genfam.families.oracle import Oracle
from genfam.families.vae import VAE
from genfam.networks.perceptron import Perceptron
from genfam.networks.scalar_transformer import ScalarTransformer
from genfam.seeds import derived_generator
from genfam.types import Batch, Event, Likelihood

POINT = Event((2,))


def looked(x: Tensor, count: int = 3, dropout: float = 0.0) -> Slices:
    condition = Slices(count, dropout)
    source: Any = SimpleNamespace(train=x)
    condition.fit(source)
    return condition


class Told(Family):
    """Draws its condition, and says log p(x | c) = −(c + 1)."""

    players = ()
    likelihood = Likelihood.EXACT

    def __init__(self, condition: Slices) -> None:
        super().__init__(POINT, Optimisation(), 1)
        self.condition = condition

    def loss(self, batch: Batch, player: str) -> Tensor:
        raise NotImplementedError

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        assert condition is not None
        return condition.float()[:, None].expand(n, 2)

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is not None
        return -(condition + 1.0)


def test_a_condition_is_drawn_by_its_shares() -> None:
    """20,000 draws; a false alarm in 1,000 seeds."""
    condition = Slices(3)
    condition.shares.copy_(torch.tensor([0.5, 0.0, 0.5]))
    drawn = torch.bincount(condition.draw(20_000, derived_generator(0, "draws")), minlength=3)
    assert drawn[1] == 0
    assert stats.binomtest(int(drawn[0]), 20_000).pvalue > 1e-3
    assert torch.equal(condition.log_prob(torch.tensor([0, 1])).exp(), torch.tensor([0.5, 0.0]))


def test_dropout_hides_its_share_of_the_values() -> None:
    """20,000 events: within four standard errors, a false alarm in 1e-4."""
    condition, values = Slices(3, dropout=0.1), torch.arange(3).repeat(7000)
    torch.manual_seed(0)
    dropped = condition.dropped(values)
    assert dropped is not None
    hidden = dropped != values
    assert torch.equal(dropped[hidden], condition.null(values[hidden]))
    assert condition.null(values).unique().tolist() == [3] and condition.codes == 4
    assert float(hidden.float().mean()) == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / len(values)) ** 0.5)
    assert Slices(3).dropped(values) is values and condition.dropped(None) is None and Slices(3).codes == 3
    with pytest.raises(ValueError, match=r"condition.dropout: expected a share above 0"):
        Slices(3).null(values)
    with pytest.raises(ValueError, match=r"condition.dropout: expected a share of at least 0 and below 1, got 1"):
        Slices(3, dropout=1.0)


def test_updates_hide_values_and_samples_do_not() -> None:
    x = torch.randn(400, 2, generator=derived_generator(0, "x"))
    condition = looked(x, dropout=0.5)
    family = FlowMatching(POINT, 2000, Perceptron(depth=1), Optimisation(), 200, classes=condition.codes)
    family.condition = condition
    told: list[Tensor] = []
    family.model.register_forward_pre_hook(lambda module, inputs: told.append(inputs[2]))
    train(family, x, 1, condition.of(x))
    assert 60 < int((told[0] == 3).sum()) < 140  # of 200, half: beyond that in 1e-8
    told.clear()
    family.average.module.register_forward_pre_hook(lambda module, inputs: told.append(inputs[2]))
    family.sample(50, generator=derived_generator(0, "samples"))
    family.log_prob(x[:5])
    assert told and all(int(values.max()) < 3 for values in told)


def test_up_to_sixteen_values_are_summed_and_of_more_the_own_term_is_a_bound() -> None:
    x = torch.randn(1700, 2, generator=derived_generator(0, "x"))
    few, many = Told(looked(x, 16)), Told(looked(x, 17))
    shares = few.condition.shares
    mixture = (shares * torch.exp(-(torch.arange(16) + 1.0))).sum().log()
    assert torch.allclose(few.log_prob(x[:9]), mixture.expand(9))
    assert few.likelihood_kind is Likelihood.EXACT and few.likelihood_method == ""
    own = many.condition.of(x[:9])
    assert torch.allclose(many.log_prob(x[:9]), many.condition.shares.log()[own] - (own + 1.0))
    assert many.likelihood_kind is Likelihood.LOWER_BOUND and many.likelihood_method == "own term of 17"
    for family in (few, many):  # what was asked for is p(x | c) itself
        assert torch.allclose(family.log_prob(x[:2], condition=torch.tensor([0, 5])), torch.tensor([-1.0, -6.0]))


def test_values_follow_their_samples_through_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genfam.families.base.SCALARS_AT_ONCE", 7)  # three events of two scalars
    family = Told(looked(torch.randn(300, 2)))
    values = torch.tensor([0, 1, 2, 2, 1, 0, 0, 2])
    assert torch.equal(family.sample(8, generator=derived_generator(0, "s"), condition=values)[:, 0].long(), values)


def test_the_oracle_draws_real_events_of_the_value() -> None:
    x = torch.randn(30, 2, generator=derived_generator(0, "x"))
    family = Oracle(POINT, classes=3)
    family.condition = looked(x)
    source: Any = SimpleNamespace(train=x)
    family.prepare(source)
    values = torch.tensor([0, 2, 1, 2] * 10)
    drawn = family.sample(40, generator=derived_generator(0, "s"), condition=values)
    assert torch.equal(family.condition.of(drawn), values)
    own = drawn[values == 0]  # of ten real events ten draws: each once
    assert len(torch.unique(own, dim=0)) == 10 and bool((own[:, None] == x[None]).all(-1).any(1).all())


def gaussian() -> Family:
    return Gaussian(POINT, classes=3)


def autoregressive() -> Family:
    settings = Optimisation(learning_rate=5e-3)
    return Autoregressive(POINT, 12_000, ScalarTransformer(depth=1, heads=2), settings, 128, classes=3)


def flow_matching() -> Family:
    return FlowMatching(POINT, 6000, Perceptron(depth=2), Optimisation(learning_rate=5e-3), 256, classes=3)


def vae() -> Family:
    return VAE(POINT, 6000, Perceptron(depth=2), Optimisation(learning_rate=5e-3), 128, warmup=0.2, classes=3)


def gan() -> Family:
    settings = Optimisation(betas=(0.0, 0.99), clip=None, warmup=0.0, ema=0.05)
    network = Perceptron(depth=2, activation="leaky_relu", random_biases=True)
    return GAN(POINT, 6000, network, settings, 128, latent=Latent(2), classes=3)


@pytest.mark.parametrize(
    ("make", "updates"), [(gaussian, 0), (autoregressive, 150), (flow_matching, 250), (vae, 150), (gan, 300)]
)
def test_every_family_learns_what_belongs_to_a_value(make: Any, updates: int) -> None:
    """Three separate modes: nearly all samples of a value lie by its mode, with about its spread."""
    centres = torch.tensor([[-3.0, 1.0], [0.0, -2.0], [3.0, 1.0]])
    kinds = torch.arange(3).repeat(1000)
    x = centres[kinds] + 0.3 * torch.randn(3000, 2, generator=derived_generator(0, "x"))
    torch.manual_seed(0)
    family = make()
    family.condition = looked(x)
    values = family.condition.of(x)
    assert float((values == kinds).float().mean()) > 0.99
    train(family, x, updates, values)
    drawn = family.sample(900, generator=derived_generator(0, "s"), condition=kinds[:900])
    assert float(((drawn - centres[kinds[:900]]).norm(dim=1) < 1.2).float().mean()) > 0.9
    freely = family.sample(900, generator=derived_generator(0, "t"))
    counts = torch.bincount(torch.cdist(freely, centres).argmin(dim=1), minlength=3)
    assert float(counts.min()) > 200  # of 300: seven standard errors
    if family.likelihood_kind is not Likelihood.NONE:
        right, wrong = (family.log_prob(x[:30], condition=(values[:30] + shift) % 3) for shift in (0, 1))
        assert float((right - wrong).min()) > 1.0
