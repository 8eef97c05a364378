"""Metrics on trial: where p_data is known, how far does each metric order runs as the exact divergence does?

Over all runs of a suite on a source (contestants and floors, every seed, no guests), Kendall's rank correlation between
a sample-based metric and the exact one, signed so that +1 means: whichever run the metric calls better is better.

References:
    Kendall, M. 1945. The treatment of ties in ranking problems. Biometrika 33 (τ_b; scipy's is used).
    Fieller, E. C., Hartley, H. O. & Pearson, E. S. 1957. Tests for rank correlation coefficients. Biometrika 44
    (the interval: atanh τ has a variance of 0.437 / (n − 4)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from genfam.comparing.scorecard import QUALITY
from genfam.comparing.statistics import CONFIDENCE
from genfam.types import Kind

# The truth, the first that a source has: on points over cells of equal mass, for every family; on tables exact up to
# the noise of `table_samples`.
TRUTHS = ("cell_total_variation", "total_variation", "kl_divergence")
NOT_ON_TRIAL = (Kind.DIVERGENCE, Kind.LIKELIHOOD)  # they are the truth, or need more than samples
LEAST_RUNS = 8
UNBOUNDED = ("fd", "kd", "gmmd", "fld")  # how the names of distances without an upper bound begin
SEEN = 5.0  # standard deviations of fresh real data
FRESH = 8  # draws of fresh real data that those standard deviations are of
RESAMPLES = 300
COLUMNS = ("suite", "source", "truth", "metric", "n_runs", "tau", "ci_low", "ci_high")


def metric_trial(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per source with a known truth and metric.

    Runs of one family are more alike than runs of different ones, so the intervals, which take runs to be
    independent, are rather too narrow.

    Args:
        frame: as `genfam.records.frame.to_frame` gives it.

    Returns:
        Columns `COLUMNS`; `tau` is NaN where a metric has one value for all runs. Sources with fewer than
        `LEAST_RUNS` runs that have both numbers are left out.
    """
    rows = []
    on_trial = ~frame["role"].isin(["oracle", "guest"])
    counted = frame[(frame["status"] == "ok") & (frame["outcome"] == "ok") & on_trial]
    quality = counted[counted["kind"].isin(QUALITY)]
    for (suite, source), cell in quality.groupby(["suite", "source"], sort=True):
        values = cell.pivot(index="run_id", columns="metric", values="value")
        truth = next((name for name in TRUTHS if name in values and values[name].notna().sum() >= LEAST_RUNS), None)
        if truth is None:
            continue
        about = cell.drop_duplicates("metric").set_index("metric")
        directions, kinds = about["higher_is_better"], about["kind"]
        for metric in values.columns:
            if kinds[metric] in NOT_ON_TRIAL or directions[metric] is None:
                continue
            both = values[[truth, metric]].dropna()
            if len(both) < LEAST_RUNS:
                continue
            sign = -1.0 if directions[metric] else 1.0
            tau = rank_correlation(both[truth].to_numpy(), sign * both[metric].to_numpy())
            rows.append([suite, source, truth, metric, len(both), tau, *tau_interval(tau, len(both))])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def by_source(trial: pd.DataFrame) -> pd.DataFrame:
    """Of a suite's trial, τ with a row per metric and a column per source; the highest mean over sources comes first.

    Metrics that have one value for all runs on every source are left out.

    Args:
        trial: as `metric_trial` gives it.
    """
    table = trial.pivot(index="metric", columns="source", values="tau").dropna(how="all")
    return table.loc[table.mean(axis=1).sort_values(ascending=False, kind="stable").index]


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's τ_b; NaN where one side is constant."""
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return math.nan
    return float(stats.kendalltau(x, y).statistic)


