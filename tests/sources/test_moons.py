"""Two moons: the density against quadrature and draws."""

import torch

from genfam.metrics.cells import Cells
from genfam.seeds import derived_generator
from genfam.sources.moons import Moons


def test_the_density_integrates_to_one():
    axis = torch.linspace(-7.0, 8.0, 151, dtype=torch.float64)
    total = Moons().log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(total) - 1.0) < 1e-6


def test_draws_follow_the_density():
    source = Moons()
    x = source.sample(20_000, generator=derived_generator(0, "moons"))
    cells = Cells(source.sample(2**17, generator=derived_generator(0, "cells")), 6)
    counts = cells.find(x).bincount(minlength=64).double()
    chi2 = float(((counts - len(x) / 64) ** 2 / (len(x) / 64)).sum())
    assert chi2 < 130  # of a χ² with 63 degrees, widened by the cells' own scatter: false alarms below 1e-4
    grid = torch.cartesian_prod(*[torch.linspace(-6.0, 7.0, 200, dtype=torch.float64)] * 2)
    weights = source.log_prob(grid).exp()
    mean = (grid * weights[:, None]).sum(dim=0) / weights.sum()
    assert torch.allclose(x.double().mean(dim=0), mean, atol=5 * 3.0 / 20_000**0.5)


def test_labels_are_the_moons():
    source = Moons(sigma=0.01)
    assert source.label_of(torch.tensor([[-1.0, 2.0], [2.0, -2.5]])).tolist() == [0, 1]
