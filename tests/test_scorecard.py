"""Intervals, ranks and agreement against known numbers and planted truths."""

import io
import math

import numpy as np
import pandas as pd
import pytest

from genfam.comparing.scorecard import (
    COLUMNS,
    COMPARISON_COLUMNS,
    agreement,
    check_fingerprints,
    comparisons,
    one_machine,
    scorecard,
    to_csv,
)
from genfam.comparing.statistics import SEPARATES, Runs, ratio, runs_of, seed_spread, t_interval
from genfam.types import fingerprint

PROTOCOL = {"source": "digits", "samples": "500"}
KINDS = {"fd_x": "headline", "kd_x": "distance", "nll_nats": "likelihood"}
KINDS |= dict.fromkeys(("kl", "total_variation"), "divergence")
KINDS |= dict.fromkeys(("coverage", "modes_covered"), "coverage")
KINDS |= dict.fromkeys(("parameters", "train_seconds", "peak_memory"), "cost")


def rows(family, values, metric="fd_x", role="contestant", higher=False, protocol=PROTOCOL, **changes):
    """One row per seed; None stands for a diverged run without a number."""
    return [
        {
            "suite": "s", "source": "digits", "family": family, "seed": seed, "run_id": f"{family}{seed}",
            "outcome": "ok", "metric": metric, "kind": KINDS[metric], "unit": "1", "higher_is_better": higher,
            "value": value, "stderr": math.nan, "draw_stderr": math.nan, "n": 1,
            "protocol": protocol, "fingerprint": fingerprint(protocol),
            "status": "ok", "reason": "", "role": role, "likelihood": "none", **changes,
        }
        for seed, value in enumerate(values)
    ]  # fmt: skip


def card(*groups):
    return scorecard(pd.DataFrame([row for group in groups for row in group]))


def by_family(found, metric="fd_x"):
    return found[found["metric"] == metric].set_index("family")


def test_contestants_of_one_protocol_lend_each_other_their_variance():
    values = {"a": [1.0, 1.1, 0.9], "b": [2.0, 2.3, 1.7]}
    yardsticks = rows("truth", [0.1, 0.2, 0.3], role="oracle") + rows("gauss", [9.0, 9.1, 9.2], role="floor")
    found = by_family(card(*(rows(*item) for item in values.items()), yardsticks))
    lent = runs_of(values)
    assert lent["a"].pool is not None
    for family, runs in lent.items():
        assert tuple(found.loc[family, ["ci_low", "ci_high"]]) == pytest.approx(runs.interval())
    assert tuple(found.loc["truth", ["ci_low", "ci_high"]]) == pytest.approx(t_interval([0.1, 0.2, 0.3]))
    other = rows("b", values["b"], "nll_nats", protocol={"likelihood": "bound"}, likelihood="bound")
    exact = rows("a", values["a"], "nll_nats", protocol={"likelihood": "exact"}, likelihood="exact")
    apart = by_family(card(exact, other), "nll_nats")
    assert tuple(apart.loc["a", ["ci_low", "ci_high"]]) == pytest.approx(t_interval(values["a"]))


def test_no_variance_but_the_oracles_is_below_the_evaluations_error():
    alike, error = [1.0, 1.001, 0.999], {"draw_stderr": 0.1}
    yardsticks = rows("gauss", alike, role="floor", **error) + rows("truth", alike, role="oracle", **error)
    found = by_family(card(rows("a", alike, **error), rows("b", [5.0]), yardsticks))
    assert tuple(found.loc["truth", ["ci_low", "ci_high"]]) == pytest.approx(t_interval(alike))
    for family in ("a", "gauss"):
        assert tuple(found.loc[family, ["ci_low", "ci_high"]]) == pytest.approx(
            runs_of({"a": alike}, {"a": 0.01})["a"].interval()
        )


