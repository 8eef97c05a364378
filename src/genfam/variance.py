"""Where the scatter over seeds comes from: training, or the draw of the evaluation's samples.

More seeds help against the first, more samples against the second.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

COLUMNS = (
    "suite", "source", "family", "metric", "n", "total_std", "evaluation_std", "training_std", "training_share",
)  # fmt: skip


def variance_components(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per (suite, source, family, metric) whose runs know their error of drawing, and at least three seeds.

    Each run's value is its model's true value plus the error of one draw of samples, whose variance the run's own
    `draw_stderr` estimates (a jackknife over samples, against the same reference that all runs share); so the variance
    over seeds is that of training plus the mean of the squared errors, and training's part is the difference, cut off
    at zero.

    Args:
        frame: a row per measurement, as `genfam.records.to_frame` gives it.
    """
    known = frame[(frame["status"] == "ok") & (frame["outcome"] == "ok") & frame["draw_stderr"].notna()]
    rows = []
    for key, cell in known.groupby(["suite", "source", "family", "metric"], sort=True):
        values, errors = cell["value"].to_numpy(dtype=float), cell["draw_stderr"].to_numpy(dtype=float)
        if len(values) < 3 or not (np.isfinite(values).all() and np.isfinite(errors).all()):
            continue
        total, evaluation = float(values.var(ddof=1)), float((errors**2).mean())
        training = max(0.0, total - evaluation)
        share = training / total if total > 0 else math.nan
        rows.append([*key, len(values), math.sqrt(total), math.sqrt(evaluation), math.sqrt(training), share])
    return pd.DataFrame(rows, columns=list(COLUMNS))
