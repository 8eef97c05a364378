"""Where the scatter over seeds comes from: training, or the draw of the evaluation's samples.

More seeds help against the first, more samples against the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from genfam.comparing.statistics import CONFIDENCE

COLUMNS = (
    "suite", "source", "family", "metric", "n", "total_std", "evaluation_std", "training_std", "training_share",
    "share_low", "share_high",
)  # fmt: skip


def evaluation_variance(errors: Sequence[float]) -> float:
    """Variance of one run's value by the draw of its samples: the mean square of the runs' `draw_stderr`.

    0 where none knows it. A run's `stderr` would not do: it holds the error of the reference too, which all runs share
    and which therefore makes no two seeds differ.
    """
    known = [error**2 for error in errors if math.isfinite(error)]
    return sum(known) / len(known) if known else 0.0


def variance_components(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per (suite, source, family, metric) whose runs know their error of drawing, and at least three seeds.

    Each run's value is its model's true value plus the error of one draw of samples, whose variance the run's own
    `draw_stderr` estimates (a jackknife over samples, against the same reference that all runs share); so the variance
    over seeds is that of training plus the mean of the squared errors, and training's part is the difference, cut off
    at zero. Its share has a 95 % interval from the χ² distribution of the variance over seeds, which is wide for a few.

    Where the distance is near its floor, a jackknife of it is too large (up to twice the variance): the share is then
    too small, and 0 says that training's part cannot be seen, not that there is none.

    Args:
        frame: a row per measurement, as `genfam.records.frame.to_frame` gives it.
    """
    known = frame[(frame["status"] == "ok") & (frame["outcome"] == "ok") & frame["draw_stderr"].notna()]
    known = known[known["role"] != "guest"]  # nobody knows what their files repeat
    rows = []
    for key, cell in known.groupby(["suite", "source", "family", "metric"], sort=True):
        values, errors = cell["value"].to_numpy(dtype=float), cell["draw_stderr"].to_numpy(dtype=float)
        if len(values) < 3 or not (np.isfinite(values).all() and np.isfinite(errors).all()):
            continue
        total, evaluation = float(values.var(ddof=1)), evaluation_variance(errors.tolist())
        training = max(0.0, total - evaluation)
        n = len(values)
        bounds = [total * (n - 1) / q for q in stats.chi2.ppf([(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2], n - 1)]
        shares = [max(0.0, 1.0 - evaluation / v) if v > 0 else math.nan for v in (total, *bounds)]
        rows.append([*key, n, math.sqrt(total), math.sqrt(evaluation), math.sqrt(training), *shares])
    return pd.DataFrame(rows, columns=list(COLUMNS))
