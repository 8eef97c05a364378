"""Cells of equal mass: their masses, what they see, and how wide modes are."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from genfam.metrics.cells import CellDivergence, Cells, nearest
from genfam.seeds import derived_generator
from genfam.sources.known import Die, Grid, Ring
from genfam.types import Status


class Sampler:
    """A model that only samples."""

    def __init__(self, draw):
        self.draw = draw

    def sample(self, n, *, generator):
        return self.draw(n, generator)


def measured(source, draw, by_name, evaluate, **options):
    model = Sampler(draw)
    first = draw(2500, derived_generator(1, "first"))
    evaluation = evaluate(first, source.test, data=source, model=model)
    return by_name(CellDivergence(**options), evaluation)


def real(source):
    return lambda n, generator: source.sample(n, generator=generator)


def test_cells_of_any_density_have_equal_masses():
    """Fresh draws of a skewed density in three dimensions: χ² over 512 cells, a false alarm in 1e-3."""
    g = derived_generator(0, "cells")
    mixing = torch.tensor([[1.0, 0.5, 0], [0, 1, 3], [0, 0, 1]])

    def draw(n):
        return torch.randn(n, 3, generator=g).exp() @ mixing

    cells = Cells(draw(2**18), 9)
    counts = cells.find(draw(50_000)).bincount(minlength=512).double()
    expected = 50_000 / 512
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    # of the draw that the cells were cut from the masses themselves scatter: 1 + N / M
    assert chi2 / (1 + 50_000 / 2**18) < 512 + 3.3 * math.sqrt(2 * 512)


def test_a_coarser_tree_is_the_top_of_a_finer_one():
    x = torch.randn(4096, 2, generator=derived_generator(0, "tree"))
    cells = Cells(x, 6)
    assert torch.equal(cells.find(x, 3), cells.find(x) // 8)
    assert cells.find(x).bincount().tolist() == [64] * 64


@pytest.mark.parametrize("source", [Ring(), Grid()], ids=["ring", "grid"])
def test_real_data_are_at_the_floor(source, by_name, evaluate):
    """N draws of K cells are √(K / 2πN) from the truth; within 15 %."""
    found = measured(source, real(source), by_name, evaluate)
    floor = math.sqrt(512 / (2 * math.pi * 20_000))
    assert found["cell_total_variation"].estimate.value == pytest.approx(floor, rel=0.15)
    assert found["cell_kl"].estimate.value == pytest.approx(511 / 40_000, rel=0.3)
    width = found["mode_width_ratio"].estimate
    assert abs(width.value - 1) < 4 * width.stderr and width.stderr < 0.02


def test_narrow_modes_are_seen_that_the_share_of_high_quality_praises(by_name, evaluate):
    """Modes 12 % too narrow: the ratio says .88, and the total variation is above the floor."""
    grid = Grid()
    narrow = Grid(sigma=0.05 * 0.88)
    found = measured(grid, real(narrow), by_name, evaluate)
    assert found["mode_width_ratio"].estimate.value == pytest.approx(0.88, abs=0.02)
    floor = measured(grid, real(grid), by_name, evaluate)
    assert found["cell_total_variation"].estimate.value > 1.15 * floor["cell_total_variation"].estimate.value


@pytest.mark.parametrize("missing", [1, 5, 12])
def test_missing_modes_are_their_mass(missing, by_name, evaluate):
    """Of 25 equal modes m are missing: m / 25, less where a cell reaches from a missing mode into one that is there."""
    grid = Grid()

    def draw(n, generator):
        x = grid.sample(4 * n, generator=generator)
        return x[grid.label_of(x) >= missing][:n]

    found = measured(grid, draw, by_name, evaluate)["cell_total_variation"].estimate
    assert missing / 25 - 0.02 < found.value < missing / 25 + 0.075


def test_on_few_samples_there_are_few_cells(by_name, evaluate):
    grid = Grid()
    few = grid.sample(250, generator=derived_generator(0, "few"))
    metric = CellDivergence()
    found = {m.name: m for m in metric.measure(evaluate(few, grid.test, data=grid, model=Sampler(real(grid))))}
    assert found["cell_total_variation"].protocol["cells"] == "16"
    assert found["cell_total_variation"].protocol["drawn"] == "250"
    assert found["cell_total_variation"].estimate.value < 0.25


def test_what_is_no_point_of_a_known_density_is_refused(by_name, evaluate):
    die = Die()
    refused = CellDivergence().measure(evaluate(die.test[:100], die.test, data=die))
    assert all(m.status is Status.NOT_APPLICABLE for m in refused) and len(refused) == 3
    grid = Grid()
    bad = grid.sample(300, generator=derived_generator(0, "bad"))
    bad[3] = math.nan
    refused = CellDivergence().measure(evaluate(bad, grid.test, data=grid, model=SimpleNamespace()))
    assert all("1 of 300 samples are not finite" in m.reason for m in refused)


def test_nearest_is_the_distance_to_the_nearest_centre():
    centres = torch.tensor([[0.0, 0.0], [4.0, 3.0]], dtype=torch.float64)
    assert nearest(torch.tensor([[0.0, 1.0], [4.0, 5.0]]), centres).tolist() == [1.0, 2.0]
