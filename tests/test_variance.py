"""Variance components against simulation and against arithmetic by hand."""

import numpy as np
import pandas as pd
import pytest

from genfam.comparing.variance import COLUMNS, variance_components


def frame(values, errors, **same) -> pd.DataFrame:
    common = {"suite": "s", "source": "x", "family": "a", "metric": "fd", "status": "ok", "outcome": "ok"}
    common |= {"role": "contestant"} | same
    return pd.DataFrame([common | {"value": v, "draw_stderr": e} for v, e in zip(values, errors, strict=True)])


def test_by_hand():
    (row,) = variance_components(frame([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])).to_dict("records")
    assert list(row) == list(COLUMNS)
    assert row["total_std"] == 1.0 and row["evaluation_std"] == 0.5
    assert row["training_std"] == pytest.approx(0.75**0.5) and row["training_share"] == pytest.approx(0.75)
    (row,) = variance_components(frame([1.0, 1.1, 0.9], [0.5, 0.5, 0.5])).to_dict("records")
    assert row["training_std"] == 0.0 == row["training_share"] == row["share_low"]


def test_real_coverage_of_the_shares_interval():
    # 1,000 suites of five seeds, half of the variance training's; 95 % ± 3 · 0.7 %
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        (row,) = variance_components(frame(rng.normal(0, 2**0.5, 5), [1.0] * 5)).to_dict("records")
        hits += row["share_low"] <= 0.5 <= row["share_high"]
    assert 0.93 < hits / 1000 < 0.97


@pytest.mark.parametrize(("training", "evaluation"), [(1.0, 0.2), (0.2, 1.0), (0.7, 0.7)])
def test_planted_components_are_found(training, evaluation):
    # 4,000 runs with a fixed seed: each variance is known to 3 %, so the share to about ± 0.05 at three of those.
    rng = np.random.default_rng(0)
    values = rng.normal(0, training, 4000) + rng.normal(0, evaluation, 4000)
    (row,) = variance_components(frame(values, [evaluation] * 4000)).to_dict("records")
    assert row["training_share"] == pytest.approx(training**2 / (training**2 + evaluation**2), abs=0.07)


def test_what_cannot_be_told_apart_is_left_out():
    assert variance_components(frame([1.0, 2.0], [0.1, 0.1])).empty
    assert variance_components(frame([1.0, 2.0, 3.0], [None, None, None])).empty
    assert variance_components(frame([1.0, 2.0, 3.0], [0.1] * 3, outcome="diverged")).empty
