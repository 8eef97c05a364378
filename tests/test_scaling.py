"""Curves over compute: the fit against scipy, how often intervals hold the truth, crossings, and one vote a seed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from interval_coverage import CROSSING, CURVES, KNOWN, RIGHT, SCALING_PATH, simulate_crossing, simulate_curve
from scipy import optimize, stats

from genfam.comparing.scaling import scaling, share_of
from genfam.comparing.scaling_curves import crossing, fit, fit_curves
from genfam.comparing.stability import final_skills, stability_card
from genfam.records.store import Store, as_tuned, at_largest_budget
from genfam.report.findings import findings
from genfam.report.page import build as build_page
from genfam.report.page import render
from genfam.report.scaling import crossing_text, crossings_table, fits_table
from genfam.types import Estimate, Outcome
from page_of import page_arguments
from stores import make
from test_docs import hook

BUDGETS = np.array([1 / 64, 1 / 16, 1 / 4, 1.0]) * 5e12
PROMISED = (0.92, 0.985)


def value(compute, floor, reducible, exponent):
    return floor + reducible * (compute / BUDGETS[-1]) ** -exponent


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_a_curve_without_noise_is_found(known):
    found = fit(BUDGETS, [[value(c, *known)] * 3 for c in BUDGETS])
    assert found is not None and found.misfit < 1e-6
    curve = found.curve
    assert (curve.floor[0], curve.reducible[0], curve.exponent[0]) == pytest.approx(known, abs=1e-6)
    assert curve.at(BUDGETS)[0] == pytest.approx(value(BUDGETS, *known))
    assert found.floor == pytest.approx([known[0]] * 2, abs=1e-4)
    # of a flat line every exponent is as good
    assert found.exponent == pytest.approx([known[2]] * 2 if known[1] else [0.0, 3.0], abs=1e-2)


def test_no_search_of_scipy_finds_a_better_curve():
    """Against bounded nonlinear least squares from many starts, on noisy means, with a floor that may bind."""
    rng = np.random.default_rng(0)
    for trial in range(12):
        floor, reducible, exponent = rng.uniform(0, 0.2), rng.uniform(0, 0.3), rng.uniform(0, 1.5)
        means = value(BUDGETS, floor, reducible, exponent) * np.exp(0.2 * rng.standard_normal(4))
        least = 0.1 if trial % 2 else 0.0
        weights = 1.0 / means**2

        def residuals(at, means=means):
            return (value(BUDGETS, *at) - means) / means

        starts = [(least + a, b, c) for a in (0.01, 0.2) for b in (0.01, 0.2) for c in (0.1, 0.5, 2.0)]
        bounds = ([least, 0.0, 0.02], [np.inf, np.inf, 3.0])
        theirs = min(2.0 * optimize.least_squares(residuals, start, bounds=bounds).cost for start in starts)
        curve = fit_curves(BUDGETS, means[None, :], weights, least)
        ours = float((residuals((curve.floor[0], curve.reducible[0], curve.exponent[0])) ** 2).sum())
        assert ours <= 1.05 * theirs + 1e-6, "but for the grid of exponents, 0.01 apart"
        assert curve.floor[0] >= least and curve.reducible[0] >= 0.0


def runs(rng, known, noise):
    """Three seeds a budget."""
    return [np.abs(value(c, *known) * (1 + noise * rng.standard_normal(3))) for c in BUDGETS]


def test_ends_of_a_profile_are_where_the_f_test_ends():
    """Against scipy: with floor or exponent held at its interval's end, the best error is what F allows."""
    rng = np.random.default_rng(3)
    samples = runs(rng, KNOWN["floor"], 0.05)
    found = fit(BUDGETS, samples)
    means = np.array([own.mean() for own in samples])
    at = fit_curves(BUDGETS, means[None, :], 3.0 / means**2, 0.0).at(BUDGETS)[0]
    weights = 3.0 / at**2
    scatter = sum(((own - own.mean()) ** 2).sum() / a**2 for own, a in zip(samples, at, strict=True))

    def error(held, place):
        def residuals(free):
            return (value(BUDGETS, *np.insert(free, place, held)) - means) * np.sqrt(weights)

        starts = [(a, b) for a in (0.02, 0.1, 0.5) for b in (0.02, 0.1, 0.5)]
        return min(2.0 * optimize.least_squares(residuals, start, bounds=([0, 0], [9, 3])).cost for start in starts)

    best = min(error(exponent, 2) for exponent in np.linspace(0.05, 2.0, 100))
    assert 0.0 < found.floor[0] < found.floor[1] and 0.0 < found.exponent[0] < found.exponent[1] < 3.0
    for place, ends in ((0, found.floor), (2, found.exponent)):
        for end in ends:
            allowed = (error(end, place) - best) / ((scatter + best) / 9.0)
            assert allowed == pytest.approx(stats.f.ppf(0.95, 1, 9), rel=0.05)


