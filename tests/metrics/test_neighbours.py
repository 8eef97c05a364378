"""Precision, recall, density, coverage: the `prdc` package, planted failures, ties, bounded memory."""

import contextlib
import io

import pytest
import torch

from genfam.metrics.neighbours import NearestNeighbours, distances, neighbours
from genfam.types import Kind, Status


def averages(found):
    return {
        "precision": float(found.precise.double().mean()),
        "recall": float(found.recalled.double().mean()),
        "density": float(found.density.mean()),
        "coverage": float(found.covered.double().mean()),
    }


@pytest.mark.parametrize("block_size", [7, 1000])
@pytest.mark.parametrize("k", [1, 5])
def test_agrees_with_prdc_exactly(normal, k, block_size):
    from prdc import compute_prdc

    real, fake = normal(120, 6, 1), normal(150, 6, 2) * 1.2 + 0.3
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    got = averages(neighbours(real, fake, k, block_size))
    assert got == {key: pytest.approx(float(value), abs=1e-12) for key, value in expected.items()}


def test_collapse_keeps_precision_and_loses_diversity(normal):
    real = normal(300, 2)
    got = averages(neighbours(real, real[:1] + 0.01 * normal(300, 2, 1), 5))
    assert got["precision"] > 0.9
    assert got["recall"] < 0.1
    assert got["coverage"] < 0.1


def test_noise_keeps_diversity_and_loses_fidelity(normal):
    real = normal(300, 2)
    got = averages(neighbours(real, 8 * normal(300, 2, 1), 5))
    assert got["precision"] < 0.3
    assert got["density"] < 0.2
    assert got["recall"] > 0.9


def test_ties_of_discrete_events_count_as_inside():
    faces = torch.arange(6).repeat(20)[:, None].double()
    got = averages(neighbours(faces, faces, 5))
    assert got["precision"] == got["recall"] == got["coverage"] == 1.0
    # Each sample lies in the balls of all 20 real events of its own face.
    assert got["density"] == pytest.approx(20 / 5)
    missing = averages(neighbours(faces, faces[faces[:, 0] < 3], 5))
    assert missing["precision"] == 1.0
    assert missing["coverage"] == missing["recall"] == 0.5


def test_ties_survive_a_change_of_origin_and_scale():
    images = torch.randint(0, 17, (40, 64), generator=torch.Generator().manual_seed(0)).double()
    real = torch.cat([images] * 6) * 0.1 + 1e3
    got = averages(neighbours(real, real, 5, block_size=17))
    assert got["precision"] == got["recall"] == got["coverage"] == 1.0


def test_measurements(normal, evaluate, by_name):
    found = by_name(NearestNeighbours(), evaluate(normal(100, 2, 1), normal(80, 2, 2)))
    assert list(found) == ["precision", "recall", "density", "coverage"]
    assert [found[name].estimate.n for name in found] == [100, 80, 100, 80]
    assert all(m.higher_is_better and m.estimate.stderr > 0 and m.protocol["k"] == "5" for m in found.values())
    assert [m.kind for m in found.values()] == [Kind.FIDELITY, Kind.COVERAGE] * 2


def test_certainty_is_never_claimed(normal, evaluate, by_name):
    x = normal(50, 2)
    precision = by_name(NearestNeighbours(), evaluate(x, x))["precision"].estimate
    assert precision.value == 1.0
    assert 0.005 < precision.stderr < 0.05


def test_too_few_events(normal, evaluate):
    found = NearestNeighbours(k=5).measure(evaluate(normal(5, 2), normal(50, 2)))
    assert all(m.status is Status.NOT_APPLICABLE and "at least 6" in m.reason for m in found)
    with pytest.raises(ValueError, match="k = 5"):
        neighbours(normal(50, 2), normal(5, 2), 5)


def test_distances_are_those_of_direct_differences_at_any_offset_and_scale():
    """10,000 random cases against float64 differences, to 1e-9 of the distance."""
    generator = torch.Generator().manual_seed(0)
    for case in range(100):
        d = 1 + case % 7
        scale = 10.0 ** torch.randint(-6, 7, (1,), generator=generator).item()
        offset = scale * 10.0 ** torch.randint(-2, 8, (1,), generator=generator).item()
        x, y = (offset + scale * torch.randn(10, d, generator=generator, dtype=torch.float64) for _ in range(2))
        if case % 3 == 0:
            y[0] += 1e6 * scale  # one far outlier
        direct = (x[:, None] - y[None]).square().sum(dim=2).sqrt()
        assert torch.allclose(distances(x, y), direct, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e7])
def test_tight_clusters_far_from_the_origin_are_judged_as_near_it(normal, offset):
    real, fake = 0.01 * normal(300, 2, 1), 0.01 * normal(300, 2, 2) * 1.3
    side = torch.where(torch.arange(300)[:, None] % 2 == 0, 1.0, -1.0) * offset
    near = averages(neighbours(real + torch.sign(side) * 10, fake + torch.sign(side) * 10))
    far = averages(neighbours(real + side, fake + side))
    assert far == pytest.approx(near if offset else far, abs=0.02)


def test_an_outlier_changes_its_own_row_only(normal):
    real, fake = normal(300, 3, 1), normal(300, 3, 2)
    plain = neighbours(real, fake)
    fake[0] = 1e9
    spoilt = neighbours(real, fake)
    assert torch.equal(plain.precise[1:], spoilt.precise[1:]) and not spoilt.precise[0]
