"""What more training compute buys each family, and where one family overtakes another: tables from records.

`genfam.comparing.scaling_curves` says how curves are fitted, `genfam.comparing.crossings` how pairs are compared.
Nothing is said beyond the largest budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from genfam.comparing.crossings import Measured, crossing, places_of
from genfam.comparing.scaling_curves import Fit, fit
from genfam.comparing.stability import final_value, judge_of, runs_at_end
from genfam.comparing.statistics import Runs, t_interval
from genfam.records.store import budget_of
from genfam.types import Outcome, Record

POINT_COLUMNS = (
    "suite", "source", "family", "metric", "share", "budget", "n_runs", "n_ok", "mean", "ci_low", "ci_high",
    "train_flops", "train_seconds",
)  # fmt: skip
FIT_COLUMNS = (
    "suite", "source", "family", "metric", "against", "budgets", "n", "floor", "floor_low", "floor_high", "reducible",
    "exponent", "exponent_low", "exponent_high", "least_floor", "largest", "misfit",
    "form_p", "scatter_p", "rejected",
)  # fmt: skip
PAIR_COLUMNS = ("suite", "source", "metric", "against", "a", "b", "compute", "ahead", "p_holm", "better")
CROSSING_COLUMNS = (
    "suite", "source", "metric", "against", "leads", "behind", "throughout", "ci_low", "ci_high",
    "last_better", "last_at", "range_low", "range_high",
)  # fmt: skip
AGAINST = ("train_flops", "train_seconds")


@dataclass(frozen=True)
class Scaling:
    """Tables with the columns above, and the fits behind them by (source, family, against)."""

    points: pd.DataFrame
    fits: pd.DataFrame
    pairs: pd.DataFrame
    crossings: pd.DataFrame
    curves: Mapping[tuple[str, str, str], Fit]


def scaling(records: Iterable[Record]) -> Scaling:
    """All tables, of sources on which some contestant was run at several budgets.

    All is about the source's judge, fitted where lower is better and every mean positive. A run that diverged counts
    in `n_runs` and has no value. Seconds are compared within one machine and number of threads only.
    """
    by_source: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.outcome.finished and record.learning_rate_factor == 1.0 and budget_of(record) > 0.0:
            by_source.setdefault((record.suite, record.task), []).append(record)
    points: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
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
        kinds = AGAINST if len({(record.device, record.threads) for record in contestants}) == 1 else AGAINST[:1]
        higher_is_better = _direction(own, metric)
        found = _fits(rows, kinds, _least_floor(own, metric)) if higher_is_better is False else {}
        for (family, against), one in found.items():
            curves[source, family, against] = one
            fits.append(about | {"family": family, "against": against} | _fit_row(one, own, metric))
        for of_pair, of_crossing in _pairs(rows, kinds, higher_is_better):
            pairs += [about | row for row in of_pair]
            crossings.append(about | of_crossing)
    return Scaling(
        pd.DataFrame(points, columns=list(POINT_COLUMNS)),
        pd.DataFrame(fits, columns=list(FIT_COLUMNS)),
        pd.DataFrame(pairs, columns=list(PAIR_COLUMNS)),
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
    """A row per family and budget; `values` and `runs` beside what the table has."""
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
        at_end = ended[budget].get(family)
        low, high = at_end.interval() if at_end else (math.nan, math.nan)
        mean, flops, seconds = (
            float(np.mean(numbers)) if numbers else math.nan
            for numbers in (values, [r.train_flops for r in known], [r.train_seconds for r in known])
        )
        rows.append(
            {"family": family, "share": share_of(budget, largest), "budget": budget, "n_runs": len(runs)}
            | {"n_ok": len(known), "mean": mean, "ci_low": low, "ci_high": high}
            | {"train_flops": flops, "train_seconds": seconds, "values": values, "runs": at_end}
        )
    return rows


def _direction(records: Sequence[Record], metric: str) -> bool | None:
    """Whether higher is better; None where neither is."""
    return next((m.higher_is_better for record in records for m in record.metrics if m.name == metric), None)


def _least_floor(records: Sequence[Record], metric: str) -> float:
    """What real data show of the metric: the lower end of the oracle's interval over its runs; 0 where there is none.

    Its mean would not do: of a few runs it is as often too high as too low.
    """
    values = [final_value(record, metric) for record in records if record.role == "oracle"]
    known = [value for value in values if math.isfinite(value)]
    low = t_interval(known)[0]
    return max(0.0, float(np.mean(known)) if math.isnan(low) else low) if known else 0.0


def _fits(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], least_floor: float) -> dict[tuple[str, str], Fit]:
    """(family, against) -> its fit, where there is one."""
    found = {}
    for against in kinds:
        for family in dict.fromkeys(row["family"] for row in rows):
            own = [row for row in rows if row["family"] == family and row["n_ok"] > 0]
            one = fit([row[against] for row in own], [row["values"] for row in own], least_floor)
            if one is not None:
                found[family, against] = one
    return found


def _fit_row(one: Fit, records: Sequence[Record], metric: str) -> dict[str, Any]:
    curve = one.curve
    return {
        "budgets": len(one.compute), "n": one.n, "floor": curve.floor, "floor_low": one.floor[0],
        "floor_high": one.floor[1], "reducible": curve.reducible, "exponent": curve.exponent,
        "exponent_low": one.exponent[0], "exponent_high": one.exponent[1],
        "least_floor": _least_floor(records, metric), "largest": curve.largest, "misfit": one.misfit,
        "form_p": one.form_p, "scatter_p": one.scatter_p, "rejected": one.rejected,
    }  # fmt: skip


def _pairs(
    rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], higher_is_better: bool | None
) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """For every pair of families and kind of compute: a row per place, and one on the whole range."""
    for against in kinds if higher_is_better is not None else ():
        measured = _measured(rows, against)
        for a, b in combinations(sorted(measured), 2):
            places = places_of(measured[a], measured[b], bool(higher_is_better))
            one = crossing(places)
            if one is None:
                continue
            named = {1: a, -1: b, 0: ""}
            leads, behind = (a, b) if one.first_leads else (b, a)
            last = (named[one.last.better], one.last.compute) if one.last else ("", math.nan)
            yield (
                [
                    {"against": against, "a": a, "b": b, "compute": place.compute, "ahead": named[place.ahead]}
                    | {"p_holm": place.p_holm, "better": named[place.better]}
                    for place in places
                ],
                {"against": against, "leads": leads, "behind": behind, "throughout": one.throughout}
                | {"ci_low": one.low, "ci_high": one.high, "last_better": last[0], "last_at": last[1]}
                | {"range_low": one.range[0], "range_high": one.range[1]},
            )


def _measured(rows: Sequence[Mapping[str, Any]], against: str) -> dict[str, Measured]:
    """By family; those that had a budget without a run that ended well are compared in FLOPs alone."""
    found: dict[str, Measured] = {}
    for family in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == family]
        if against == "train_seconds" and not all(row["runs"] for row in mine):
            continue
        own: list[tuple[float, Runs]] = [
            (row[against], row["runs"]) if row["runs"] else (row["budget"], Runs(np.empty(0))) for row in mine
        ]
        own.sort(key=lambda at: at[0])
        found[family] = Measured([compute for compute, _ in own], [runs for _, runs in own])
    return found
