"""Which noise goes to which data."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from genfam.families.coupling import Independent, OptimalTransport
from genfam.seeds import derived_generator


def test_optimal_transport_is_the_cheapest_permutation():
    g = derived_generator(0, "coupling")
    x0, x1 = torch.randn(32, 3, 1, generator=g), torch.randn(32, 3, 1, generator=g)
    paired = OptimalTransport()(x0, x1)
    assert torch.equal(paired.sort(dim=0).values, x0.sort(dim=0).values)
    cost = torch.cdist(x1.flatten(1), x0.flatten(1)).square()
    rows, columns = linear_sum_assignment(cost.numpy())
    assert float((x1 - paired).square().sum()) == pytest.approx(float(cost[rows, columns].sum()), rel=1e-5)
    assert Independent()(x0, x1) is x0
