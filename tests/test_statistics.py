"""Intervals, corrected tests, power and ratios, against scipy, simulation and arithmetic by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from interval_coverage import CELLS, PATH, simulate
from scipy import stats

from genfam.comparing.statistics import (
    EQUAL_VARIANCES,
    SEPARATES,
    Runs,
    compare,
    difference,
    holm,
    levene_p,
    p_value,
    performance_profile,
    probability_of_improvement,
    ratio,
    runs_of,
    seeds_needed,
    t_interval,
)


def one(*values):
    return Runs(np.asarray(values, dtype=np.float64))


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


def test_levenes_test_is_scipys():
    rng = np.random.default_rng(5)
    for sizes in ((3, 3), (3, 5, 4), (10, 10, 10, 10, 2)):
        samples = [rng.normal(size=n) for n in sizes]
        assert levene_p(samples) == pytest.approx(stats.levene(*samples, center="mean").pvalue, rel=1e-9)
    assert levene_p([np.array([1.0, 2.0]), np.array([3.0, 4.0])]) == 0.0


def test_what_families_lend_each_other_by_hand():
    # Variances 1, 2 and 4 with two degrees of freedom each.
    deviations = {"a": 1.0, "b": 2**0.5, "c": 2.0}
    cell = runs_of({name: [5.0 - s, 5.0, 5.0 + s] for name, s in deviations.items()})
    pool = cell["a"].pool
    assert pool is not None and pool.variance == pytest.approx(7 / 3)
    assert pool.degrees == pytest.approx(2 * (1 + 2 + 4) ** 2 / (1 + 4 + 16))
    assert [runs.variance for runs in cell.values()] == pytest.approx([7 / 3, 7 / 3, 4.0])
    half = stats.t.ppf(0.975, pool.degrees) * math.sqrt(4.0 / 3)
    assert cell["c"].interval() == pytest.approx((5.0 - half, 5.0 + half))
    assert difference(cell["a"], cell["c"]) == pytest.approx(((7 / 3 + 4.0) / 3, pool.degrees))


def test_unequal_variances_and_families_without_scatter_lend_nothing():
    rng = np.random.default_rng(6)
    values = {"a": rng.normal(size=10), "b": 30.0 * rng.normal(size=10), "same": [2.0] * 10}
    assert levene_p([values["a"], values["b"]]) < EQUAL_VARIANCES
    cell = runs_of(values)
    assert all(runs.pool is None for runs in cell.values())
    assert cell["a"].interval() == pytest.approx(t_interval(values["a"]))
    assert cell["same"].interval() == (2.0, 2.0)
    found = runs_of({"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 4.0], "c": [math.inf] * 3, "d": [1.0], "e": []})
    assert [runs.pool is not None for runs in found.values()] == [True, True, False, False, False]
    assert all(math.isnan(end) for name in "cde" for end in found[name].interval())


def test_no_variance_is_below_the_evaluations():
    alike = [1.0, 1.001, 0.999]
    (low, high) = runs_of({"a": alike}, {"a": 0.01})["a"].interval()
    assert high - low == pytest.approx(2 * 4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert runs_of({"a": [1.0] * 3}, {"a": 0.01})["a"].interval() == pytest.approx((low, high))
    assert runs_of({"a": [0.0, 1.0, 2.0]}, {"a": 0.01})["a"].interval() == t_interval([0.0, 1.0, 2.0])


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage_and_false_alarms_of_equal_variances(seeds):
    """Of 600 cells of four families, of which 0.9 % are a standard error if a cell's families all stand or fall."""
    found = simulate(4, seeds, "normal", "equal", 1.0, "used", cells=600)
    assert found["coverage"] == pytest.approx(0.95, abs=0.02)
    assert found["false_alarms"] <= SEPARATES + 4 * math.sqrt(SEPARATES / 600)


def test_the_published_simulations_hold_what_is_promised():
    """Of 2,000 cells each: a standard error is at most 0.5 %, of shares of 5 and 95 %."""
    table = pd.read_csv(PATH)
    used = table[(table["rule"] == "used") & (table["larger"] != "evaluation")]
    assert len(used) == 96 and CELLS == 2000
    assert used["coverage"].between(0.925, 0.97).all()
    assert (used.loc[used["values"] == "normal", "coverage"] >= 0.935).all()
    assert (used["coverage_of_largest"] > 0.88).all()
    assert (used["false_alarms"] <= 0.05).all()
    few = table[(table["values"] == "normal") & (table["seeds"] == 3)].set_index("rule")
    # What the larger variance and the fewer degrees are for, and what the pool is for.
    assert few.loc["outright", "coverage_of_largest"].min() < 0.86
    equal = few[few["larger"] == "equal"].groupby("rule")["half_width"].max()
    assert equal["used"] < 0.75 * equal["own"]