def test_an_exact_total_variation_is_compared_with_the_noise_that_counted_ones_carry():
    def cell(of_b: float, error: float) -> pd.DataFrame:
        groups = (
            rows("a", [0.0020, 0.0022, 0.0018], "total_variation", draw_stderr=error),
            rows("b", [of_b - 2e-4, of_b, of_b + 2e-4], "total_variation", draw_stderr=2e-4),
            rows("truth", [0.0061, 0.0060, 0.0062], "total_variation", role="oracle", draw_stderr=1e-4),
        )
        return pd.DataFrame([row for group in groups for row in group])

    assert comparisons(cell(0.0065, 0.0))["better"].item() == "", "0.0020 and 0.0061 make 0.0064 in quadrature"
    assert comparisons(cell(0.0065, 1e-4))["better"].item() == "a", "both counted: as they are"
    assert comparisons(cell(0.05, 0.0))["better"].item() == "a"
    found = by_family(scorecard(cell(0.0065, 0.0)), "total_variation")
    assert found.loc["a", "mean"] == pytest.approx(0.0020), "the table keeps the exact number"
    assert found["rank"].to_dict() == pytest.approx({"a": 1, "b": 1, "truth": math.nan}, nan_ok=True)


def test_a_contestant_is_so_many_times_the_oracle():
    values = {"a": [4.0, 5.0, 6.0], "b": [9.0, 10.0, 11.5]}
    real = [1.8, 2.0, 2.2]
    found = by_family(card(*(rows(*item) for item in values.items()), rows("truth", real, role="oracle")))
    times = found[["times_oracle", "times_low", "times_high"]]
    assert tuple(times.loc["a"]) == pytest.approx(ratio(runs_of(values)["a"], Runs(np.array(real))))
    assert times.loc["a", "times_oracle"] == 2.5 and times.loc["truth"].isna().all()
    below = by_family(card(rows("a", values["a"]), rows("truth", [-0.1, 0.05, -0.1], role="oracle")))
    assert below.loc["a", ["times_oracle", "times_low", "times_high"]].isna().all()
    rounding = by_family(card(rows("a", values["a"]), rows("truth", [7e-9, 8e-9, 7e-9], role="oracle")))
    assert rounding.loc["a", ["times_oracle", "times_low", "times_high"]].isna().all(), "a zero up to rounding"


def test_two_exact_total_variations_are_compared_as_they_are_whoever_else_is_counted():
    exact = [
        *rows("a", [0.0020, 0.0022, 0.0021], "total_variation", draw_stderr=0.0),
        *rows("b", [0.0060, 0.0062, 0.0059], "total_variation", draw_stderr=0.0),
        *rows("truth", [0.0050, 0.0075, 0.0061], "total_variation", role="oracle", draw_stderr=1e-4),
    ]
    counted = rows("gauss", [0.11, 0.108, 0.112], "total_variation", role="floor", draw_stderr=1e-3)
    for frame in (exact, exact + counted):
        assert comparisons(pd.DataFrame(frame))["better"].iloc[0] == "a"


def test_costs_are_not_compared_with_the_floors():
    """Two tests more would leave nothing significant."""
    frame = [
        *rows("a", [1.0, 1.1, 1.05], "train_seconds"), *rows("b", [1.17, 1.27, 1.23], "train_seconds"),
        *rows("gauss", [1.0, 1.5, 1.2], "train_seconds", role="floor"),
    ]  # fmt: skip
    assert by_family(card(frame), "train_seconds")["rank"].to_dict() == pytest.approx(
        {"a": 1, "b": 2, "gauss": math.nan}, nan_ok=True
    )


@pytest.mark.parametrize("seeds", [3, 10])
def test_equal_models_counted_or_not_are_seldom_called_different(seeds):
    """Simulated: 300 pairs of perfect models on 16 states, 2,500 samples counted; up to 4 standard errors more."""
    rng, states, n, alarms = np.random.default_rng(5), np.full(16, 1 / 16), 2500, 0

    def counted():
        return (np.abs(rng.multinomial(n, states, seeds) / n - states).sum(axis=1) / 2).tolist()

    for _ in range(300):
        frame = [
            *rows("a", [0.0] * seeds, "total_variation", draw_stderr=0.0),
            *rows("b", counted(), "total_variation", draw_stderr=1e-3),
            *rows("truth", counted(), "total_variation", role="oracle", draw_stderr=1e-3),
        ]
        alarms += comparisons(pd.DataFrame(frame))["better"].iloc[0] != ""
    assert alarms / 300 <= SEPARATES + 4 * math.sqrt(SEPARATES / 300)


def test_nobody_leads_where_one_contestant_was_run():
    there = rows("a", [1.0, 1.1, 0.9]) + rows("b", [2.0, 2.1, 1.9])
    alone = rows("a", [1.0, 1.1, 0.9], source="alone") + rows("truth", [0.1] * 3, role="oracle", source="alone")
    found = card(there, alone)
    assert by_family(found[found["source"] == "digits"])["rank"].tolist() == [1, 2]
    assert found.loc[found["source"] == "alone", "rank"].isna().all()


