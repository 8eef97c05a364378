"""The trial of metrics by the truth: what its picture shows, and what docs/metrics.md reads from it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from truth_figure import TRIAL, draw

from genfam.comparing.metric_trial import by_source

POINTS = ["grid", "ring"]


def test_every_cell_is_the_tables() -> None:
    trial = pd.read_csv(TRIAL)
    axes = draw(trial).axes[0]
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
