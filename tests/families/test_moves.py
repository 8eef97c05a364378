"""Chains leave the density that they are for as it is, and find it from elsewhere; without the correction they do not.

Statistical tests have fixed seeds, and by chance alone each would fail once in ten thousand seeds.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Generator, Tensor
from torch.nn import functional as F

from genfam.families import gibbs, langevin
from genfam.families.gibbs import GibbsWithGradients
from genfam.families.langevin import Langevin
from genfam.families.moves import Moves, value_and_gradient
from genfam.seeds import normal
from genfam.types import Event

ALARM = 1e-4
SPREADS = torch.tensor([0.1, 0.5])
LEVELS = 3
TABLE = torch.softmax(2.0 * torch.randn(LEVELS, LEVELS, generator=Generator().manual_seed(1)), dim=0) / LEVELS
"""Probabilities of two numbers of three levels."""


def gaussian(x: Tensor) -> Tensor:
    """U of a normal with those standard deviations and its mean at 1."""
    return 0.5 * ((x - 1.0) / SPREADS).square().sum(dim=1)


def table(x: Tensor) -> Tensor:
    """U of `TABLE`, (B, 2, LEVELS) one-hot."""
    return -(x[:, 0, :, None] * x[:, 1, None, :] * TABLE.log()).sum(dim=(1, 2))


def moments_fit(x: Tensor) -> bool:
    """Whether chains' means and variances are those of `gaussian`: four tests at a quarter of the rate each."""
    n = len(x)
    means = (x.mean(dim=0) - 1.0) / SPREADS * n**0.5
    chi_square = (n - 1) * x.var(dim=0) / SPREADS.square()
    normal_ends = stats.norm.isf(ALARM / 8)
    low, high = stats.chi2.ppf([ALARM / 8, 1 - ALARM / 8], n - 1)
    return bool((means.abs() < normal_ends).all() and ((low < chi_square) & (chi_square < high)).all())


def counts_fit(x: Tensor) -> bool:
    """Whether chains' frequencies are those of `table`, by the chi-square test."""
    states = x.argmax(dim=-1) @ torch.tensor([LEVELS, 1])
    counts = states.bincount(minlength=LEVELS**2).double()
    return bool(stats.chisquare(counts, len(x) * TABLE.flatten().double()).pvalue > ALARM)


def drawn(n: int, generator: Generator) -> Tensor:
    """(n, 2, LEVELS) of `table` itself."""
    states = torch.multinomial(TABLE.flatten(), n, replacement=True, generator=generator)
    return F.one_hot(torch.stack([states // LEVELS, states % LEVELS], dim=1), LEVELS).float()


@pytest.mark.parametrize("seed", range(3))
def test_langevin_moves_sample_a_gaussians_moments(seed: int) -> None:
    generator = Generator().manual_seed(seed)
    begun = 1.0 + SPREADS * normal((4000, 2), "cpu", generator)
    assert moments_fit(Langevin(0.05, 0.4).run(gaussian, begun, 20, generator))
    far = Langevin().start(4000, Event((2,)), "cpu", generator)
    assert not moments_fit(far)
    assert moments_fit(Langevin(0.05, 0.4).run(gaussian, far, 300, generator))


@pytest.mark.parametrize("seed", range(3))
def test_gibbs_with_gradients_leaves_a_table_as_it_is(seed: int) -> None:
    generator = Generator().manual_seed(seed)
    for steps in (1, 4):  # periodic chains would show
        assert counts_fit(GibbsWithGradients().run(table, drawn(10_000, generator), steps, generator))
    uniform = GibbsWithGradients().start(10_000, Event((2,), LEVELS), "cpu", generator)
    assert not counts_fit(uniform)
    assert counts_fit(GibbsWithGradients().run(table, uniform, 60, generator))


def test_without_the_correction_they_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(log_ratio: Tensor, generator: Any) -> Tensor:
        return torch.ones(len(log_ratio), dtype=torch.bool)

    generator = Generator().manual_seed(0)
    monkeypatch.setattr(langevin, "taken", always)
    begun = 1.0 + SPREADS * normal((4000, 2), "cpu", generator)
    assert not moments_fit(Langevin(0.08, 0.12).run(gaussian, begun, 20, generator))
    monkeypatch.setattr(gibbs, "taken", always)
    assert not counts_fit(GibbsWithGradients().run(table, drawn(10_000, generator), 4, generator))


@pytest.mark.parametrize(("moves", "event"), [(Langevin(), Event((3,))), (GibbsWithGradients(), Event((1, 2), 5))])
def test_chains_begin_as_draws_of_a_known_density(moves: Moves, event: Event) -> None:
    x = moves.start(2000, event, "cpu", Generator().manual_seed(0))
    again = moves.start(2000, event, "cpu", Generator().manual_seed(0))
    assert torch.equal(x, again)
    if event.levels is None:
        truth = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(dim=1)
    else:
        truth = torch.full((2000,), -2.0 * torch.tensor(5.0).log().item())
        assert bool((x.sum(dim=-1) == 1).all())
    assert torch.allclose(moves.log_start(x), truth, atol=1e-5)
    # from p_0 itself moves change no more than noise does
    moved = moves.run(lambda y: -moves.log_start(y), x, 3, Generator().manual_seed(1))
    assert moved.shape == x.shape and not torch.equal(moved, x)


def test_a_gradient_keeps_no_graph_and_a_potential_that_is_not_finite_is_not_entered() -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    with torch.no_grad():
        value, gradient = value_and_gradient(lambda x: weight * x.square().sum(dim=1), torch.full((2, 3), 2.0))
    assert value.tolist() == [12.0, 12.0] and bool((gradient == 4.0).all())
    assert not value.requires_grad and not gradient.requires_grad and weight.grad is None

    def cliff(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, x[:, 0], torch.nan)

    x = Langevin().run(cliff, torch.full((500, 1), 0.05), 50, Generator().manual_seed(0))
    assert bool((x > 0).all())
    with pytest.raises(ValueError, match=r"moves: expected 0 < smallest ≤ largest, got 0\.2 and 0\.1"):
        Langevin(0.2, 0.1)
