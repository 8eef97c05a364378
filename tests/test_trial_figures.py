"""Trials of metrics: what their pictures show, which ruler leads, and what docs/metrics.md reads from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from trial_figures import MOST, RULERS, TRIAL, draw_rulers, draw_truth

from genfam.comparing.metric_trial import by_source, leading_ruler, planted_verdicts, shares_of_lead
from helpers import composed

POINTS = ["grid", "ring"]


def test_every_cell_of_the_rulers_is_the_tables() -> None:
    for path in sorted(RULERS.glob("*.csv")):
        table = pd.read_csv(path)
        axes = draw_rulers(table).axes[0]
        rulers = [label.get_text() for label in axes.get_yticklabels()]
        assert rulers == list(planted_verdicts(table).index)
        shown = axes.images[0].get_array()
        failures = list(table["failure"].unique())
        for row in table.sample(40, random_state=0).to_dict("records"):
            cell = shown[rulers.index(row["ruler"]), 3 * failures.index(row["failure"]) + row["grade"] - 1]
            assert cell == min(max(row["worse"], -MOST), MOST)
        assert path.with_suffix(".png").is_file()


def test_the_judge_of_images_is_the_ruler_that_leads_most_often() -> None:
    tables = [pd.read_csv(path) for path in sorted(RULERS.glob("*.csv"))]
    assert shares_of_lead(tables).index[0] == "fd_depths"
    assert leading_ruler(tables).loc["fd_depths", "orders"] == leading_ruler(tables)["orders"].max()
    assert composed("source=mnist")["judge"] == "fd_mnist_resnet_depths"


def test_a_ruler_that_is_better_beyond_all_doubt_always_leads() -> None:
    columns = ["ruler", "failure", "grade", "worse", "scatter", "draws"]
    sure = {"fd_a": (20.0, 40.0, 80.0), "fd_b": (0.0, 0.0, 80.0), "c2st_event": (99.0, 99.0, 99.0)}
    rows = [(ruler, "blur", grade + 1, own[grade], 0.5, 5) for ruler, own in sure.items() for grade in range(3)]
    assert shares_of_lead([pd.DataFrame(rows, columns=columns)]).round(12).to_dict() == {"fd_a": 1.0}
    alike = [(ruler, "blur", grade + 1, 40.0 * grade, 0.5, 5) for ruler in ("fd_a", "kd_b") for grade in range(3)]
    assert abs(shares_of_lead([pd.DataFrame(alike, columns=columns)])["fd_a"] - 0.5) < 0.15


def test_every_cell_of_the_trial_by_truth_is_the_tables() -> None:
    trial = pd.read_csv(TRIAL)
    axes = draw_truth(trial).axes[0]
    metrics = [label.get_text() for label in axes.get_yticklabels()]
    sources = [label.get_text().partition("\n")[0] for label in axes.get_xticklabels()]
    shown = pd.DataFrame(np.ma.filled(axes.images[0].get_array(), np.nan), index=metrics, columns=sources)
    for row in trial[trial["metric"].isin(metrics)].to_dict("records"):
        assert np.array_equal(shown.loc[row["metric"], row["source"]], row["tau"], equal_nan=True)
    means = shown.mean(axis=1)
    assert means.is_monotonic_decreasing
    assert TRIAL.with_suffix(".png").is_file()


def test_the_page_reads_from_it_what_it_says() -> None:
    table = by_source(pd.read_csv(TRIAL))
    near = table.loc[["coverage", "density", "fld_identity", "high_quality_share"], POINTS]
    far = table.loc[["fd_identity", "fd_infinity", "kd_identity"], POINTS]
    others = table.drop([*near.index, *far.index, "recall", "precision"])[POINTS]
    assert near.to_numpy().min() > 0.7 and far.to_numpy().max() < 0.5
    assert (near.mean(axis=1).min() > others.mean(axis=1)).all() and (
        far.mean(axis=1).max() < others.mean(axis=1)
    ).all()
    assert (table.loc["recall", POINTS] < 0.0).all()
    assert table.loc[["coverage", "precision", "recall"], "die"].isna().all()
