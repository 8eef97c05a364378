"""The discrepancy with a Gaussian kernel: its definition by loops, the known answer for a shift, CLIP's settings."""

import math

import numpy as np
import pytest
import torch

from genfam.metrics.extractors import Identity
from genfam.metrics.gaussian_mmd import GaussianMMD, gaussian_kernel


def loops(x, y, width):
    def k(a, b):
        return math.exp(-float((a - b).square().sum()) / (2 * width**2))

    n, m = len(x), len(y)
    within = [
        sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    return sum(within) - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_definition_by_loops(normal, evaluate, offset):
    """With the median distance of the reference as width; far from the origin too."""
    x, y = normal(12, 3, 1) + offset, normal(9, 3, 2) + 0.5 + offset
    (found,) = GaussianMMD().measure(evaluate(x, y))
    width = float(torch.pdist(y).median())
    assert found.name == "gmmd_identity"
    assert found.estimate.value == pytest.approx(1000 * loops(x, y, width), rel=1e-6)


def test_with_clips_features_it_is_the_published_cmmd(normal, evaluate):
    clip = Identity(name="clip")
    x, y = normal(12, 3, 1), normal(9, 3, 2) + 0.5
    (found,) = GaussianMMD().measure(evaluate(x, y, extractor=clip))
    unit = [z / z.norm(dim=1, keepdim=True) for z in (x, y)]
    assert found.name == "cmmd"
    assert found.estimate.value == pytest.approx(1000 * loops(*unit, 10.0), rel=1e-6)
    assert "s=10, |x|=1" in found.protocol["kernel"]


def test_right_for_a_known_shift_with_an_error_that_is_the_scatter(normal, evaluate):
    """Two unit normals δ apart, width s: 2 (s² / (s² + 2))^(d/2) (1 − exp(−δ² / 2(s² + 2))) (Gaussian integrals)."""
    y = normal(300, 2, 999)
    found = [
        GaussianMMD().measure(evaluate(normal(300, 2, s) + 0.5, normal(300, 2, 500 + s)))[0].estimate
        for s in range(100)
    ]
    width = math.sqrt(2) * math.sqrt(2 * math.log(2))  # the median distance of two points: Rayleigh's, σ = √2
    truth = 2 * width**2 / (width**2 + 2) * (1 - math.exp(-0.5 / (2 * (width**2 + 2))))
    values = np.array([estimate.value for estimate in found])
    assert abs(values.mean() / 1000 - truth) < 4 * values.std() / 10 / 1000 + 0.02 * truth  # the width is estimated
    assert 0.75 < np.mean([estimate.stderr for estimate in found]) / values.std(ddof=1) < 1.35
    assert float(gaussian_kernel(y, y, 1.0).diagonal().min()) == pytest.approx(1.0)


def test_refuses_a_reference_without_spread(normal, evaluate):
    (found,) = GaussianMMD().measure(evaluate(normal(20, 2), torch.ones(20, 2)))
    assert found.reason == "most reference events are equal"
