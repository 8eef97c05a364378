"""Intervals, corrected tests and power, against scipy, simulation and arithmetic by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from genfam.comparing.statistics import (
    compare,
    holm,
    interval,
    paired_p,
    performance_profile,
    probability_of_improvement,
    seeds_needed,
    t_interval,
)


def test_t_interval_is_scipys_and_the_textbooks():
    values = [1.0, 2.0, 4.0]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected, rel=1e-12)
    # t_{0.975, 2} = 4.302653 (tables); s = 1, n = 3
    low, high = t_interval([-1.0, 0.0, 1.0])
    assert high == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert low == pytest.approx(-high)


def test_t_interval_is_empty_for_one_value_and_zero_only_where_all_agree():
    assert all(math.isnan(x) for x in t_interval([3.0]) + t_interval([]) + t_interval([1.0, math.inf]))
    assert t_interval([0.1, 0.1, 0.1]) == (0.1, 0.1)
    low, high = t_interval([0.1, 0.1, np.nextafter(0.1, 1.0)])
    assert low < high


def test_t_interval_covers_95_percent():
    rng = np.random.default_rng(0)
    hits = sum(low <= 0.0 <= high for low, high in (t_interval(rng.normal(size=3)) for _ in range(4000)))
    assert hits / 4000 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


def test_interval_is_t_for_few_and_bca_from_ten_on():
    rng = np.random.default_rng(5)
    few, many = rng.exponential(size=9), rng.exponential(size=30)
    assert interval(few) == t_interval(few)
    low, high = interval(many)
    assert low < many.mean() < high
    assert high - many.mean() > many.mean() - low  # a skewed sample has a skewed interval
    assert interval(many) == (low, high)  # seeded
    assert interval([2.0] * 12) == (2.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(5, 0.95), (10, 0.88), (30, 0.92)])
def test_coverage_of_the_intervals_that_are_used(n, least):
    """Of normal values: t is exact, BCa of ten falls short (Efron 1987 section 8), and of thirty by little."""
    rng = np.random.default_rng(n)
    repeats = 500
    hits = sum(low <= 0.0 <= high for low, high in (interval(rng.normal(size=n)) for _ in range(repeats)))
    assert least - 4 * math.sqrt(0.05 * 0.95 / repeats) <= hits / repeats <= 0.99


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, then made monotone
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_false_alarm_rate_of_any_separation():
    """Among k equal families any is called better in at most 5 % of cells (23 % of four without the correction)."""
    rng = np.random.default_rng(1)
    repeats = 1500

    def alarms(k):
        count = 0
        for _ in range(repeats):
            # a seed's luck is shared, as its data order is: pairing must take it out
            values = rng.normal(size=(k, 3)) + 10.0 * rng.normal(size=3)
            families = {str(i): dict(enumerate(own)) for i, own in enumerate(values)}
            count += any(pair.better is not None for pair in compare(families, True))
        return count / repeats

    error = 4 * math.sqrt(0.05 * 0.95 / repeats)
    assert alarms(2) == pytest.approx(0.05, abs=error)
    assert alarms(4) <= 0.05 + error


def test_p_is_scipys_paired_t_test():
    rng = np.random.default_rng(2)
    for _ in range(200):
        a, b = rng.normal(0.0, 1.0, 4), rng.normal(0.8, 1.0, 4)
        p = stats.ttest_rel(a, b).pvalue
        assert paired_p(b - a) == pytest.approx(p, rel=1e-9)
        (pair,) = compare({"a": dict(enumerate(a)), "b": dict(enumerate(b))}, True)
        assert pair.better == (("b" if b.mean() > a.mean() else "a") if p < 0.05 else None)


def test_infinite_divergence_loses_on_every_seed_only():
    inf = math.inf

    def better(b):
        (pair,) = compare({"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": dict(enumerate(b))}, False)
        return pair.better

    assert better([inf, inf, inf]) == "a"
    assert better([inf, 2.0, inf]) is None
    (pair,) = compare({"a": dict(enumerate([inf] * 3)), "b": dict(enumerate([inf] * 3))}, False)
    assert pair.better is None


def test_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 1.0, 7), rng.normal(size=5)
    expected = stats.mannwhitneyu(a, b).statistic / 35
    assert probability_of_improvement(a, b, higher_is_better=True) == pytest.approx(expected)
    assert probability_of_improvement(a, b, higher_is_better=False) == pytest.approx(1 - expected)
    assert probability_of_improvement([1.0, 2.0], [1.0, 2.0], higher_is_better=True) == 0.5


def test_power_keeps_its_promise():
    """Simulated: the advised number of seeds separates four times in five, 4 standard errors of 1,000 repeats."""
    rng = np.random.default_rng(4)
    observed = np.array([0.2, 1.0, 1.8])  # effect size 1.25
    n = int(seeds_needed(observed, tests=6))
    found = np.mean([paired_p(rng.normal(1.0, 0.8, n)) < 0.05 / 6 for _ in range(1000)])
    assert 0.8 - 0.05 < found < 0.9
    assert math.isnan(seeds_needed(np.array([1.0, -1.0])))  # no difference: no number of seeds would do
    assert math.isnan(seeds_needed(np.array([1.0])))


def test_they_are_those_of_rliable():
    # Agarwal et al.'s own library, on two algorithms of 8 runs × 5 tasks.
    from rliable import metrics

    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 0.2, (8, 5)), rng.normal(0.6, 0.2, (8, 5))
    ours = [probability_of_improvement(x, y, higher_is_better=True) for x, y in zip(a.T, b.T, strict=True)]
    assert np.mean(ours) == pytest.approx(metrics.probability_of_improvement(a, b), abs=1e-12)
    # What rliable calls the optimality gap is the area above the profile up to 1.
    taus = np.linspace(-1, 1, 20_001)
    above = np.trapezoid(1 - np.asarray(performance_profile(list(a.T), taus.tolist())), taus)
    assert above == pytest.approx(metrics.aggregate_optimality_gap(a, 1.0), abs=1e-3)
