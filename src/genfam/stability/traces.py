"""Stability of one run, from its gradient norms and its metric curve."""

from __future__ import annotations

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
