"""What a suite's records say together: intervals over training seeds, ranks, and agreement between two scorecards.

Intervals are Student's t at 95 % over seeds (a bootstrap of three values would lie). A rank counts the families
that are *significantly* better: the 95 % interval of the difference, paired by seed, lies wholly on one side of
zero. Each pair is tested at 5 % without correction for their number, so of two equal families one is called
better in 5 % of comparisons, and among k equal contestants some pair is separated more often than that: 13 % of the
time for three, 23 % for four (simulated in tests/test_scorecard.py). Read a lone separation accordingly.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = (
    "suite", "source", "family", "metric", "unit", "higher_is_better", "n_runs", "n_ok", "mean", "ci_low", "ci_high",
    "oracle", "rank", "fingerprint",
)  # fmt: skip
CONFIDENCE = 0.95
# Fréchet distances, by which families are ordered: `fid` in Inception features, `fd_<extractor>` elsewhere.
HEADLINES = ("fid", "fd_*")
SPREAD_PREFIX = "seed_spread_"
# A likelihood may be exact for one family and a bound for the next: rows apart, and no ranks across.
LIKELIHOOD_METRICS = ("nll_nats", "bits_per_dim")
NOT_QUALITY = ("cost", "stability", "seed_spread")


def scorecard(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per (suite, source, family, metric).

    Args:
        frame: a row per measurement, as `genfam.records.to_frame` gives it.

    Returns:
        Columns `COLUMNS`. `n_runs` counts every run of the family on the source, `n_ok` those that ended well and
        gave a number: only these enter `mean` (a diverged run has no say in it). `ci_low`, `ci_high` are NaN for one
        run; they have zero width only where all runs agree to the last bit. `oracle` is the mean of the families of
        role oracle under the same fingerprint. `rank` is 1 + the number of contestants significantly better; NaN
        for yardsticks, for metrics without a direction, and for families with fewer than two runs. Where n ≥ 3
        the rows `seed_spread_<metric>` give IQR / |median| over seeds for every Fréchet distance (no interval).

    Raises:
        ValueError: numbers that cannot share a row or column (see `check_fingerprints`), or two runs of one seed.
    """
    check_fingerprints(frame)
    counted = _counted(frame)
    _check_seeds(counted)
    runs = {key: group["run_id"].nunique() for key, group in frame.groupby(["suite", "source", "family"])}
    measured = frame[frame["status"] == "ok"]
    seeds: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in counted.to_dict("records"):
        seeds.setdefault((row["suite"], row["source"], row["metric"], row["family"]), {})[row["seed"]] = row["value"]
    rows: list[dict[str, Any]] = []
    for (suite, source, metric), cell in measured.groupby(["suite", "source", "metric"], sort=True):
        # Runs that ended well say what the protocol was; where none did, the others may.
        firsts: dict[str, dict[str, Any]] = {}
        for row in sorted(cell.to_dict("records"), key=lambda row: (row["outcome"] != "ok", row["seed"])):
            firsts.setdefault(str(row["family"]), {str(name): value for name, value in row.items()})
        values = {family: seeds.get((suite, source, metric, family), {}) for family in firsts}
        oracles = [family for family, first in firsts.items() if first["role"] == "oracle"]
        for family in sorted(firsts, key=lambda family: (_role_order(firsts[family]["role"]), str(family))):
            first, own = firsts[family], values[family]
            comparable = [other for other in firsts if firsts[other]["fingerprint"] == first["fingerprint"]]
            # The oracle's likelihood is the entropy of the data: the floor of every kind.
            floors = [f for f in oracles if f in comparable or metric in LIKELIHOOD_METRICS]
            rivals = {other: values[other] for other in comparable if firsts[other]["role"] == "contestant"}
            low, high = t_interval(list(own.values()))
            base = {
                "suite": suite, "source": source, "family": family, "metric": metric, "unit": first["unit"],
                "higher_is_better": first["higher_is_better"], "n_runs": runs[suite, source, family],
                "n_ok": len(own), "mean": _mean(list(own.values())), "ci_low": low, "ci_high": high,
                "oracle": _mean([value for floor in floors for value in values[floor].values()]),
                "rank": _rank(family, rivals, first["higher_is_better"]), "fingerprint": first["fingerprint"],
            }  # fmt: skip
            rows.append(base)
            if is_headline(str(metric)) and not math.isnan(spread := seed_spread(list(own.values()))):
                oracle_values = [value for floor in floors for value in values[floor].values()]
                rows.append(
                    base
                    | {"metric": f"{SPREAD_PREFIX}{metric}", "unit": "1", "higher_is_better": False, "mean": spread}
                    | {"ci_low": math.nan, "ci_high": math.nan, "rank": math.nan, "oracle": seed_spread(oracle_values)}
                    | {"fingerprint": f"seed_spread|{first['fingerprint']}"}
                )
    rows.sort(key=lambda row: (row["suite"], row["source"], row["metric"]))  # stable: families keep their order
    card = pd.DataFrame(rows, columns=list(COLUMNS))
    card["higher_is_better"] = pd.Series([row["higher_is_better"] for row in rows], dtype=object)
    return card.astype({"mean": float, "ci_low": float, "ci_high": float, "oracle": float, "rank": float})


