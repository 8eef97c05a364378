"""Metrics on trial against planted orders, and the interval against simulation."""

import math

import numpy as np
import pandas as pd
import pytest

from genfam.comparing.metric_trial import COLUMNS, metric_trial, rank_correlation, tau_interval

KINDS = {"total_variation": "divergence", "kl_divergence": "divergence", "nll": "likelihood", "seconds": "cost"}


def frame(metrics, role="contestant", source="die"):
    """{metric: (values, higher_is_better)} -> a row per run and metric, a distance unless `KINDS` says otherwise."""
    return pd.DataFrame(
        [
            {
                "suite": "s", "source": source, "family": "f", "seed": i, "run_id": f"{role}{i}", "outcome": "ok",
                "metric": metric, "higher_is_better": higher, "value": value, "fingerprint": "p", "status": "ok",
                "role": role, "kind": KINDS.get(metric, "distance"),
            }
            for metric, (values, higher) in metrics.items()
            for i, value in enumerate(values)
        ]
    )  # fmt: skip


def test_planted_orders():
    truth = np.arange(10.0)
    found = metric_trial(
        frame(
            {
                "total_variation": (truth, False),
                "fd_x": (truth**2, False),  # another scale, the same order
                "coverage": (-truth, True),  # higher is better: the same order
                "liar": (-truth, False),
                "constant": (np.zeros(10), False),
                "neutral": (truth, None),
                "kl_divergence": (truth, False),  # the truth, too
                "nll": (truth, False),  # needs more than samples
                "seconds": (truth, False),  # says nothing of quality
            }
        )
    ).set_index("metric")
    assert tuple(found.reset_index()[list(COLUMNS)].columns) == COLUMNS
    assert found["tau"].to_dict() == pytest.approx(
        {"fd_x": 1.0, "coverage": 1.0, "liar": -1.0, "constant": math.nan}, nan_ok=True
    )
    assert set(found["n_runs"]) == {10} and set(found["truth"]) == {"total_variation"}


def test_the_oracle_is_no_witness_and_a_source_without_truth_has_no_trial():
    truth = np.arange(10.0)
    known = {"total_variation": (truth, False), "fd_x": (truth, False)}
    assert metric_trial(frame(known, role="oracle")).empty
    assert metric_trial(frame({"fd_x": (truth, False)})).empty
    assert metric_trial(frame({name: (values[:5], higher) for name, (values, higher) in known.items()})).empty


def test_half_of_the_pairs_by_hand():
    # of the six pairs of 1 2 3 4 against 1 3 2 4 one is swapped: (5 - 1) / 6
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(4 / 6)
    assert rank_correlation(np.array([1.0, 2, 3, math.inf]), np.array([1.0, 3, 2, 4])) == pytest.approx(4 / 6)


def test_interval_covers_the_true_correlation():
    """Of bivariate normals τ = (2/π) asin ρ (Greiner); 95 % ± 4 standard errors of 600 repeats."""
    rng = np.random.default_rng(0)
    rho, hits, repeats = 0.6, 0, 600
    true = 2.0 / math.pi * math.asin(rho)
    for _ in range(repeats):
        x = rng.normal(size=25)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=25)
        low, high = tau_interval(rank_correlation(x, y), 25)
        hits += low <= true <= high
    assert hits / repeats == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / repeats))
    assert all(math.isnan(v) for v in tau_interval(math.nan, 25) + tau_interval(0.5, 4))
