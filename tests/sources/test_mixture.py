"""Mixtures in any dimension: their geometry, density, quality rule, and the cells around their modes."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from genfam.metrics.mode_cells import divide, find
from genfam.seeds import derived_generator
from genfam.sources.mixture import QUALITY, Mixture, rotations
from genfam.sources.validation import seen_through
from genfam.types import KnownDensity, KnownModes

SIZES = [(2, 4), (2, 64), (8, 16), (64, 16)]


@pytest.mark.parametrize(("dimensions", "modes"), SIZES)
def test_modes_are_separated_rotated_and_as_wide_as_said(dimensions, modes):
    source, again = Mixture(dimensions, modes), Mixture(dimensions, modes, name="other")
    assert isinstance(source, KnownDensity) and isinstance(source, KnownModes)
    assert torch.equal(source.centres, again.centres), "a name changes draws, not the mixture"
    distances = torch.cdist(source.centres, source.centres) + 1e9 * torch.eye(modes)
    assert float(distances.min()) >= 6.0
    # events more probable under another mode: at most Φ(−3) for each neighbour, and few neighbours are that near
    x = source.sample(20_000, generator=derived_generator(0, "sample"))
    nearest = source.label_of(x)
    truth = torch.multinomial(
        source.mode_masses, 20_000, replacement=True, generator=derived_generator(0, "sample")
    )  # the first that `sample` draws
    assert float((nearest != truth).double().mean()) < 0.005
    assert 0.25 <= float(source.spreads.min()) <= float(source.spreads.max()) <= 1.0
    assert (source.spreads.diff(dim=1) <= 0).all()
    k = int(truth.mode().values)
    covariance = torch.cov((x[truth == k].double() - source.centres[k]).T)
    expected = source.axes[k] @ torch.diag(source.spreads[k] ** 2) @ source.axes[k].T
    n = int((truth == k).sum())
    spread = (expected**2 + torch.outer(expected.diagonal(), expected.diagonal())).sqrt() / math.sqrt(n)
    assert float(((covariance - expected) / spread).abs().max()) < 5.0  # 2,080 entries: a false alarm in 1e-3


def test_rotations_are_orthogonal_and_uniform():
    """The first axis of a Haar rotation in three dimensions is uniform on the sphere: its height is uniform too."""
    found = rotations(2000, 3, derived_generator(0, "rotations"))
    assert torch.allclose(found.transpose(1, 2) @ found, torch.eye(3, dtype=torch.float64).expand(2000, 3, 3))
    assert stats.kstest(found[:, 2, 0].numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_the_density_integrates_to_one_in_the_plane():
    source = Mixture(2, 4)
    low, high = source.centres.min() - 7.0, source.centres.max() + 7.0
    axis = torch.linspace(float(low), float(high), 1200, dtype=torch.float64)
    total = source.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * float(axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("dimensions", "modes"), [(8, 16), (32, 4)])
def test_entropy_of_separated_modes_is_closed_form(dimensions, modes):
    """log K + the mean entropy of a mode, less what overlaps: under 0.005 nats; against scipy's Gaussian."""
    source = Mixture(dimensions, modes)
    covariances = (source.axes * source.spreads[:, None, :] ** 2) @ source.axes.transpose(1, 2)
    closed = math.log(modes) + sum(stats.multivariate_normal(cov=c.numpy()).entropy() for c in covariances) / modes
    x = source.sample(20_000, generator=derived_generator(1, "entropy"))
    log_prob = source.log_prob(x)
    stderr = float(log_prob.std()) / math.sqrt(len(x))
    assert abs(float(-log_prob.mean()) - closed) < 4 * stderr + 0.005


@pytest.mark.parametrize(("dimensions", "modes"), SIZES)
def test_high_quality_is_the_same_share_in_every_dimension(dimensions, modes):
    """98.89 %, as PacGAN's circle of 3σ holds; at 3σ in 64 dimensions it would be 4e-17."""
    source = Mixture(dimensions, modes)
    n = 20_000
    good = float((source.assign(source.sample(n, generator=derived_generator(2, "quality"))) >= 0).double().mean())
    # an event may be of high quality for a neighbour that overlaps with its mode
    assert -4 * math.sqrt(QUALITY * (1 - QUALITY) / n) < good - QUALITY < 0.004
    assert source.assign(source.modes().float()).tolist() == list(range(modes))
    assert source.assign(torch.full((1, dimensions), 1e3)).tolist() == [-1]


@pytest.mark.parametrize(("dimensions", "modes"), SIZES)
def test_cells_around_modes_have_equal_masses(dimensions, modes):
    """χ² of 50,000 fresh events over up to 512 cells; overlap moves under 0.5 %. A false alarm in 1e-3."""
    source = Mixture(dimensions, modes)
    bits = int(math.log2(512 // modes))
    cells = find(source, source.sample(50_000, generator=derived_generator(3, "cells")), bits)
    counts = cells.bincount(minlength=modes * 2**bits).double()
    assert len(counts) == modes * 2**bits
    expected = 50_000 / len(counts)
    moved = 50_000 * 0.005**2 * len(counts)  # what a share of 0.5 % in the wrong cells adds to χ² at most
    assert float(((counts - expected) ** 2 / expected).sum()) < stats.chi2.ppf(1 - 1e-3, len(counts) - 1) + moved


def test_radius_and_signs_share_the_bits():
    assert [divide(bits, 64) for bits in (0, 1, 3, 5, 7)] == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)]
    assert divide(7, 2) == (5, 2)


@pytest.mark.parametrize("dimensions", [2, 16, 64])
def test_cells_see_wrong_widths_shifts_and_missing_modes_in_every_dimension(dimensions):
    source = Mixture(dimensions, 4)

    def real(n, generator):
        return source.sample(n, generator=generator)

    def white(n, generator):
        mode, found = source.placed(real(n, generator))
        return mode, found

    def back(mode, found):
        x = torch.empty(found.shape, dtype=torch.float64)
        for k in range(4):
            x[mode == k] = source.centres[k] + (found[mode == k] * source.spreads[k]) @ source.axes[k].T
        return x.float()

    def one_axis_wide(n, generator):
        mode, found = white(n, generator)
        found[:, -1] *= 3.0
        return back(mode, found)

    def shifted(n, generator):
        mode, found = white(n, generator)
        found[:, 0] += 0.5
        return back(mode, found)

    def three_modes(n, generator):
        x = real(2 * n, generator)
        return x[source.label_of(x) > 0][:n]

    def variation(draw):
        cells = find(source, draw(20_000, derived_generator(1, "drawn")), 7).bincount(minlength=512).double()
        return 0.5 * float((cells / 20_000 - 1 / 512).abs().sum())

    floor = math.sqrt(512 / (2 * math.pi * 20_000))
    assert variation(real) == pytest.approx(floor, rel=0.15)
    assert variation(one_axis_wide) > 2 * floor
    assert variation(shifted) > 2 * floor  # the signs of the longest axis
    assert variation(three_modes) == pytest.approx(0.25, abs=0.06)


def test_a_validation_split_keeps_the_cells():
    source = seen_through("validation", Mixture(4, 4))
    mode, white = source.placed(source.sample(100, generator=derived_generator(0, "x")))
    assert mode.shape == (100,) and white.shape == (100, 4)


def test_wrong_mixtures_are_refused():
    with pytest.raises(ValueError, match="anisotropy: expected at least 1"):
        Mixture(anisotropy=0.5)
