"""Accuracy, distance and variance within a class, and the likelihood given it, where the answers are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from genfam.metrics.base import Extractor, Seen
from genfam.metrics.conditional import Conditional, WithinClassVariance, variance_within
from genfam.types import Event, Likelihood, Status

CENTRES = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])


class Nearest(Extractor):
    """Points as they are; a class is the nearest centre."""

    name, n_classes, fingerprint = "toy", 3, "toy"

    def features(self, x):
        return x.double()

    def classify(self, x):
        return torch.cdist(x.float(), CENTRES).argmin(dim=1)


def points(values, spread, seed):
    noise = torch.randn(len(values), 2, generator=torch.Generator().manual_seed(seed))
    return CENTRES[values] + spread * noise


def evaluation(evaluate, samples, values, reference, theirs, labels=True, model=None):
    found = evaluate(samples, reference, extractor=Nearest(), model=model)
    found.condition = Seen(3, labels, values, theirs)
    return found


VALUES, THEIRS = torch.arange(3).repeat(300), torch.arange(3).repeat(200)


def test_samples_of_their_class_are_right_and_near_and_as_varied(evaluate, by_name):
    given = evaluation(evaluate, points(VALUES, 1.0, 0), VALUES, points(THEIRS, 1.0, 1), THEIRS)
    found = by_name(Conditional(), given)
    assert found["class_accuracy"].estimate.value > 0.99
    within = found["fd_toy_within"].estimate
    assert 0 < within.value < 0.1 and 0 < within.stderr < 0.05
    (variance,) = WithinClassVariance().measure(given)
    assert variance.estimate.value == pytest.approx(1.0, abs=4 * variance.estimate.stderr)
    assert variance.name == "within_class_variance" and variance.higher_is_better is None


def test_swapped_labels_are_seen_within_classes_and_not_between_them(evaluate, by_name):
    """The planted failure that an unconditional distance cannot see."""
    given = evaluation(evaluate, points(VALUES, 1.0, 0), (VALUES + 1) % 3, points(THEIRS, 1.0, 1), THEIRS)
    found = by_name(Conditional(), given)
    assert found["class_accuracy"].estimate.value < 0.01
    shift = float((CENTRES - CENTRES.roll(1, 0)).square().sum(dim=1).mean())
    assert found["fd_toy_within"].estimate.value == pytest.approx(shift, rel=0.05)


def test_sharpened_samples_vary_less_within_their_class(evaluate, by_name):
    for spread in (0.25, 0.5, 0.75, 1.5):
        given = evaluation(evaluate, points(VALUES, spread, 0), VALUES, points(THEIRS, 1.0, 1), THEIRS)
        estimate = by_name(WithinClassVariance(), given)["within_class_variance"].estimate
        assert estimate.value == pytest.approx(spread**2, abs=4 * estimate.stderr)
        given.condition = None  # the classifier's classes stand in
        assert by_name(WithinClassVariance(), given)["within_class_variance"].estimate.value == pytest.approx(
            spread**2, rel=0.15
        )


def test_the_error_of_a_variance_is_that_of_redraws(evaluate):
    """30 redraws: the mean stated error within 40 % of their spread, a false alarm in about 1e-3."""
    estimates = []
    for seed in range(30):
        given = evaluation(evaluate, points(VALUES, 1.0, 2 * seed), VALUES, points(THEIRS, 1.0, 2 * seed + 1), THEIRS)
        estimates.append(WithinClassVariance().measure(given)[0].estimate)
    spread = float(torch.tensor([e.value for e in estimates]).std())
    assert sum(e.stderr for e in estimates) / 30 == pytest.approx(spread, rel=0.4)


def test_variance_within_by_hand():
    features = torch.tensor([[0.0], [2.0], [10.0], [10.0], [14.0], [99.0], [5.0]])
    values = torch.tensor([0, 0, 1, 1, 1, 2, -1])  # a class of one and an event off every mode say nothing
    mean = 34.0 / 3
    assert variance_within(features, values, 3) == pytest.approx((2.0 + 2 * (10 - mean) ** 2 + (14 - mean) ** 2) / 3)


def test_what_does_not_apply_says_why(evaluate, by_name):
    samples, reference = points(VALUES, 1.0, 0), points(THEIRS, 1.0, 1)
    plain = evaluate(samples, reference, extractor=Nearest())
    assert all(m.status is Status.NOT_APPLICABLE for m in Conditional().measure(plain))
    clusters = by_name(Conditional(), evaluation(evaluate, samples, VALUES, reference, THEIRS, labels=False))
    assert "no label" in clusters["class_accuracy"].reason and clusters["fd_toy_within"].estimate is not None
    few = by_name(Conditional(), evaluation(evaluate, samples[:50], VALUES[:50], reference, THEIRS))
    assert "0% of the mass" in few["fd_toy_within"].reason
    broken = samples.clone()
    broken[0] = torch.nan
    for metric in (Conditional(), WithinClassVariance()):
        found = metric.measure(evaluation(evaluate, broken, VALUES, reference, THEIRS))
        assert all(m.estimate is None and m.reason for m in found)


def test_other_samples_have_classes_of_their_own_and_the_reference_keeps_its(evaluate):
    first = evaluation(evaluate, points(VALUES, 0.1, 0), VALUES, points(THEIRS, 0.1, 1), THEIRS)
    assert torch.equal(first.sample_classes, VALUES)
    second = first.with_samples(CENTRES[[2, 2, 0]])
    assert second.sample_classes.tolist() == [2, 2, 0] and torch.equal(second.reference_classes, THEIRS)


def test_held_out_events_that_do_not_vary_within_a_class_have_no_ratio(evaluate):
    """As on the die, whose classes are single values."""
    die = evaluation(evaluate, points(VALUES, 1.0, 0), VALUES, points(THEIRS, 0.0, 1) + 0.1, THEIRS)
    (found,) = WithinClassVariance().measure(die)
    assert found.status is Status.NOT_APPLICABLE and "held-out events that vary" in found.reason


def test_the_likelihood_given_the_condition_is_of_each_events_own_value(evaluate, by_name):
    def log_prob(x, condition=None):
        assert condition is not None
        return -(condition.double() + 1.0)

    model = SimpleNamespace(
        event=Event((2,)), likelihood_kind=Likelihood.LOWER_BOUND, likelihood_method="own term of 3",
        density_kind=Likelihood.EXACT, density_method="", log_prob=log_prob,
    )  # fmt: skip
    samples, reference = points(VALUES, 1.0, 0), points(THEIRS, 1.0, 1)
    found = by_name(Conditional(events=600), evaluation(evaluate, samples, VALUES, reference, THEIRS, model=model))
    nll = found["conditional_nll_nats"]
    assert nll.estimate.value == pytest.approx(2.0) and nll.protocol["likelihood"] == "exact"
    assert found["conditional_bits_per_dim"].status is Status.NOT_APPLICABLE
