"""The stability scorecard on suites made by hand: every entry with a planted positive and negative control."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pages import ROOT
from stability_controls import broken, make, matrix, yardsticks

from genfam.comparing.scorecard import scorecard
from genfam.comparing.stability import aggregate, final_skills, run_skills, share, spread_interval, stability_card
from genfam.comparing.statistics import (
    performance_profile,
    seed_spread,
    t_interval,
)
from genfam.metrics.traces import first_reached, oscillation, skill
from genfam.records.frame import to_frame
from genfam.records.store import as_tuned
from genfam.types import Outcome, Trace, TracePoint


def entries(records, family="a") -> dict[str, float]:
    card = stability_card(records)
    own = card[card["family"] == family]
    return dict(zip(own["entry"], own["value"], strict=True))


def test_steady_runs_have_nothing_to_show():
    found = entries(yardsticks() + [make("a", seed, 3.0) for seed in range(5)])
    assert found == {
        "lost": 0.0, "seed_spread": 0.0, "oscillation": 0.0, "regret": 0.0, "reached": 1.0,
        "budget_to_reach": 0.75, "stays": 1.0,
    }  # fmt: skip


def test_each_entry_notices_what_it_is_for():
    base = yardsticks()
    worse = [make("a", 0, 11.0), make("a", 1, 3.0), make("a", 2, 0.0, outcome=Outcome.DIVERGED), make("a", 3, 2.0)]
    assert entries(base + worse)["lost"] == 0.5  # one worse than the Gaussian, one not finite
    assert entries(base + [make("a", i, v) for i, v in enumerate((2.0, 3.0, 6.0))])["seed_spread"] == pytest.approx(
        2 / 3
    )
    swinging = [make("a", 0, 6.0, (8.0, 2.0, 8.0, 6.0))]
    found = entries(base + swinging)
    assert found["oscillation"] == pytest.approx(1.2)  # skill .2 .8 .2 .4: 1.4 of movement for a gain of .2
    assert found["regret"] == pytest.approx(0.4) and found["stays"] == 0.0
    assert found["budget_to_reach"] == pytest.approx(0.5)
    never = entries([*base, make("a", 0, 9.0, (9.5, 9.0, 9.0, 9.0))])
    assert never["reached"] == 0.0 and "budget_to_reach" not in never and "stays" not in never


def test_sensitivity_is_the_share_of_learning_rates_within_a_fifth_of_the_best():
    runs = [
        make("a", seed, value, factor=factor)
        for seed in range(3)
        for factor, value in ((0.25, 3.5), (1.0, 2.0), (4.0, 9.0 if seed else 11.0))
    ]
    assert entries(yardsticks() + runs)["sensitivity"] == pytest.approx(2 / 3)
    flat = [make("a", seed, 2.0, factor=factor) for seed in range(3) for factor in (0.25, 1.0, 4.0)]
    assert entries(yardsticks() + flat)["sensitivity"] == 1.0
    lost = [make("a", 0, 2.0), make("a", 0, 0.0, factor=4.0, outcome=Outcome.DIVERGED)]
    assert entries(yardsticks() + lost)["sensitivity"] == 0.5
    assert "sensitivity" not in entries([*yardsticks(), make("a", 0, 2.0)])


def test_other_learning_rates_have_no_say_in_the_scorecard_and_the_other_entries():
    records = [*yardsticks(), make("a", 0, 2.0), make("a", 0, 50.0, factor=4.0)]
    assert entries(records)["lost"] == 0.0
    card = scorecard(to_frame(as_tuned(records)))
    assert float(card[(card["family"] == "a") & (card["metric"] == "fd_net")]["mean"].iloc[0]) == 2.0
    assert final_skills(records) == {"a": {"s": [0.8]}}
    assert run_skills(records) == [("s", "a", 1.0, 0.8), ("s", "a", 4.0, -4.0)]


def test_a_source_given_labels_is_another_task():
    free = [*yardsticks(), *(make("a", seed, 2.0) for seed in range(3))]
    given = [*yardsticks(), *(make("a", seed, 9.0) for seed in range(3))]
    records = free + [replace(record, condition="labels") for record in given]
    assert final_skills(records) == {"a": {"s": pytest.approx([0.8] * 3), "s given labels": pytest.approx([0.1] * 3)}}
    card = scorecard(to_frame(records))
    assert card[card["metric"] == "fd_net"]["source"].unique().tolist() == ["s", "s given labels"]


def test_the_source_may_name_its_judge():
    records = [*yardsticks(coverage=(0.0, 0.8)), make("a", 0, 99.0, judge="coverage", coverage=0.6)]
    assert stability_card(records)["judge"].unique().tolist() == ["coverage"]
    assert run_skills(records)[0][3] == pytest.approx(0.75)


def test_without_yardsticks_only_what_needs_none_is_said():
    collapsed = TracePoint(1, 1, 1.0, (100, 0, 0, 0), 0.6, {"critic": 1.0, "generator": 1.0})
    runs = [make("a", seed, 3.0, trace=Trace(100, 4.0, 1.0, (collapsed,) * 32)) for seed in range(3)]
    found = entries(runs)
    assert found["mode_collapse"] == 1.0 and found["cycling"] == found["critic_wins"] == 0.0
    assert "regret" not in found and found["seed_spread"] == 0.0


def test_the_noise_of_the_curves_is_what_simulation_finds():
    # The oracle's values are −1, 0, 1 in a gap of 10: a spread of 0.1 in skill. Curves of 4 points.
    found = entries([*yardsticks(noise=1.0), make("a", 0, 3.0)], family="oracle")
    curves = np.random.default_rng(0).normal(scale=0.1, size=(20_000, 4))
    assert found["oscillation"] == pytest.approx(np.mean([oscillation(curve) for curve in curves]), rel=0.02)
    assert found["regret"] == pytest.approx((curves.max(axis=1) - curves[:, -1]).mean(), rel=0.02)


def test_the_words_of_one_run():
    assert [skill(v, 10.0, 2.0) for v in (10.0, 2.0, 12.0, 6.0)] == [0.0, 1.0, -0.25, 0.5]
    assert skill(0.3, 0.1, 0.9) == pytest.approx(0.25) and math.isnan(skill(1.0, 2.0, 2.0))
    assert oscillation([0.0, 1.0, 3.0]) == 0.0 and oscillation([0.0, 2.0, 1.0]) == 2.0 and oscillation([1.0]) == 0.0
    assert first_reached([0.1, 0.5, 0.2], 0.5) == 1 and first_reached([0.1], 0.5) is None


def test_wilsons_interval_of_a_share():
    # Wilson (1927) for 0 of 5: upper limit z² / (n + z²).
    n, value, (low, high) = share(0, 5)
    assert (n, value, low) == (5, 0.0, 0.0) and high == pytest.approx(1.959964**2 / (5 + 1.959964**2), abs=1e-6)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_real_coverage_of_the_spreads_interval(n):
    # 2,000 normal samples (mean 10, σ 1), whose population has IQR / median 0.1349; 95 % ± 3 σ of 0.5 % each.
    rng = np.random.default_rng(0)
    bounds = [spread_interval(seed_spread(rng.normal(10, 1, n)), n) for _ in range(2000)]
    assert 0.93 < np.mean([low <= 0.13490 <= high for low, high in bounds]) < 0.97


def test_all_sources_together():
    records = []
    names = [f"s{number}" for number in range(6)]
    for place, source in enumerate(names):
        records += yardsticks(source)
        records += [make(name, seed, 2.0 + 0.2 * place, source=source) for seed in range(4) for name in "ac"]
    records += [make("b", seed, 1.0, source="s0") for seed in range(4)]  # b is on one source: no part in the comparison
    table = aggregate(records)
    assert table["family"].tolist() == ["a", "c"] and table["sources"].tolist() == [6, 6]
    skills = [0.8 - 0.02 * place for place in range(6)]  # the Gaussian is at 10, the oracle at 0
    assert table["value"].iloc[0] == pytest.approx(np.mean(skills))
    assert (table["ci_low"].iloc[0], table["ci_high"].iloc[0]) == pytest.approx(t_interval(skills))
    seldom = [make("d", seed, 1.0, source=name) for name in names for seed in range(4 if name == "s0" else 1)]
    pd.testing.assert_frame_equal(aggregate(records + seldom), table)  # not run as often on each
    alone = yardsticks("u") + [make("a", seed, 9.0, source="u") for seed in range(4)]  # nobody to compare with
    pd.testing.assert_frame_equal(aggregate(records + alone), table)
    assert aggregate([record for record in records if record.source != "s5"]).empty  # five sources are too few


def test_profile_at_known_values():
    assert performance_profile([[0.1, 0.5], [0.9, 0.9, 0.9]], [0.0, 0.3, 0.6, 1.0]) == [1.0, 0.75, 0.5, 0.0]


@pytest.mark.parametrize("sources", [6, 10])
def test_real_coverage_of_the_interval_over_sources(sources):
    """Sources differ by 0.2 in skill, four runs on each by 0.1: 2,000 simulations, so ± 1.5 % for three σ."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        levels = 0.5 + 0.2 * rng.standard_normal(sources)
        low, high = t_interval([float(rng.normal(level, 0.1, 4).mean()) for level in levels])
        hits += low <= 0.5 <= high
    assert 0.93 < hits / 2000 < 0.97


