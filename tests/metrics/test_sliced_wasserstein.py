"""Sliced Wasserstein distance: POT, exact one-dimensional values, translation, refusal of discrete events."""

import math

import numpy as np
import pytest
import torch

from genfam.metrics.sliced_wasserstein import SlicedWasserstein, directions, quantile_cells, sliced_wasserstein
from genfam.types import Status


@pytest.mark.parametrize("m", [60, 45])
@pytest.mark.parametrize("p", [1, 2])
def test_agrees_with_pot(normal, m, p):
    import ot

    x, y, w = normal(60, 3, 1), normal(m, 3, 2) * 2 + 1, directions(3, 20, torch.Generator().manual_seed(0))
    theirs = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=w.numpy(), p=p)
    assert sliced_wasserstein(x, y, w, p) == pytest.approx(float(theirs), rel=1e-9)


def test_one_dimension_is_exact():
    x, y = torch.tensor([[3.0], [0.0], [1.0]]).double(), torch.tensor([[5.0], [6.0], [8.0]]).double()
    w = directions(1, 4, torch.Generator().manual_seed(0))
    assert sliced_wasserstein(x, y, w, 2) == pytest.approx(math.sqrt((25 + 25 + 25) / 3))
    # Two points against three: thirds and halves meet in sixths.
    assert sliced_wasserstein(x[:2], y, w, 1) == pytest.approx((2 * 5 + 1 * 6 + 1 * 3 + 2 * 5) / 6)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 6), (1, 7), (1000, 999)])
def test_cells_give_every_point_its_weight(n, m):
    weights, rank_x, rank_y = quantile_cells(n, m)
    torch.testing.assert_close(torch.zeros(n).double().index_add(0, rank_x, weights), torch.full((n,), 1 / n).double())
    torch.testing.assert_close(torch.zeros(m).double().index_add(0, rank_y, weights), torch.full((m,), 1 / m).double())


def test_translation_by_a_known_amount(normal):
    # E over directions of (w·t)² is |t|² / d.
    x, t = normal(50, 3), torch.tensor([3.0, 0.0, 4.0]).double()
    w = directions(3, 20_000, torch.Generator().manual_seed(0))
    assert sliced_wasserstein(x + t, x, w) == pytest.approx(5 / math.sqrt(3), rel=0.01)


def test_standard_error_is_the_spread_over_repetitions(normal, evaluate):
    metric = SlicedWasserstein(projections=16)
    found = [metric.measure(evaluate(normal(300, 2, 2 * s) + 1, normal(300, 2, 2 * s + 1)))[0] for s in range(40)]
    spread = float(np.std([m.estimate.value for m in found], ddof=1))
    assert float(np.mean([m.estimate.stderr for m in found])) == pytest.approx(spread, rel=0.3)


def test_discrete_or_broken_samples_are_refused(normal, evaluate):
    levels = torch.zeros(30, 2, dtype=torch.uint8)
    (found,) = SlicedWasserstein().measure(evaluate(levels, levels))
    assert found.status is Status.NOT_APPLICABLE
    assert "discrete" in found.reason
    x = normal(30, 2)
    x[3] = math.inf
    (found,) = SlicedWasserstein().measure(evaluate(x, normal(30, 2, 1)))
    assert "1 of 30 samples" in found.reason
