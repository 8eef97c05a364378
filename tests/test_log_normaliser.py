"""Annealed importance sampling on trial against sums: the truth it is held to, and what is published."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from log_normaliser import PATH, SOURCES, TEMPERATURES, integrated, summed, trial

from families.test_energy import IMAGE, exact, made


def test_the_integral_of_a_gaussian_tilt_is_the_textbooks() -> None:
    """p_0 = N(0, I), V = 4 |x|² in the plane: Z = 1 / 9."""

    def log_start(x: torch.Tensor) -> torch.Tensor:
        return -0.5 * x.square().sum(dim=1) - math.log(2.0 * math.pi)

    assert integrated(log_start, lambda x: 4.0 * x.square().sum(dim=1)) == pytest.approx(-math.log(9.0), abs=1e-6)
    with pytest.raises(ValueError, match="border"):
        integrated(log_start, lambda x: -x.square().sum(dim=1))


def test_a_trial_holds_bounds_against_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    family = made(IMAGE, shake=0.2, buffer=256)
    assert summed(family) == pytest.approx(float(exact(family)))
    monkeypatch.setattr("log_normaliser.TEMPERATURES", (50,))
    (row,) = trial(family, 0)
    assert row["truth"] == summed(family) and row["holds"]
    assert row["low"] <= min(row["below"], row["above"]) and row["high"] >= max(row["below"], row["above"])


def test_the_published_intervals_of_tables_hold_the_sum() -> None:
    """Of ten runs on the die and the 2 × 2 images, with three standard errors at each end."""
    table = pd.read_csv(PATH)
    assert set(table["source"]) == set(SOURCES) and set(table["temperatures"]) == set(TEMPERATURES)
    assert (table.groupby(["source", "temperatures"])["seed"].nunique() == 5).all()
    assert (table["holds"] == ((table["low"] <= table["truth"]) & (table["truth"] <= table["high"]))).all()
    tables = table[(table["source"] != "ring") & (table["temperatures"] == max(TEMPERATURES))]
    assert tables["holds"].all()
    assert ((tables["high"] - tables["low"]) < 0.5).all()