def test_runs_that_are_of_another_form_have_no_interval():
    falls_late = [[1.0, 1.01, 0.99], [0.98, 0.99, 0.97], [0.9, 0.91, 0.89], [0.2, 0.21, 0.19]]
    found = fit(BUDGETS, falls_late)
    assert found.misfit > 0.1 and found.form_p < 1e-6
    assert all(math.isnan(end) for end in (*found.floor, *found.exponent))
    right = fit(BUDGETS, runs(np.random.default_rng(0), KNOWN["floor"], 0.05))
    one = crossing(found, right)
    assert right.form_p > 0.05 and math.isnan(one.low) and math.isnan(one.agreement)
    three = fit(BUDGETS[1:], runs(np.random.default_rng(0), KNOWN["floor"], 0.05)[1:])
    assert math.isnan(three.form_p), "three budgets and three numbers"


def test_published_simulations_hold_what_is_promised():
    """Of 1,000 curves each, of which 0.7 % are a standard error."""
    table = pd.read_csv(SCALING_PATH)
    right = table[table["runs"] == RIGHT]
    assert CURVES == 1000 and len(right) == 3 * 2 * 2 * (len(KNOWN) + 1)
    for name in ("floor", "exponent", "crossing"):
        assert right[name].dropna().between(*PROMISED).all(), name
    rejected = right.pivot_table(index="curve", values="rejected", aggfunc="mean")["rejected"]
    assert (rejected[["floor", "steep"]] < 0.07).all(), "at a level of 5 %"
    assert (rejected < 0.12).all(), "more where floor or exponent is at its bound"
    other = table[(table["runs"] == "of another form") & (table["noise"] == 0.03)]
    assert (other.groupby("seeds")["rejected"].mean().diff().dropna() > 0.0).all(), "more seeds see it more often"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
def test_published_simulations_come_out_again(seeds):
    """With other curves: within five standard errors of the difference of shares of 1,000 and 200."""
    table = pd.read_csv(SCALING_PATH)
    for row in table[table["seeds"] == seeds].to_dict("records"):
        if row["curve"] in KNOWN:
            again = simulate_curve(row["curve"], seeds, row["values"], row["noise"], row["runs"], curves=200, start=1)
        else:
            again = simulate_crossing(seeds, row["values"], row["noise"], curves=200, start=1)
        for name in again:
            error = math.sqrt(row[name] * (1 - row[name]) * (1 / CURVES + 1 / 200)) + 0.002
            assert again[name] == pytest.approx(row[name], abs=5 * error), (row, name)


def test_a_crossing_is_where_the_curves_cross():
    first, second = (fit(BUDGETS, [[value(c, *known)] * 2 for c in BUDGETS]) for known in CROSSING)
    one, other = crossing(first, second), crossing(second, first)
    assert other.first_leads and not one.first_leads and one.place == pytest.approx(other.place)
    assert value(one.place, *CROSSING[0]) == pytest.approx(value(one.place, *CROSSING[1]), rel=1e-3)
    assert BUDGETS[0] < one.place < BUDGETS[-1] and one.agreement == 1.0
    assert (one.low, one.high) == pytest.approx((one.place, one.place), rel=1e-6)