def to_csv(card: pd.DataFrame) -> str:
    """The scorecard as CSV text: what does not apply is empty, ranks are whole numbers."""
    return card.astype({"rank": "Int64"}).to_csv(index=False, float_format="%.10g", lineterminator="\n")


def check_fingerprints(frame: pd.DataFrame) -> None:
    """Refuse numbers of different protocols for one (suite, source, metric): they cannot share a column.

    Units and directions must agree too. The likelihood metrics may differ between kinds of likelihood (exact, bound,
    estimate), not within one.

    Raises:
        ValueError: names the metric and the parts that differ, with the families that have each.
    """
    counted = _counted(frame)
    kinds = counted["likelihood"].where(counted["metric"].isin(LIKELIHOOD_METRICS), "")
    for (_, source, metric, _), cell in counted.groupby(["suite", "source", "metric", kinds.rename("kind")], sort=True):
        for column in ("fingerprint", "unit", "higher_is_better"):
            owners: dict[Hashable, set[str]] = {}
            for value, family in zip(cell[column], cell["family"], strict=True):
                owners.setdefault(value, set()).add(str(family))
            if len(owners) > 1:
                common = set.intersection(*(set(str(value).split("|")) for value in owners))
                differences = "; ".join(
                    f"{'|'.join(part for part in str(value).split('|') if part not in common) or '(nothing)'} "
                    f"for {', '.join(sorted(families))}"
                    for value, families in sorted(owners.items(), key=lambda item: str(item[0]))
                )
                raise ValueError(f"{metric} on {source}: expected one {column} in one table, got {differences}")


def is_headline(metric: str) -> bool:
    """Whether the metric is a Fréchet distance."""
    return any(fnmatchcase(metric, pattern) for pattern in HEADLINES)


