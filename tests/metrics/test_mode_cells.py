"""The metric over cells around known modes: what it answers, and of what."""

from __future__ import annotations

import math

import pytest
import torch

from genfam.metrics.cells import CellDivergence
from genfam.metrics.mode_cells import ModeCells
from genfam.seeds import derived_generator
from genfam.sources.known import Grid
from genfam.sources.mixture import Mixture
from genfam.types import Status


class Sampler:
    """A model that only samples."""

    def __init__(self, draw):
        self.draw = draw

    def sample(self, n, *, generator):
        return self.draw(n, generator)


def answers(source, draw, evaluate, metric):
    first = draw(2500, derived_generator(1, "first"))
    return {m.name: m for m in metric.measure(evaluate(first, first, data=source, model=Sampler(draw)))}


@pytest.mark.parametrize("modes", [4, 25])
def test_real_data_are_at_the_floor(evaluate, modes):
    """N draws of K cells are √(K / 2πN) from the truth; within 15 %."""
    source = Mixture(4, modes)
    found = answers(source, lambda n, g: source.sample(n, generator=g), evaluate, ModeCells())
    cells = int(found["cell_total_variation"].protocol["cells"])
    assert cells == {4: 512, 25: 400}[modes]
    floor = math.sqrt(cells / (2 * math.pi * 20_000))
    assert found["cell_total_variation"].estimate.value == pytest.approx(floor, rel=0.15)
    assert found["cell_kl"].estimate.value == pytest.approx((cells - 1) / 40_000, rel=0.3)
    width = found["mode_width_ratio"].estimate
    assert abs(width.value - 1) < 4 * width.stderr


def test_a_wrong_covariance_in_32_dimensions_is_seen_that_medians_along_axes_overlook(evaluate):
    """Modes 10 % too narrow, rotated: a tree along the axes is at its floor, the cells around modes are not."""
    source = Mixture(32, 4)

    def narrow(n, generator):
        x = source.sample(n, generator=generator).double()
        centre = source.centres[source.label_of(x)]
        return (centre + 0.9 * (x - centre)).float()

    floor = math.sqrt(512 / (2 * math.pi * 20_000))
    ours = answers(source, narrow, evaluate, ModeCells())["cell_total_variation"].estimate.value
    tree = answers(source, narrow, evaluate, CellDivergence())["cell_total_variation"].estimate.value
    assert ours > 4 * floor
    assert tree < 1.5 * floor


def test_on_few_samples_there_are_few_cells(evaluate):
    source = Mixture(2, 16)
    few = source.sample(250, generator=derived_generator(0, "few"))
    found = {m.name: m for m in ModeCells().measure(evaluate(few, few, data=source))}
    assert found["cell_total_variation"].protocol["cells"] == "16"


def test_what_has_no_gaussian_modes_is_refused(evaluate):
    grid = Grid()
    refused = ModeCells().measure(evaluate(grid.test[:100], grid.test[:100], data=grid))
    assert all(m.status is Status.NOT_APPLICABLE for m in refused) and len(refused) == 3
    source = Mixture(2, 4)
    bad = source.test[:300].clone()
    bad[3] = torch.nan
    refused = ModeCells().measure(evaluate(bad, source.test, data=source))
    assert all("1 of 300 samples are not finite" in m.reason for m in refused)
