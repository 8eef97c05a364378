"""Fréchet distance at the reference's class frequencies: blind to masses, awake to shapes, plain where masses agree."""

import math

import pytest
import torch

from genfam.metrics.base import Extractor
from genfam.metrics.extractors import Identity
from genfam.metrics.frechet import frechet
from genfam.metrics.frechet_reweighted import FrechetReweighted, class_weights, weighted_distance
from genfam.metrics.modes import Modes
from genfam.types import Status

# The spread is then known to 6 %; on such sets the jackknife of the plain distance is 18 % too wide, this one 15 %.
REPEATS = 120


class Sides(Extractor):
    """Two classes: left and right of zero."""

    name, n_classes, fingerprint = "sides", 2, "sides"

    def features(self, x):
        return x.double()

    def classify(self, x):
        return (x[:, 0] > 0).long()


def two_classes(normal, left, right, seed, spread=1.0):
    """Normal points around −10 and 10, and 3 features more."""
    x = normal(left + right, 4, seed) * spread
    x[:left, 0] -= 10
    x[left:, 0] += 10
    return x


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_weights_are_shares_of_the_reference_over_shares_of_the_samples():
    weights = class_weights(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1]), 3)
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0]).double())
    assert float(weights.mean()) == pytest.approx(1)


def test_weights_of_one_give_the_plain_distance(normal):
    x, y = normal(80, 5, 1) * 1.3, normal(70, 5, 2) + 0.2
    assert weighted_distance(x, torch.ones(80).double(), y) == pytest.approx(frechet(x, y)[0], rel=1e-9)


def test_whole_weights_count_rows_more_often(normal):
    x, y = normal(400, 3, 1), normal(300, 3, 2) + 1
    weights = torch.cat([torch.full((100,), 2.5), torch.full((300,), 0.5)]).double()
    repeated = torch.cat([x[:100].repeat(5, 1), x[100:]])
    assert weighted_distance(x, weights, y) == pytest.approx(frechet(repeated, y)[0], rel=1e-2)  # n − 1 differs


def test_other_frequencies_of_the_same_classes_cost_nothing(normal, evaluate, by_name):
    reference = two_classes(normal, 1000, 1000, 1)
    skewed = two_classes(normal, 1400, 600, 2)
    evaluation = evaluate(skewed, reference, extractor=Sides())
    found = by_name(FrechetReweighted(), evaluation)["reweighted_fd_sides"]
    assert frechet(skewed, reference)[0] > 15  # the mean moves by 4
    assert found.estimate.value < 0.05
    assert found.estimate.n == 2000 and found.higher_is_better is False
    assert by_name(Modes(), evaluation)["mode_reverse_kl"].estimate.value > 0.05  # where the rest is told


def test_another_shape_is_seen_as_well_as_ever(normal, evaluate):
    reference = two_classes(normal, 1000, 1000, 1)
    wider = two_classes(normal, 1200, 800, 2, 1.5)
    (found,) = FrechetReweighted().measure(evaluate(wider, reference, extractor=Sides()))
    assert found.estimate.value == pytest.approx(3 * 0.25 + (math.sqrt(102.25) - math.sqrt(101)) ** 2, rel=0.15)


def test_standard_error_is_the_spread_over_repetitions(normal, evaluate):
    found = []
    for s in range(REPEATS):
        drawn = torch.binomial(torch.tensor([400.0, 300.0]), torch.tensor([0.55, 0.5]), generator=seeded(s))
        left, other = (int(count) for count in drawn)
        samples = two_classes(normal, left, 400 - left, 2 * s, 1.3)
        reference = two_classes(normal, other, 300 - other, 2 * s + 1)
        found += FrechetReweighted().measure(evaluate(samples, reference, extractor=Sides()))
    values = torch.tensor([m.estimate.value for m in found])
    errors = torch.tensor([m.estimate.stderr for m in found])
    assert float(errors.mean()) == pytest.approx(1.15 * float(values.std()), rel=0.2)


def test_a_class_never_drawn_cannot_be_weighed_up(normal, evaluate):
    reference, collapsed = two_classes(normal, 50, 50, 1), two_classes(normal, 100, 0, 2)
    (found,) = FrechetReweighted().measure(evaluate(collapsed, reference, extractor=Sides()))
    assert found.status is Status.NOT_APPLICABLE
    assert found.reason == "no sample is of 1 of the reference's 2 classes"


def test_a_class_drawn_once_has_a_value_without_an_error(normal, evaluate):
    reference, nearly = two_classes(normal, 50, 50, 1), two_classes(normal, 99, 1, 2)
    (found,) = FrechetReweighted().measure(evaluate(nearly, reference, extractor=Sides()))
    assert math.isfinite(found.estimate.value) and found.estimate.stderr is None


def test_not_without_classes_nor_of_what_is_not_finite(normal, evaluate):
    x, y = two_classes(normal, 20, 20, 1), two_classes(normal, 20, 20, 2)
    (found,) = FrechetReweighted().measure(evaluate(x, y, extractor=Identity()))
    assert (found.name, found.reason) == ("reweighted_fd_identity", "extractor identity has no classes")
    x[3, 1] = math.nan
    (found,) = FrechetReweighted().measure(evaluate(x, y, extractor=Sides()))
    assert found.status is Status.NOT_APPLICABLE and "1 of 40 samples" in found.reason