def test_there_is_no_crossing_beyond_what_was_measured():
    """Power laws that would meet at four times the largest budget; and ranges that do not overlap."""
    slow, fast = (0.0, 0.1, 0.2), (0.0, 0.2, 0.7)
    first, second = (fit(BUDGETS, [[value(c, *known)] * 2 for c in BUDGETS]) for known in (slow, fast))
    one = crossing(first, second)
    assert one.place is None and one.first_leads and math.isnan(one.low) and one.agreement == 1.0
    later = fit(BUDGETS * 100, [[value(c, *slow)] * 2 for c in BUDGETS])
    assert crossing(first, later) is None


def test_what_seeds_cannot_place_within_the_range_is_said_so():
    text = crossing_text(
        {"crossing": 3e11, "leads": "vae", "behind": "gan", "ci_low": 0.0, "ci_high": math.inf, "range_low": 1e10,
         "range_high": 5e12, "agreement": 0.6}
    )  # fmt: skip
    assert text == "vae overtakes at 3e+11 [below 1e+10, above 5e+12]"
    doubted = crossing_text({"crossing": 3e11, "leads": "vae", "ci_low": math.nan, "ci_high": math.nan}, misfit=0.18)
    assert doubted == "vae overtakes at 3e+11, if a fit that misses the means by 18% is right"
    rng = np.random.default_rng(3)
    twins = crossing(*(fit(BUDGETS, runs(rng, KNOWN["floor"], 0.2)) for _ in range(2)))
    assert twins.agreement < 0.9
    assert twins.place is None or twins.low == 0.0 or twins.high == math.inf


@pytest.mark.parametrize(
    ("compute", "values"),
    [([1.0, 2.0], [[1.0], [2.0]]), ([1.0, 2.0, 4.0], [[1.0], [0.0], [1.0]]), ([0.0, 1.0, 2.0], [[1.0]] * 3)],
)
def test_too_few_budgets_or_values_that_are_no_distances_have_no_fit(compute, values):
    assert fit(compute, values) is None


def test_budgets_are_named_by_their_share():
    assert [share_of(b, 6.4e12) for b in (1e11, 1.6e12, 6.4e12)] == ["C/64", "C/4", "C"]
    assert share_of(0.35, 1.0) == "0.35 C"


def ladder(seeds=3):
    """GAN and VAE at four budgets, which cross; yardsticks; one GAN diverged at the smallest budget."""
    rng, found = np.random.default_rng(0), []
    yardsticks = (("oracle", (0.02, 0.0, 0.0), "oracle"), ("gaussian", (0.9, 0.0, 0.0), "floor"))
    contestants = (("vae", CROSSING[0], "contestant"), ("gan", CROSSING[1], "contestant"))
    for family, known, role in contestants + yardsticks:
        for budget in BUDGETS:
            for seed in range(seeds):
                gone = (family, budget, seed) == ("gan", BUDGETS[0], 0)
                number = value(budget, *known) * (1 + 0.02 * rng.standard_normal())
                record = make(family, "digits", seed, number, role, Outcome.DIVERGED if gone else Outcome.OK)
                record.run_id = f"{family}-{budget:.0f}-{seed}"
                record.config = {"budget": {"train_flops": budget, "parameters": 10}, "source": {"name": "digits"}}
                record.train_flops = 0.99 * budget if role == "contestant" else 0.0
                record.train_seconds = record.train_flops / (1e10 if family == "vae" else 2.5e9)
                found.append(record)
    return found


