"""What more training compute buys each family, and where one family overtakes another: tables from records.

`genfam.comparing.scaling_curves` says how curves are fitted. Nothing is said beyond the largest budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from genfam.comparing.scaling_curves import PARAMETERS, Fit, crossing, fit
from genfam.comparing.stability import final_value, judge_of, runs_at_end
from genfam.records.store import budget_of
from genfam.types import Outcome, Record

POINT_COLUMNS = (
    "suite", "source", "family", "metric", "share", "budget", "n_runs", "n_ok", "mean", "ci_low", "ci_high",
    "train_flops", "train_seconds",
)  # fmt: skip
FIT_COLUMNS = (
    "suite", "source", "family", "metric", "against", "budgets", "n", "floor", "floor_low", "floor_high", "reducible",
    "exponent", "exponent_low", "exponent_high", "least_floor", "largest", "misfit",
    "form_p",
)  # fmt: skip
CROSSING_COLUMNS = (
    "suite", "source", "metric", "against", "leads", "behind", "crossing", "ci_low", "ci_high", "range_low",
    "range_high", "agreement",
)  # fmt: skip
AGAINST = ("train_flops", "train_seconds")


@dataclass(frozen=True)
class Scaling:
    """Tables with the columns above, and the fits behind them by (source, family, against)."""

    points: pd.DataFrame
    fits: pd.DataFrame
    crossings: pd.DataFrame
    curves: Mapping[tuple[str, str, str], Fit]


def scaling(records: Iterable[Record]) -> Scaling:
    """All tables, of sources on which some contestant was run at several budgets.

    Fitted is the source's judge, where lower is better and every mean positive. A run that diverged counts in `n_runs`
    and has no value. Seconds are compared within one machine and number of threads only.
    """
    by_source: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.outcome.finished and record.learning_rate_factor == 1.0 and budget_of(record) > 0.0:
            by_source.setdefault((record.suite, record.task), []).append(record)
    points: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    crossings: list[dict[str, Any]] = []
    curves: dict[tuple[str, str, str], Fit] = {}
    for (suite, source), own in sorted(by_source.items()):
        contestants = [record for record in own if record.role == "contestant"]
        if len({budget_of(record) for record in contestants}) < 2:
            continue
        metric = judge_of(own)
        about = {"suite": suite, "source": source, "metric": metric}
        rows = _points(contestants, metric)
        points += [about | row for row in rows]
        found = _fits(rows, _least_floor(own, metric)) if _falls(own, metric) else {}
        if len({(record.device, record.threads) for record in contestants}) > 1:
            found = {key: one for key, one in found.items() if key[1] != "train_seconds"}
        for (family, against), one in found.items():
            curves[source, family, against] = one
            fits.append(about | {"family": family, "against": against} | _fit_row(one, own, metric))
        crossings += [about | row for row in _crossings(found)]
    return Scaling(
        pd.DataFrame(points, columns=list(POINT_COLUMNS)),
        pd.DataFrame(fits, columns=list(FIT_COLUMNS)),
        pd.DataFrame(crossings, columns=list(CROSSING_COLUMNS)),
        curves,
    )


def share_of(budget: float, largest: float) -> str:
    """A budget by its share of the largest: C, C/4, or 0.35 C where the largest is no multiple of it."""
    times = largest / budget
    whole = round(times)
    if abs(times - whole) < 0.01 * times:
        return "C" if whole == 1 else f"C/{whole}"
    return f"{budget / largest:.2g} C"


def _points(contestants: Sequence[Record], metric: str) -> list[dict[str, Any]]:
    """A row per family and budget; `values` beside what the table has."""
    largest = max(map(budget_of, contestants))
    rows = []
    cells = sorted({(record.family, budget_of(record)) for record in contestants})
    ended = {
        budget: runs_at_end([record for record in contestants if budget_of(record) == budget], metric)
        for budget in {budget for _, budget in cells}
    }
    for family, budget in cells:
        runs = [record for record in contestants if (record.family, budget_of(record)) == (family, budget)]
        known = [
            record for record in runs if record.outcome is Outcome.OK and math.isfinite(final_value(record, metric))
        ]
        known.sort(key=lambda record: record.seed)
        values = [final_value(record, metric) for record in known]
        low, high = ended[budget][family].interval() if known else (math.nan, math.nan)
        mean, flops, seconds = (
            float(np.mean(numbers)) if numbers else math.nan
            for numbers in (values, [r.train_flops for r in known], [r.train_seconds for r in known])
        )
        rows.append(
            {"family": family, "share": share_of(budget, largest), "budget": budget, "n_runs": len(runs)}
            | {"n_ok": len(known), "mean": mean, "ci_low": low, "ci_high": high}
            | {"train_flops": flops, "train_seconds": seconds, "values": values}
        )
    return rows


def _falls(records: Sequence[Record], metric: str) -> bool:
    """Whether lower is better."""
    return any(m.higher_is_better is False for record in records for m in record.metrics if m.name == metric)


def _least_floor(records: Sequence[Record], metric: str) -> float:
    """The oracle's mean: what real data show of the metric; 0 where there is no oracle."""
    values = [final_value(record, metric) for record in records if record.role == "oracle"]
    known = [value for value in values if math.isfinite(value)]
    return max(0.0, float(np.mean(known))) if known else 0.0


def _fits(rows: Sequence[Mapping[str, Any]], least_floor: float) -> dict[tuple[str, str], Fit]:
    """(family, against) -> its fit, where there is one."""
    found = {}
    for against in AGAINST:
        for family in dict.fromkeys(row["family"] for row in rows):
            own = [row for row in rows if row["family"] == family and row["n_ok"] > 0]
            one = fit([row[against] for row in own], [row["values"] for row in own], least_floor)
            if one is not None:
                found[family, against] = one
    return found


def _fit_row(one: Fit, records: Sequence[Record], metric: str) -> dict[str, Any]:
    curve = one.curve
    return {
        "budgets": len(one.compute), "n": one.degrees + PARAMETERS, "floor": float(curve.floor[0]),
        "floor_low": one.floor[0], "floor_high": one.floor[1], "reducible": float(curve.reducible[0]),
        "exponent": float(curve.exponent[0]), "exponent_low": one.exponent[0], "exponent_high": one.exponent[1],
        "least_floor": _least_floor(records, metric), "largest": curve.largest,
        "misfit": one.misfit, "form_p": one.form_p,
    }  # fmt: skip


def _crossings(found: Mapping[tuple[str, str], Fit]) -> list[dict[str, Any]]:
    """A row per pair of families and kind of compute."""
    rows = []
    for against in AGAINST:
        families = sorted(family for family, kind in found if kind == against)
        for a, b in combinations(families, 2):
            one = crossing(found[a, against], found[b, against])
            if one is None:
                continue
            leads, behind = (a, b) if one.first_leads else (b, a)
            rows.append(
                {"against": against, "leads": leads, "behind": behind}
                | {"crossing": math.nan if one.place is None else one.place, "ci_low": one.low, "ci_high": one.high}
                | {"range_low": one.range[0], "range_high": one.range[1], "agreement": one.agreement}
            )
    return rows