@pytest.mark.slow
@pytest.mark.parametrize("families", [4, 10])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_published_simulations_come_out_again(families, seeds):
    """With other cells: within 5 standard errors of the difference of shares of 2,000 and 500, for some 300 of them."""
    table = pd.read_csv(PATH)
    rows = table[(table["families"] == families) & (table["seeds"] == seeds) & (table["rule"] == "used")]
    for row in rows.to_dict("records"):
        again = simulate(families, seeds, row["values"], row["larger"], row["times"], row["rule"], cells=500, start=1)
        for name in ("coverage", "coverage_of_largest", "false_alarms"):
            error = math.sqrt(row[name] * (1 - row[name]) * (1 / CELLS + 1 / 500)) + 0.001
            assert again[name] == pytest.approx(row[name], abs=5 * error), (row, name)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, then made monotone
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_is_scipys_where_nothing_is_lent():
    rng = np.random.default_rng(2)
    for _ in range(200):
        a, b = one(*rng.normal(0.0, 1.0, 4)), one(*rng.normal(0.8, 3.0, 6))
        expected = stats.ttest_ind(a.values, b.values, equal_var=False)
        assert p_value(a, b) == pytest.approx(expected.pvalue, rel=1e-9)
        (pair,) = compare({"a": a, "b": b}, True)
        assert (pair.low, pair.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert pair.n == 4 and pair.better == (
            ("a" if pair.advantage > 0 else "b") if expected.pvalue < SEPARATES else None
        )


def test_seeds_that_both_have_are_not_paired():
    luck = np.array([0.0, 10.0, 20.0])
    a, b = luck + np.array([1.0, 1.1, 0.9]), luck + np.array([2.0, 2.05, 2.0])
    (pair,), (turned,) = (compare(runs_of({"a": a, "b": values}), False) for values in (b, b[::-1]))
    assert pair.better is None and pair.p > 0.5
    assert turned.p == pytest.approx(pair.p)


def test_infinite_divergence_loses_on_every_seed_only():
    inf = math.inf

    def better(b):
        (pair,) = compare(runs_of({"a": [1.0, 2.0, 3.0], "b": b}), False)
        return pair.better

    assert better([inf, inf, inf]) == "a"
    assert better([inf, 2.0, inf]) is None
    (pair,) = compare(runs_of({"a": [inf] * 3, "b": [inf] * 3}), False)
    assert pair.better is None


def test_what_cannot_be_told_is_not_told():
    assert p_value(one(1.0), one(2.0, 2.1)) == 1.0
    assert p_value(one(1.0, math.nan), one(2.0, 2.1)) == 1.0
    assert p_value(one(1.0, 1.0), one(1.0, 1.0)) == 1.0 and p_value(one(1.0, 1.0), one(2.0, 2.0)) == 0.0
    assert p_value(one(1e200, -1e200, 1.0), one(1.0, 2.0, 3.0)) == 1.0


def test_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 1.0, 7), rng.normal(size=5)
    expected = stats.mannwhitneyu(a, b).statistic / 35
    assert probability_of_improvement(a, b, higher_is_better=True) == pytest.approx(expected)
    assert probability_of_improvement(a, b, higher_is_better=False) == pytest.approx(1 - expected)
    assert probability_of_improvement([1.0, 2.0], [1.0, 2.0], higher_is_better=True) == 0.5


@pytest.mark.parametrize("alike", [True, False])
def test_power_keeps_its_promise(alike):
    """Simulated: the advised number of seeds separates four times in five, ± 5 % (4 standard errors of 1,000)."""
    rng = np.random.default_rng(4)
    a, b = [-0.8, 0.0, 0.8], [0.2, 1.0, 1.8] if alike else [-5.0, 2.0, 9.0]
    cell = runs_of({"a": a, "b": b}) if alike else {"a": one(*a), "b": one(*b)}
    n = int(seeds_needed(cell["a"], cell["b"], tests=6))

    def found():
        draws = {name: rng.normal(runs.mean, math.sqrt(runs.variance), n) for name, runs in cell.items()}
        drawn = runs_of(draws) if alike else {name: Runs(values) for name, values in draws.items()}
        return p_value(drawn["a"], drawn["b"]) < SEPARATES / 6

    assert 0.75 < np.mean([found() for _ in range(1000)]) < 0.87
    assert math.isnan(seeds_needed(one(1.0, -1.0), one(2.0, -2.0)))  # no difference: no number of seeds would do
    assert math.isnan(seeds_needed(one(1.0), one(2.0, 3.0)))


def test_fiellers_interval_by_hand_and_without_an_end():
    assert ratio(one(2.0, 2.0), one(4.0, 4.0)) == (0.5, 0.5, 0.5)
    a, b = one(4.0, 5.0, 6.0), one(1.8, 2.0, 2.2)
    value, low, high = ratio(a, b)
    h, g = 5.0 - a.interval()[0], 2.0 - b.interval()[0]
    assert value == pytest.approx(2.5) and low < value < high
    for end in (low, high):  # where 5 − ρ·2 is as far from zero as chance may bring it
        assert (5.0 - end * 2.0) ** 2 == pytest.approx(h**2 + end**2 * g**2)
    weak = one(0.1, 2.0, 3.9)
    value, low, high = ratio(one(9.9, 10.0, 10.1), weak)
    assert value == pytest.approx(5.0) and 0.0 < low < value and high == math.inf
    assert ratio(one(-5.0, 1.0, 9.0), weak)[1:] == (-math.inf, math.inf)
    assert all(math.isnan(x) for x in ratio(a, one(-1.0, -1.1)))
    assert ratio(one(3.0), b)[0] == pytest.approx(1.5) and math.isnan(ratio(one(3.0), b)[1])


@pytest.mark.parametrize(("seeds", "scatter"), [(3, 0.02), (3, 0.3), (5, 0.3), (10, 0.3)])
def test_coverage_of_ratios(seeds, scatter):
    """Of 2,000 ratios of 20 to 1: at least 95 % less 4 standard errors, also where intervals have no end."""
    rng = np.random.default_rng(7)
    bounds = [ratio(Runs(rng.normal(20.0, 1.0, seeds)), Runs(rng.normal(1.0, scatter, seeds)))[1:] for _ in range(2000)]
    known = [low <= 20.0 <= high for low, high in bounds if not math.isnan(low)]
    assert len(known) > 1990
    assert 0.95 - 4 * math.sqrt(0.05 * 0.95 / 2000) <= np.mean(known) <= 0.99


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
