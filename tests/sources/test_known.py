"""Known distributions: tables sum to one, densities integrate to one, draws follow them."""

import math

import pytest
import torch
from scipy import stats

from genfam.seeds import derived_generator
from genfam.sources.known import Die, Grid, Ring, TinyImages
from genfam.types import Enumerable, KnownDensity, KnownModes

ENUMERABLE = [Die(), Die(20, weights=range(1, 21)), TinyImages(levels=4), TinyImages(levels=3, sigma=0.3)]
PLANAR = [Ring(), Grid(), Ring(modes=3, sigma=0.1)]


@pytest.mark.parametrize("source", ENUMERABLE, ids=lambda s: f"{s.name}{s.event.levels}")
def test_tables_are_distributions_and_draws_follow_them(source):
    assert isinstance(source, Enumerable) and isinstance(source, KnownDensity) and isinstance(source, KnownModes)
    table, support = source.table(), source.support()
    assert float(table.sum()) == pytest.approx(1.0, abs=1e-12)
    assert torch.allclose(source.log_prob(support).exp(), table)
    assert len(torch.unique(support.flatten(1), dim=0)) == len(support)
    n = 200_000
    draws = source.sample(n, generator=derived_generator(0, "chi square"))
    weights = torch.tensor([source.event.levels**i for i in range(source.event.dimensions)])
    code = (draws.flatten(1).long() * weights).sum(dim=1).bincount(minlength=int(source.event.levels ** len(weights)))
    expected = torch.zeros(len(code), dtype=torch.float64)
    expected[(support.flatten(1).long() * weights).sum(dim=1)] = table * n
    common = expected > 5  # the chi-square approximation wants five per cell; the rest is one cell
    observed = torch.cat([code[common], code[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    keep = expected > 0
    # false alarm rate 1e-3 per source, seed fixed
    assert stats.chisquare(observed[keep].numpy(), expected[keep].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("source", PLANAR, ids=lambda s: f"{s.name}{len(s.mode_masses)}")
def test_planar_densities_integrate_to_one(source):
    # around each mode: 12σ squares hold all but 1e-8 of it; overlaps are counted by the mixture itself once
    total = 0.0
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64) * source.sigma
    step = float(axis[1] - axis[0])
    patch = torch.cartesian_prod(axis, axis)
    for centre in source.modes():
        total += float(source.log_prob(patch + centre).exp().sum()) * step**2
    assert total == pytest.approx(1.0, abs=1e-6)


def test_entropy_of_separated_modes_is_closed_form():
    source = Grid()
    closed = math.log(25) + math.log(2 * math.pi * math.e * source.sigma**2)
    found = source.entropy()
    assert found.stderr is not None
    assert abs(found.value - closed) < 4 * found.stderr


def test_oracle_quality_is_the_rayleigh_share():
    """P(‖x − μ‖ ≤ 3σ) = 1 − exp(−9/2) = 98.89 % in the plane (ANCHORS)."""
    for source in (Ring(), Grid()):
        n = 100_000
        good = (source.assign(source.sample(n, generator=derived_generator(1, source.name))) >= 0).double().mean()
        share = 1 - math.exp(-4.5)
        assert abs(float(good) - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_assign_knows_its_modes_and_what_is_off_them():
    source = Grid()
    assert source.assign(source.modes().float()).tolist() == list(range(25))
    assert source.assign(torch.tensor([[1.0, 1.0], [100.0, 0.0]])).tolist() == [-1, -1]
    tiny = TinyImages(levels=4)
    assert tiny.assign(tiny.centres.to(torch.uint8).reshape(-1, 1, 2, 2)).tolist() == list(range(6))


def test_tiny_images_at_256_levels_normalise_per_pixel_and_match_the_coarse_entropy_order():
    tiny = TinyImages(levels=256)
    assert torch.allclose(tiny.pixel_table.sum(dim=-1), torch.ones(6, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="at most 10\\^6 states"):
        tiny.support()
    fresh = tiny.sample(50_000, generator=derived_generator(2, "fresh"))
    entropy = tiny.entropy()
    assert abs(float(-tiny.log_prob(fresh).mean()) - entropy.value) < 5 * entropy.stderr  # fresh has √4 its error


def test_splits_are_fixed_and_differ():
    one, two = Grid(), Grid()
    assert torch.equal(one.test, two.test)
    assert not torch.equal(one.train[: len(one.test)], one.test)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Die(faces=1), "faces: expected 2 to 256, got 1"),
        (lambda: Die(faces=3, weights=[1, 2]), "expected 3 non-negative numbers"),
        (lambda: TinyImages(levels=1), "levels"),
        (lambda: Ring(sigma=0), "sigma"),
    ],
)
def test_wrong_worlds_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