def test_one_seed_has_one_vote_at_whatever_budgets_it_was_run(tmp_path):
    records = ladder()
    store = Store(tmp_path / "outputs" / "quick")
    for record in records:
        store.write(record)
    current = store.current()
    assert len(current) == len(records), "no budget supersedes another"
    assert {record.config["budget"]["train_flops"] for record in as_tuned(current)} == {BUDGETS[-1]}
    alone = findings([record for record in current if record.config["budget"]["train_flops"] == BUDGETS[-1]])
    found = findings(current)
    for name in ("card", "comparisons", "stability", "variance"):
        assert getattr(found, name).equals(getattr(alone, name)), f"{name}: as of a suite of the largest budget"
    assert stability_card(current).equals(alone.stability) and len(final_skills(current)["gan"]["digits"]) == 3
    assert len(alone.scaling.points) == 0 and not alone.more and set(found.more) == {
        "scaling", "scaling_fits", "scaling_crossings",
    }  # fmt: skip
    unlike = [replace(record, config={}) for record in records[:2]]
    assert at_largest_budget(unlike) == unlike


def test_tables_of_a_suite_with_budgets(tmp_path):
    found = scaling(ladder())
    gan = found.points[found.points["family"] == "gan"]
    assert gan["share"].tolist() == ["C/64", "C/16", "C/4", "C"] and set(found.points["family"]) == {"gan", "vae"}
    assert gan["n_runs"].tolist() == [3, 3, 3, 3] and gan["n_ok"].tolist() == [2, 3, 3, 3]
    vae = found.fits[(found.fits["family"] == "vae") & (found.fits["against"] == "train_flops")].iloc[0]
    assert vae["least_floor"] == pytest.approx(0.02, rel=0.05) and vae["floor"] >= vae["least_floor"]
    assert vae["exponent_low"] < 0.5 < vae["exponent_high"]
    flops, seconds = (
        found.crossings[found.crossings["against"] == kind].iloc[0] for kind in ("train_flops", "train_seconds")
    )
    assert (flops["leads"], flops["behind"]) == ("gan", "vae")
    assert flops["ci_low"] < flops["crossing"] < flops["ci_high"]
    assert seconds["leads"] == "vae" and math.isnan(seconds["crossing"]), "the GAN takes four times as long per FLOP"
    other = [replace(r, device="gpu") if r.seed == 0 else r for r in ladder()]
    assert set(scaling(other).fits["against"]) == {"train_flops"}, "seconds of two machines share no curve"
    assert not len(scaling(ladder(1)).fits["exponent_low"].dropna()), "one seed has no interval"


def test_the_page_and_the_docs_have_curves_and_tables(tmp_path, monkeypatch):
    folder = tmp_path / "outputs" / "quick"
    for record in ladder():
        Store(folder).write(record)
    arguments = page_arguments(folder)
    (section,) = build_page(*arguments, published=False).sections
    (part,) = section.parts
    assert [chart.key for chart in part.charts] == ["scaling-digits-train_flops", "scaling-digits-train_seconds"]
    found = arguments[3].scaling
    assert part.tables == [fits_table(found, "digits"), crossings_table(found, "digits")]
    text = render(build_page(*arguments, published=False))
    assert 'href="#scaling"' in text and "gan overtakes at" in text and "scaling.csv has the others" in text
    docs = hook("scaling")
    assert docs.tables(tmp_path / "results").startswith("Not published yet")
    assert docs.dimensions(tmp_path / "results").startswith("Not published yet")
    assert "| gan, vae | gan overtakes at" in docs.markdown(part.tables[1])


def test_a_crossing_says_how_far_the_worse_of_its_fits_is_off():
    found = scaling(ladder())
    found.fits.loc[found.fits["family"] == "vae", "misfit"] = 0.3
    table = crossings_table(found, "digits")
    assert table is not None and table.rows[0][1][0].endswith("if a fit that misses the means by 30% is right")


def test_a_judge_of_which_higher_is_better_has_points_and_no_fit():
    records = [replace(record, judge="coverage") for record in ladder()]
    for record in records:
        record.metrics = [
            replace(m, estimate=Estimate(0.5, None, 9)) if m.name == "coverage" else m for m in record.metrics
        ]
    found = scaling(records)
    assert len(found.points) == 8 and not len(found.fits) and not len(found.crossings)
