"""The Vendi score: known answers, and its definition by the matrix of similarities."""

import math

import numpy as np
import pytest
import torch

from genfam.metrics.vendi import Vendi, directions, vendi_score


def score(x):
    unit = directions(x)
    return vendi_score(unit.T @ unit / len(x))


def test_equal_events_count_as_one_and_orthogonal_ones_as_all():
    assert score(torch.ones(20, 5)) == pytest.approx(1.0, abs=1e-9)
    assert score(3.0 * torch.eye(12)) == pytest.approx(12.0, abs=1e-9)
    assert score(torch.eye(4).repeat(6, 1)) == pytest.approx(4.0, abs=1e-9)
    skewed = torch.cat([torch.eye(2)[:1].repeat(9, 1), torch.eye(2)[1:]])
    assert score(skewed) == pytest.approx(math.exp(-0.9 * math.log(0.9) - 0.1 * math.log(0.1)))


def test_the_definition_by_the_matrix_of_similarities(normal):
    x = normal(30, 8).abs()
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / 30).clip(1e-15)
    assert score(x) == pytest.approx(math.exp(-(eigenvalues * np.log(eigenvalues)).sum()), rel=1e-9)


def test_the_ratio_is_one_for_fresh_data_and_falls_where_variety_is_lost(normal, evaluate, by_name):
    x, y = normal(500, 6, 1), normal(700, 6, 2)
    fresh = by_name(Vendi(), evaluate(x, y))["vendi_ratio"].estimate
    assert abs(fresh.value - 1) <= 3 * fresh.stderr
    narrow = x * torch.tensor([1, 1, 1, 0.1, 0.1, 0.1], dtype=torch.float64)
    found = by_name(Vendi(), evaluate(narrow, y))
    assert found["vendi_ratio"].estimate.value < 0.7
    assert found["vendi"].estimate.value == pytest.approx(score(narrow))


def test_the_error_of_the_ratio_is_the_scatter_over_redraws(normal, evaluate, by_name):
    """Stated over true within 0.7 to 1.4: the scatter of 100 redraws is known to 7 %."""
    found = [
        by_name(Vendi(), evaluate(normal(200, 4, 2 * s), normal(200, 4, 2 * s + 1)))["vendi_ratio"] for s in range(100)
    ]
    scatter = np.std([m.estimate.value for m in found], ddof=1)
    assert 0.7 < np.mean([m.estimate.stderr for m in found]) / scatter < 1.4