def test_the_page_of_controls_is_what_the_code_says():
    page = (ROOT / "docs" / "stability.md").read_text()
    assert matrix() in page and broken() in page


def test_a_scale_of_noise_or_upside_down_is_no_scale():
    swapped = [
        make("gaussian", seed, 1.0, (1.0,), "floor") for seed in range(3)
    ] + [make("oracle", seed, 1.2, (1.2,), "oracle") for seed in range(3)]  # fmt: skip
    assert set(entries(swapped + [make("a", seed, 50.0, (60.0, 50.0)) for seed in range(3)])) == {
        "lost", "seed_spread",
    }  # fmt: skip
    # better by 0.1 with a standard deviation of 1 over three seeds: noise
    unclear = [make("gaussian", seed, 10.0, (10.0 + seed - 1,), "floor") for seed in range(3)]
    unclear += [make("oracle", seed, 0.0, (9.9 + seed - 1,), "oracle") for seed in range(3)]
    found = entries([*unclear, make("a", 0, 3.0)])
    assert "regret" not in found and found["lost"] == 0.0  # the ends are clear, the curves are not


def test_diverged_runs_stay_in_the_denominators():
    lost = [make("a", seed, 0.0, (8.0, 4.0), outcome=Outcome.DIVERGED) for seed in range(1, 4)]
    found = entries([*yardsticks(), make("a", 0, 3.0), *lost, make("a", 4, 0.0, (), outcome=Outcome.DIVERGED)])
    assert found["lost"] == 0.8 and found["reached"] == 0.8  # three were half way when they diverged, one never
    assert found["stays"] == 0.25 and found["regret"] == 0.0


def test_a_seed_that_diverges_at_every_rate_is_sensitive():
    runs = [make("a", 0, 2.0, factor=f) for f in (0.25, 1.0, 4.0)]
    runs += [make("a", 1, 0.0, factor=f, outcome=Outcome.DIVERGED) for f in (0.25, 1.0, 4.0)]
    assert entries(yardsticks() + runs)["sensitivity"] == 0.5