def one_machine(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without the costs that were measured on several machines or thread counts.

    Such costs cannot share a column, and quality need not suffer for it: a suite may be finished on another machine.
    What is left out is named in a warning.
    """
    counted = _counted(frame)
    costs = counted[counted["fingerprint"].str.split("|").str[0] == "cost"]
    kinds = costs.groupby(["suite", "source", "metric"])["fingerprint"].nunique()
    mixed = set(kinds.index[kinds > 1])
    if not mixed:
        return frame
    names = ", ".join(f"{metric} on {source}" for _, source, metric in sorted(mixed))
    warnings.warn(f"left out costs measured on several machines or thread counts: {names}", stacklevel=2)
    cells = zip(frame["suite"], frame["source"], frame["metric"], strict=True)
    return frame[[cell not in mixed for cell in cells]].reset_index(drop=True)


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean: mean ± t_{(1+c)/2, n−1} · s / √n.

    Args:
        values: independent values, one per training seed.
        confidence: share of such intervals that hold the true mean, were the values normal.

    Returns:
        (low, high); (NaN, NaN) for fewer than two values or where one is not finite, and zero width exactly where
        all values are the same number.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2 or not np.isfinite(array).all():
        return math.nan, math.nan
    if (array == array[0]).all():
        return float(array[0]), float(array[0])
    half = _t_quantile((1.0 + confidence) / 2.0, n - 1) * float(array.std(ddof=1)) / math.sqrt(n)
    return float(array.mean()) - half, float(array.mean()) + half


def significantly_better(
    a: Mapping[int, float], b: Mapping[int, float], higher_is_better: bool, confidence: float = CONFIDENCE
) -> bool:
    """Whether the t interval of a − b, paired by seed, lies wholly on the good side of zero.

    Args:
        a: seed -> value of the family that might be better.
        b: the same of the other; only seeds that both have count, and of fewer than two nothing is significant.
        higher_is_better: the metric's direction.
        confidence: of the two-sided interval: a false alarm either way has probability 1 − confidence.
    """
    common = sorted(a.keys() & b.keys())
    with np.errstate(invalid="ignore"):
        differences = np.array([a[seed] - b[seed] for seed in common], dtype=np.float64)
    if not higher_is_better:
        differences = -differences
    if len(common) >= 2 and (differences == math.inf).all():
        return True  # one side infinitely bad on every seed (a divergence without overlap)
    low, _ = t_interval(differences.tolist(), confidence)
    return low > 0.0


def seed_spread(values: Sequence[float]) -> float:
    """IQR / |median|, a robust relative spread; NaN for fewer than three values or where it is undefined."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 3 or not np.isfinite(array).all() or np.median(array) == 0.0:
        return math.nan
    lower, upper = np.quantile(array, [0.25, 0.75])
    return float((upper - lower) / abs(np.median(array)))


@dataclass(frozen=True)
class Agreement:
    """How far two scorecards tell the same story, over cells (source, family, metric) of quality that both have.

    Attributes:
        agree: cells that agree within their intervals.
        disagree: one row per other cell: source, family, metric, both means, intervals and counts.
        undecided: cells with one run on both sides that are not the same number, or without a number on one side.
        skipped: cells of different fingerprints: another protocol, so no comparison.
    """

    agree: int
    disagree: pd.DataFrame
    undecided: int
    skipped: int

    @property
    def compared(self) -> int:
        """Cells with a verdict."""
        return self.agree + len(self.disagree)


def agreement(mine: pd.DataFrame, published: pd.DataFrame) -> Agreement:
    """Compare two scorecards cell by cell, on quality only (no costs, stability or spreads).

    Two intervals agree where they overlap. A cell with one run has none: it agrees if it lies in the other's
    95 % prediction interval for one more run, mean ± t · s · √(1 + 1/n). Equal numbers always agree.

    Args:
        mine: as `scorecard` gives it, of one suite.
        published: the same.
    """
    keys = ["source", "family", "metric"]
    known = {tuple(row[key] for key in keys): row for row in published.to_dict("records")}
    counts = {"agree": 0, "undecided": 0, "skipped": 0}
    disagree: list[dict[str, Any]] = []
    for row in mine.to_dict("records"):
        other = known.get(tuple(row[key] for key in keys))
        if other is None or str(row["fingerprint"]).split("|")[0] in NOT_QUALITY:
            continue
        if row["fingerprint"] != other["fingerprint"]:
            counts["skipped"] += 1
            continue
        verdict = _agree(row, other)
        if verdict is None:
            counts["undecided"] += 1
        elif verdict:
            counts["agree"] += 1
        else:
            numbers = ("mean", "ci_low", "ci_high", "n_ok")
            disagree.append(
                {key: row[key] for key in keys}
                | {name: row[name] for name in numbers}
                | {f"published_{name}": other[name] for name in numbers}
            )
    columns = [*keys, *(f"{p}{name}" for p in ("", "published_") for name in ("mean", "ci_low", "ci_high", "n_ok"))]
    return Agreement(disagree=pd.DataFrame(disagree, columns=columns), **counts)


def _agree(a: Mapping[Hashable, Any], b: Mapping[Hashable, Any]) -> bool | None:
    """Whether two cells agree; None where neither can say."""
    if a["mean"] == b["mean"] or math.isclose(a["mean"], b["mean"], rel_tol=1e-9):
        return True
    bounds = []
    for cell, other in ((a, b), (b, a)):
        low, high = cell["ci_low"], cell["ci_high"]
        if other["n_ok"] == 1:  # from an interval of the mean to one of prediction: s√(1 + 1/n) = (s/√n)·√(n + 1)
            half = (high - low) / 2.0 * math.sqrt(cell["n_ok"] + 1)
            low, high = cell["mean"] - half, cell["mean"] + half
        bounds.append((cell["mean"], cell["mean"]) if cell["n_ok"] == 1 else (low, high))
    if (a["n_ok"] <= 1 and b["n_ok"] <= 1) or any(math.isnan(x) for pair in bounds for x in pair):
        return None
    (low, high), (other_low, other_high) = bounds
    slack = 1e-9 * max(abs(a["mean"]), abs(b["mean"]))
    return bool(low <= other_high + slack and other_low <= high + slack)


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that enter a mean: a number, from a run that ended well."""
    return frame[(frame["status"] == "ok") & (frame["outcome"] == "ok")]


def _check_seeds(counted: pd.DataFrame) -> None:
    cells = ["suite", "source", "family", "metric", "seed"]
    twice = counted[counted.duplicated(cells, keep=False)]
    if len(twice):
        first = twice.iloc[0]
        runs = sorted(twice.loc[(twice[cells] == first[cells]).all(axis=1), "run_id"])
        raise ValueError(
            f"{first['metric']} of {first['family']} on {first['source']}: expected one run of seed {first['seed']}, "
            f"got {runs}: one seed has one vote"
        )


def _rank(family: Any, rivals: Mapping[Any, Mapping[int, float]], higher_is_better: bool | None) -> float:
    if higher_is_better is None or family not in rivals or len(rivals[family]) < 2:
        return math.nan
    own = rivals[family]
    return 1.0 + sum(
        significantly_better(values, own, higher_is_better) for other, values in rivals.items() if other != family
    )


def _mean(values: Sequence[float]) -> float:
    if not values:
        return math.nan
    if all(value == values[0] for value in values):
        return values[0]  # also where rounding would move the mean off the one value
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.asarray(values, dtype=np.float64)))


def _role_order(role: str) -> int:
    return 0 if role == "contestant" else 1


@cache
def _t_quantile(probability: float, degrees: int) -> float:
    return float(stats.t.ppf(probability, degrees))
