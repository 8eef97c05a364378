"""Kernel distance: the definition by loops, torch-fidelity, unbiasedness, honest errors."""

import numpy as np
import pytest
import torch

from genfam.metrics.kernel import Kernel, kernel_distance, squared_mmd
from genfam.types import Kind


def test_the_definition_by_loops(normal):
    x, y = normal(7, 3, 1), normal(5, 3, 2)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    xx = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / (7 * 6)
    yy = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / (5 * 4)
    xy = sum(k(a, b) for a in x for b in y) / 35
    assert squared_mmd(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_agrees_with_torch_fidelity_on_whole_sets(normal):
    from torch_fidelity.metric_kid import kernel_mmd

    x, y = normal(60, 16, 1), normal(60, 16, 2) + 0.2
    assert squared_mmd(x, y) == pytest.approx(float(kernel_mmd(x.numpy(), y.numpy())), rel=1e-6)


def test_agrees_with_torchmetrics(normal):
    from torchmetrics.image.kid import poly_mmd

    x, y = normal(60, 16, 1), normal(60, 16, 2) + 0.2
    assert squared_mmd(x, y) == pytest.approx(float(poly_mmd(x, y)), rel=1e-6)


def test_unbiased_where_both_agree_and_right_for_a_known_shift(normal):
    # One dimension, E k(x, y) for the cubic kernel in moments: 1 + 3ab + 3·E[x²]E[y²] + E[x³]E[y³].
    def cross(a, b):
        return 1 + 3 * a * b + 3 * (1 + a * a) * (1 + b * b) + (a**3 + 3 * a) * (b**3 + 3 * b)

    shift = 0.5
    truth = cross(shift, shift) + cross(0, 0) - 2 * cross(shift, 0)
    same = [squared_mmd(normal(100, 1, 2 * s), normal(100, 1, 2 * s + 1)) for s in range(300)]
    moved = [squared_mmd(normal(100, 1, 2 * s) + shift, normal(100, 1, 2 * s + 1)) for s in range(300)]
    assert min(same) < 0
    assert abs(np.mean(same)) < 3 * np.std(same) / 300**0.5
    assert abs(np.mean(moved) - truth) < 3 * np.std(moved) / 300**0.5


@pytest.mark.parametrize("size", [50, 250])
def test_standard_error_is_the_spread_over_repetitions(normal, size):
    found = [
        kernel_distance(
            normal(500, 4, 2 * s) + 0.5, normal(500, 4, 2 * s + 1), 40, size, torch.Generator().manual_seed(s)
        )
        for s in range(40)
    ]
    spread = float(np.std([value for value, _ in found], ddof=1))
    assert float(np.mean([stderr for _, stderr in found])) == pytest.approx(spread, rel=0.35)


def test_subset_size_out_of_range(normal):
    with pytest.raises(ValueError, match="size < 20"):
        kernel_distance(normal(30, 2), normal(20, 2), 5, 20, torch.Generator())


def test_seeded_and_says_its_protocol(normal, evaluate):
    x, y = normal(200, 2, 1), normal(80, 2, 2)
    (first,), (again,) = (Kernel().measure(evaluate(x, y)) for _ in range(2))
    (other,) = Kernel().measure(evaluate(x, y, seed=1))
    assert first == again
    assert other.estimate.value != first.estimate.value
    assert first.name == "kd_identity" and first.kind is Kind.DISTANCE
    assert first.protocol["subsets"] == "50x40"
