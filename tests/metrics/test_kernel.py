"""Kernel distance: the definition by loops, torch-fidelity, unbiasedness, honest errors."""

import numpy as np
import pytest

from genfam.metrics import kernel
from genfam.metrics.kernel import Kernel, squared_mmd
from genfam.types import Kind


def test_the_definition_by_loops(normal):
    x, y = normal(7, 3, 1), normal(5, 3, 2)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    xx = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / (7 * 6)
    yy = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / (5 * 4)
    xy = sum(k(a, b) for a in x for b in y) / 35
    assert squared_mmd(x, y).value == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_agrees_with_torch_fidelity_on_whole_sets(normal):
    from torch_fidelity.metric_kid import kernel_mmd

    x, y = normal(60, 16, 1), normal(60, 16, 2) + 0.2
    assert squared_mmd(x, y).value == pytest.approx(float(kernel_mmd(x.numpy(), y.numpy())), rel=1e-6)


def test_agrees_with_torchmetrics(normal):
    from torchmetrics.image.kid import poly_mmd

    x, y = normal(60, 16, 1), normal(60, 16, 2) + 0.2
    assert squared_mmd(x, y).value == pytest.approx(float(poly_mmd(x, y)), rel=1e-6)


def test_unbiased_where_both_agree_and_right_for_a_known_shift(normal):
    # One dimension, E k(x, y) for the cubic kernel in moments: 1 + 3ab + 3·E[x²]E[y²] + E[x³]E[y³].
    def cross(a, b):
        return 1 + 3 * a * b + 3 * (1 + a * a) * (1 + b * b) + (a**3 + 3 * a) * (b**3 + 3 * b)

    shift = 0.5
    truth = cross(shift, shift) + cross(0, 0) - 2 * cross(shift, 0)
    same = [squared_mmd(normal(100, 1, 2 * s), normal(100, 1, 2 * s + 1)).value for s in range(300)]
    moved = [squared_mmd(normal(100, 1, 2 * s) + shift, normal(100, 1, 2 * s + 1)).value for s in range(300)]
    assert min(same) < 0
    assert abs(np.mean(same)) < 3 * np.std(same) / 300**0.5
    assert abs(np.mean(moved) - truth) < 3 * np.std(moved) / 300**0.5


@pytest.mark.parametrize("shift", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [(400, 400), (150, 600)])
def test_standard_errors_are_the_scatter_over_redraws(normal, shift, sizes):
    """Stated over true within 0.8 to 1.25, under equality and more than ten standard errors away from it.

    The scatter of 200 redraws is known to 5 %, so a right error leaves the band once in 10⁵.
    """
    n, m = sizes
    both = [squared_mmd(normal(n, 64, 2 * s) + shift, normal(m, 64, 2 * s + 1)) for s in range(200)]
    assert 0.8 < stated(both, "stderr") / scatter(both) < 1.25
    y = normal(m, 64, 1)
    samples_alone = [squared_mmd(normal(n, 64, 2 * s) + shift, y) for s in range(200)]
    assert 0.8 < stated(samples_alone, "draw_stderr") / scatter(samples_alone) < 1.25


def stated(found, name):
    return float(np.sqrt(np.mean([getattr(estimate, name) ** 2 for estimate in found])))


def scatter(found):
    return float(np.std([estimate.value for estimate in found], ddof=1))


def test_blocks_change_nothing(normal, monkeypatch):
    x, y = normal(90, 3, 1), normal(70, 3, 2) + 0.1
    whole = squared_mmd(x, y)
    monkeypatch.setattr(kernel, "ENTRIES", 500)
    for name in ("value", "stderr", "draw_stderr"):
        assert getattr(squared_mmd(x, y), name) == pytest.approx(getattr(whole, name), rel=1e-9)


def test_says_its_protocol_and_takes_the_first_events(normal, evaluate):
    x, y = normal(200, 2, 1), normal(80, 2, 2)
    (found,) = Kernel(most=100).measure(evaluate(x, y))
    assert found.estimate == squared_mmd(x[:100], y)
    assert found.name == "kd_identity" and found.kind is Kind.DISTANCE
    assert found.protocol["most"] == "100"