def test_comparisons_say_what_separates_and_what_would():
    frame = pd.DataFrame(
        rows("a", [1.0, 1.1, 0.9]) + rows("b", [1.3, 1.0, 1.2]) + rows("c", [9.0, 9.2, 9.1])
        + rows("truth", [0.1, 0.1, 0.2], role="oracle")
        + rows("a", [1.0] * 3, metric="train_seconds") + rows("b", [2.0] * 3, metric="train_seconds")
    )  # fmt: skip
    found = comparisons(frame)
    assert tuple(found.columns) == COMPARISON_COLUMNS
    assert list(zip(found["family_a"], found["family_b"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["better"].tolist() == ["", "a", "b"]
    assert found["probability_of_improvement"].tolist() == pytest.approx([(2 + 2.5 + 3) / 9, 1.0, 1.0])
    assert found["advantage"].tolist() == pytest.approx([0.5 / 3, 8.1, 7.9333333])
    assert found.loc[0, "seeds_needed"] > 3 and found["seeds_needed"].isna().tolist() == [False, True, True]


def test_ranks_with_planted_equals_and_separations():
    best, equal = [1.0, 1.2, 0.8], [1.1, 0.9, 1.15]
    worse, worst = [5.0, 5.1, 5.2], [9.0, 9.1, 9.0]
    groups = [rows("best", best), rows("equal", equal), rows("worse", worse), rows("worst", worst)]
    yardsticks = [rows("truth", [0.1, 0.2, 0.3], role="oracle"), rows("gauss", [50.0, 51.0, 52.0], role="floor")]
    found = by_family(card(*groups, *yardsticks))
    assert found["rank"].to_dict() == pytest.approx(
        {"best": 1, "equal": 1, "worse": 3, "worst": 4, "truth": math.nan, "gauss": math.nan}, nan_ok=True
    )
    assert found["oracle"].to_numpy() == pytest.approx(0.2)
    upwards = by_family(card(*(rows(g[0]["family"], [r["value"] for r in g], higher=True) for g in groups)))
    assert upwards["rank"].to_dict() == {"best": 3, "equal": 3, "worse": 2, "worst": 1}
    neither = by_family(card(*(rows(g[0]["family"], [r["value"] for r in g], higher=None) for g in groups)))
    assert neither["rank"].isna().all()


def test_one_run_gives_neither_interval_nor_rank():
    found = by_family(card(rows("a", [1.0]), rows("b", [2.0, 2.1, 2.2]), rows("c", [3.0, 3.1, 3.2])))
    assert found.loc["a", ["ci_low", "ci_high", "rank"]].isna().all()
    assert found.loc["a", "mean"] == 1.0
    assert found["rank"].tolist()[1:] == [1, 2]
    lonely = by_family(card(rows("a", [1.0]), rows("b", [2.0, 2.1, 2.2])))
    assert lonely["rank"].isna().all(), "nobody to compare with"


def test_diverged_runs_are_counted_and_have_no_say():
    diverged = rows("a", [0.0], outcome="diverged")  # a number that would win
    diverged[0]["seed"], diverged[0]["run_id"] = 9, "a9"
    found = by_family(card(rows("a", [4.0, 5.0, 6.0]), diverged, rows("b", [1.0], outcome="diverged")))
    assert found.loc["a", ["n_runs", "n_ok", "mean"]].tolist() == [4, 3, 5.0]
    assert found.loc["b", ["n_runs", "n_ok"]].tolist() == [1, 0]
    assert math.isnan(found.loc["b", "mean"])
    assert math.isnan(found.loc["b", "rank"])


def test_columns_are_exact_and_csv_reads_back():
    size = rows("a", [7.0] * 3, metric="parameters", higher=None, protocol={})
    found = card(rows("a", [1.0, 2.0, 3.0]), size, rows("b", [4.0, 5.0, 6.0]))
    expected = (
        "suite,source,family,metric,kind,unit,higher_is_better,n_runs,n_ok,mean,ci_low,ci_high,oracle,times_oracle,"
        "times_low,times_high,rank,fingerprint"
    )
    assert ",".join(found.columns) == ",".join(COLUMNS) == expected
    text = to_csv(found)
    assert text.splitlines()[0] == expected
    back = pd.read_csv(io.StringIO(text)).set_index("metric")
    assert back.loc["parameters", ["mean", "ci_low", "ci_high"]].tolist() == [7, 7, 7]
    assert ",s," not in text
    assert "s,digits,a,fd_x,headline,1,False,3,3,2," in text
    assert f",,1,{fingerprint(PROTOCOL)}" in text
    assert tuple(scorecard(pd.DataFrame(columns=list(rows("a", [1.0])[0]))).columns) == COLUMNS


def test_seed_spread_is_iqr_over_median():
    assert seed_spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2.0 / 3.0)
    assert math.isnan(seed_spread([1.0, 2.0]))
    assert math.isnan(seed_spread([-1.0, 0.0, 1.0]))
    found = card(rows("a", [1.0, 2.0, 3.0]), rows("b", [1.0, 2.0]), rows("a", [1.0, 2.0, 3.0], metric="coverage"))
    assert set(found["metric"]) == {"fd_x", "coverage", "seed_spread_fd_x"}
    spread = by_family(found, "seed_spread_fd_x")
    assert spread.index.tolist() == ["a"]
    assert spread.loc["a", "mean"] == pytest.approx(0.5)
    assert math.isnan(spread.loc["a", "ci_low"])
    assert spread.loc["a", ["kind", "unit", "higher_is_better"]].tolist() == ["spread", "1", False]


def test_the_headline_is_so_by_its_kind_whatever_its_name():
    named_otherwise = rows("a", [1.0, 2.0, 3.0], metric="kd_x", kind="headline")
    named_alike = rows("a", [1.0, 2.0, 3.0], metric="fd_x", kind="distance")
    assert set(card(named_otherwise, named_alike)["metric"]) == {"kd_x", "fd_x", "seed_spread_kd_x"}


def test_different_protocols_are_refused_by_name():
    mixed = pd.DataFrame(rows("a", [1.0]) + rows("b", [1.0], protocol=PROTOCOL | {"samples": "50"}))
    with pytest.raises(ValueError, match=r"fd_x on digits.*got samples=500 for a; samples=50 for b"):
        scorecard(mixed)
    with pytest.raises(ValueError, match=r"unit.*nats for b"):
        check_fingerprints(pd.DataFrame(rows("a", [1.0]) + rows("b", [1.0], unit="nats")))
    inapplicable = rows("b", [math.nan], protocol={}, status="not_applicable")
    check_fingerprints(pd.DataFrame(rows("a", [1.0]) + inapplicable))
    assert card(rows("a", [1.0]), inapplicable)["family"].tolist() == ["a"]


def test_a_divergence_by_the_model_s_likelihood_may_be_of_several_kinds():
    exact = rows("a", [1.0, 1.1], "kl", protocol={"likelihood": "exact"}, likelihood="exact")
    bounds = [
        row
        for family, by in (("b", "32 draws of masks"), ("c", "64 importance samples"))
        for row in rows(family, [2.0, 2.1], "kl", protocol={"likelihood": "bound", "by": by}, likelihood="bound")
    ]
    assert by_family(card(exact, bounds), "kl")["rank"].isna().all(), "each is alone in what it can be compared with"
    with pytest.raises(ValueError, match="expected one fingerprint"):
        card(rows("b", [2.0], "kl", protocol={"events": "9"}), rows("c", [2.0], "kl", protocol={"events": "5"}))


def test_kinds_of_likelihood_stay_apart():
    def nll(family, values, kind, role="contestant"):
        return rows(family, values, "nll_nats", role, protocol={"likelihood": kind}, likelihood=kind)

    groups = [
        nll("ar", [3.0, 3.1, 3.2], "exact"), nll("maf", [4.0, 4.1, 4.2], "exact"), nll("vae", [9.0, 9.1, 9.2], "bound"),
        nll("truth", [2.0, 2.0, 2.0], "exact", "oracle"),
    ]  # fmt: skip
    found = by_family(card(*groups), "nll_nats")
    assert found.loc[["ar", "maf"], "rank"].tolist() == [1, 2]
    assert math.isnan(found.loc["vae", "rank"]), "the only bound leads nobody"
    assert (found["oracle"] == 2.0).all()
    odd = rows("odd", [1.0], "nll_nats", protocol={"likelihood": "exact", "events": "9"}, likelihood="exact")
    with pytest.raises(ValueError, match=r"nll_nats.*events=9 for odd"):
        card(*groups, odd)


def test_bounds_by_different_means_stay_apart():
    def bound(family, values, **by):
        return rows(
            family, values, "nll_nats", protocol={"likelihood": "bound", "events": "9"} | by, likelihood="bound"
        )

    groups = [bound("vae", [3.0, 3.1, 3.2], by="64 importance samples"), bound("dequantised", [4.0, 4.1, 4.2])]
    assert by_family(card(*groups), "nll_nats").loc[["vae", "dequantised"], "rank"].isna().all()
    with pytest.raises(
        ValueError, match=r"nll_nats.*by=1000 importance samples for vae; by=64 importance samples for vae"
    ):
        card(*groups, bound("vae", [2.9], by="1000 importance samples"))
    with pytest.raises(ValueError, match=r"nll_nats.*by=64 importance samples for vae"):
        card(*groups, bound("vae", [2.9]))


def test_costs_of_several_machines_are_left_out_and_quality_kept():
    def cost(family, machine, metric="train_seconds"):
        return rows(family, [1.0, 2.0], metric=metric, protocol={"device": machine, "threads": "1"})

    frame = pd.DataFrame(rows("a", [1.0, 2.0]) + cost("a", "old") + cost("b", "new") + cost("a", "old", "peak_memory"))
    with pytest.raises(ValueError, match=r"train_seconds on digits.*device=new for b"):
        scorecard(frame)
    with pytest.warns(UserWarning, match="train_seconds on digits"):
        kept = one_machine(frame)
    assert set(scorecard(kept)["metric"]) == {"fd_x", "peak_memory"}
    assert one_machine(kept) is kept


def test_one_seed_has_one_vote():
    twice = rows("a", [1.0, 2.0]) + rows("a", [5.0], run_id="other")
    with pytest.raises(ValueError, match=r"seed 0.*\['a0', 'other'\]"):
        scorecard(pd.DataFrame(twice))


def test_agreement_counts():
    published = card(
        rows("same", [1.0, 1.1, 1.2]), rows("far", [1.0, 1.1, 1.2]), rows("one", [1.0, 1.1, 1.2]),
        rows("one_far", [1.0, 1.1, 1.2]), rows("lonely", [1.0]), rows("equal", [1.0]),
        rows("same", [5.0] * 3, metric="modes_covered"), rows("far", [5.0] * 3, metric="modes_covered"),
        rows("same", [1.0, 1.1, 1.2], metric="kd_x"),
        rows("same", [1.0, 1.1, 1.2], metric="train_seconds"),
        rows("only_published", [1.0]),
    )  # fmt: skip
    # Prediction interval of one more run, by a variance of 0.01 that four families share with eight degrees of freedom.
    half = 2.306004 * 0.1 * math.sqrt(1 + 1 / 3)
    mine = card(
        rows("same", [1.05, 1.15, 1.3]), rows("far", [2.0, 2.1, 2.2]), rows("one", [1.1 + 0.99 * half]),
        rows("one_far", [1.1 + 1.01 * half]), rows("lonely", [1.01]), rows("equal", [1.0]),
        rows("same", [5.0] * 3, metric="modes_covered"), rows("far", [6.0] * 3, metric="modes_covered"),
        rows("same", [1.0, 1.1, 1.2], metric="kd_x", protocol={"samples": "9"}),
        rows("same", [91.0, 91.1, 91.2], metric="train_seconds"),
        rows("only_mine", [1.0, 1.1]),
    )  # fmt: skip
    for a, b in ((mine, published), (published, mine)):
        found = agreement(a, b)
        assert (found.agree, found.compared, found.undecided, found.skipped) == (4, 7, 1, 1)
        cells = set(zip(found.disagree["family"], found.disagree["metric"], strict=True))
        assert cells == {("far", "fd_x"), ("one_far", "fd_x"), ("far", "modes_covered")}
    row = agreement(mine, published).disagree.set_index(["family", "metric"]).loc[("far", "fd_x")]
    assert row["mean"] == pytest.approx(2.1)
    assert row["published_mean"] == pytest.approx(1.1)


def test_a_scorecard_agrees_with_itself():
    own = card(rows("a", [1.0, 2.0, 3.0]), rows("b", [1.0]), rows("c", [math.inf] * 3, metric="kl"))
    found = agreement(own, own)
    assert found.agree == found.compared == 3
    assert found.undecided == found.skipped == 0