def tau_interval(tau: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Fieller, Hartley & Pearson's interval of τ over n independent pairs; it has no width at ±1."""
    if math.isnan(tau) or n <= 4:
        return math.nan, math.nan
    if abs(tau) >= 1.0:
        return tau, tau
    half = float(stats.norm.ppf((1.0 + confidence) / 2.0)) * math.sqrt(0.437 / (n - 4))
    return math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half)


def planted_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """What each ruler makes of failures planted in real data in three grades.

    Args:
        rows: columns `ruler`, `failure`, `grade` (1 to 3) and `worse`: by how many standard deviations of fresh real
            data the ruler's value is worse than theirs.

    Returns:
        A row per ruler, a column per failure: `sees` if the strongest grade is worse by `SEEN`, `orders` if moreover no
        grade is better than the one before it by more than one standard deviation, else empty. Then `orders`, how many
        it orders, and `grade`, the mean over failures of the lowest grade that it sees as it sees all stronger ones (4
        where it sees none). The best come first.
    """
    wide = rows.pivot_table(index=["ruler", "failure"], columns="grade", values="worse")
    seen = wide[3] >= SEEN
    ordered = seen & (wide[2] >= wide[1] - 1.0) & (wide[3] >= wide[2] - 1.0)
    said = pd.Series("", wide.index).mask(seen, "sees").mask(ordered, "orders").unstack()
    from_the_strongest = (wide[[3, 2, 1]] >= SEEN).cumprod(axis=1).sum(axis=1)
    lowest = (4 - from_the_strongest).unstack().mean(axis=1)
    found = said.assign(orders=(said == "orders").sum(axis=1), grade=lowest)
    return found.sort_values(["orders", "grade"], ascending=[False, True])


def leading_ruler(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Distances without an upper bound over several sets of images, the one that should lead first.

    The rule: the ruler that orders the most failures on all sets together; of equals, the one whose lowest grade seen
    is lower on average. Accuracies, shares and total variations end at 1, where poor models can no longer be ranked.

    Args:
        tables: as `planted_verdicts` takes them, with the same names of rulers.

    Returns:
        A row per ruler that is in all tables, columns `orders` (sum) and `grade` (mean).
    """
    verdicts = [planted_verdicts(table) for table in tables]
    both = pd.concat(verdicts, keys=range(len(verdicts)), names=["set", "ruler"]).groupby("ruler")
    found = pd.DataFrame({"orders": both["orders"].sum(), "grade": both["grade"].mean()})[both.size() == len(tables)]
    unbounded = found.index.str.removeprefix("pixel ").str.split("_").str[0].isin(UNBOUNDED)
    return found[unbounded].sort_values(["orders", "grade"], ascending=[False, True])


def shares_of_lead(tables: Sequence[pd.DataFrame], seed: int = 0) -> pd.Series[float]:
    """How often each ruler would lead by `leading_ruler`, were fresh data and failures drawn again; ties count in part.

    Means over draws are drawn again with their standard error, and each ruler's mean and standard deviation on fresh
    real data with the errors that `FRESH` draws leave them.

    Args:
        tables: as `leading_ruler` takes them, with the columns `scatter` and `draws` too.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, float] = {}
    for _ in range(RESAMPLES):
        again = []
        for table in tables:
            rulers = table["ruler"].unique()
            scale = pd.Series(np.sqrt(rng.chisquare(FRESH - 1, len(rulers)) / (FRESH - 1)), rulers)
            mean = pd.Series(rng.standard_normal(len(rulers)) / np.sqrt(FRESH), rulers)
            error = table["scatter"] / np.sqrt(table["draws"]) * rng.standard_normal(len(table))
            worse = (table["worse"] + error - table["ruler"].map(mean)) / table["ruler"].map(scale)
            again.append(table.assign(worse=worse))
        leading = leading_ruler(again)
        first = leading.index[(leading == leading.iloc[0]).all(axis=1)]
        for ruler in first:
            found[ruler] = found.get(ruler, 0.0) + 1.0 / len(first) / RESAMPLES
    return pd.Series(found, dtype=float).sort_values(ascending=False)
