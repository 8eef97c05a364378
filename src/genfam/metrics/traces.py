"""Stability of one run, from its gradient norms and its metric curve (definitions: docs/stability.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

QUANTILES = (0.5, 0.99)


def gradient_norm_quantiles(norms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median and 99 % quantile of each player's gradient norm before clipping, non-finite norms left out."""
    found = {}
    for player, values in norms.items():
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if finite.size:
            for q in QUANTILES:
                found[f"gradient_norm_{player}_q{round(100 * q)}"] = float(np.quantile(finite, q))
    return found


def last_minus_best(values: Sequence[float], higher_is_better: bool) -> float:
    """How much worse the curve ends than its best point, ≥ 0, in the metric's unit: the regret of not stopping.

    Raises:
        ValueError: an empty curve.
    """
    if not values:
        raise ValueError("expected at least one point of the curve, got none")
    return float(max(values) - values[-1]) if higher_is_better else float(values[-1] - min(values))


def skill(value: float, floor: float, ceiling: float) -> float:
    """The skill score of forecasting (Murphy 1988): 0 as good as the floor, 1 as the ceiling, negative below the floor.

    A pure number whatever the metric's unit and direction. NaN where floor and ceiling are one.
    """
    return (value - floor) / (ceiling - floor) if ceiling != floor else math.nan


def oscillation(values: Sequence[float]) -> float:
    """Total variation Σ|v_{i+1} − v_i| beyond the net change |v_last − v_first|: 0 for a monotone curve."""
    steps = np.diff(np.asarray(values, dtype=np.float64))
    return float(np.abs(steps).sum() - abs(steps.sum())) if len(steps) else 0.0


def first_reached(values: Sequence[float], threshold: float) -> int | None:
    """Index of the first value that is at least the threshold; None if none is."""
    return next((index for index, value in enumerate(values) if value >= threshold), None)
