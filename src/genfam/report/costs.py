"""Quality over sampling cost, as plain numbers: every family as it was run, and at other solver steps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from genfam.comparing.statistics import t_interval
from genfam.records.sampling_costs import COLUMNS
from genfam.report.tables import headline


@dataclass(frozen=True)
class Cost:
    """A family's headline metric beside what one sample costs.

    Attributes:
        family: its name.
        evaluations: of the network, per sample.
        mean, low, high: of the headline metric over seeds, as in the scorecard; NaN bounds for one run.
        front: whether no point of all runs is as cheap and better, or as good and cheaper, by means.
        setting: the sampling knobs that differ from the run's, in words; empty where none does.
        as_run: whether the scorecard's numbers were measured so.
        seconds: per sample, on the machine that measured it; NaN where the scorecard alone speaks.
        part: `1 of 3 runs` where not all of the scorecard's runs were measured so (only some have kept their weights):
            such a point beats none and is not on the front. Empty where all were.
    """

    family: str
    evaluations: float
    mean: float
    low: float
    high: float
    front: bool = False
    setting: str = ""
    as_run: bool = True
    seconds: float = math.nan
    part: str = ""

    @property
    def name(self) -> str:
        """The family, with the setting where it is another than the run's."""
        return self.family if self.as_run else f"{self.family} ({self.said})"

    @property
    def said(self) -> str:
        """The setting, and how many runs were measured so, if not all."""
        return ", ".join(filter(None, (self.setting, self.part)))


@dataclass(frozen=True)
class Line:
    """One family over its solver's steps, all other knobs as it was run.

    Attributes:
        seeds: a {network evaluations: value} per run.
        points: the means, by network evaluations.
    """

    family: str
    seeds: list[dict[float, float]]
    points: list[Cost]


@dataclass(frozen=True)
class Costs:
    """A source's points, the cheapest first, and the lines through those of one family."""

    metric: str
    points: list[Cost]
    lines: list[Line]

    @property
    def front(self) -> list[Cost]:
        """The Pareto front, the cheapest first."""
        return [point for point in self.points if point.front]


def costs(card: pd.DataFrame, source: str, contestants: Iterable[str], by_knobs: pd.DataFrame | None = None) -> Costs:
    """Contestants by network evaluations per sample; no points where the source has no headline metric.

    Args:
        card: as `genfam.comparing.scorecard.scorecard` gives it.
        source: its name.
        contestants: families.
        by_knobs: as `genfam.records.sampling_costs.of_suite` gives it. A setting is on the front only where all runs
            that entered the scorecard's mean were measured at it.
    """
    metric = headline(card, source) or ""
    own = card[(card["source"] == source) & (card["n_ok"] > 0)]
    quality = {str(row["family"]): row for row in own[own["metric"] == metric].to_dict("records")}
    asked = {
        str(row["family"]): float(row["mean"])
        for row in own[own["metric"] == "evaluations_per_sample"].to_dict("records")
    }
    known = {name: row for name, row in quality.items() if name in asked and math.isfinite(row["mean"])}
    known = {name: known[name] for name in contestants if name in known}
    points, lines = [], []
    for family, row in known.items():
        rows = _rows_of(by_knobs, source, metric, family)
        usual: dict[str, Any] = next((json.loads(text) for text in rows.loc[rows["as_run"].astype(bool), "knobs"]), {})
        mine = [_setting(family, text, cell, usual, int(row["n_ok"])) for text, cell in rows.groupby("knobs")]
        as_run = next((point for point in mine if point.as_run), None)
        mean, low, high = (float(row[name]) for name in ("mean", "ci_low", "ci_high"))
        point = Cost(family, asked[family], mean, low, high)
        points.append(point if as_run is None else replace(point, seconds=as_run.seconds))
        points += [point for point in mine if not point.as_run]
        same = [_but_steps(text) == _but_steps(json.dumps(usual)) for text in rows["knobs"]]
        by_steps = rows[pd.Series(same, index=rows.index, dtype=bool)]
        if by_steps["knobs"].nunique() > 1:
            seeds = [
                dict(sorted(zip(run["network_evaluations"].astype(float), run["value"].astype(float), strict=True)))
                for _, run in by_steps.groupby("seed")
            ]
            lines.append(Line(family, seeds, []))
    points = [point for point in points if point.evaluations > 0]
    points.sort(key=lambda p: (p.evaluations, p.mean, p.name))
    whole = [point for point in points if not point.part]
    points = [replace(point, front=not point.part and not _beaten(point, whole)) for point in points]
    through = {
        each.family: [p for p in points if p.family == each.family and (p.as_run or p.setting.startswith("steps="))]
        for each in lines
    }
    return Costs(metric, points, [replace(each, points=through[each.family]) for each in lines])


def _rows_of(by_knobs: pd.DataFrame | None, source: str, metric: str, family: str) -> pd.DataFrame:
    if by_knobs is None or not len(by_knobs):
        return pd.DataFrame(columns=list(COLUMNS))
    own = by_knobs["source"].eq(source) & by_knobs["family"].eq(family) & by_knobs["metric"].eq(metric)
    return by_knobs[own]


def _but_steps(knobs: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(knobs).items() if key != "steps"}


def _setting(family: str, knobs: object, rows: pd.DataFrame, usual: Mapping[str, Any], runs: int) -> Cost:
    """One setting at which a family was measured; `runs` runs are all of it."""
    chosen = json.loads(str(knobs))
    differ = [f"{key}={value}" for key, value in sorted(chosen.items(), reverse=True) if usual.get(key) != value]
    values = rows["value"].astype(float).tolist()
    part = "" if len(values) == runs else f"{len(values)} of {runs} runs"
    low, high = (math.nan, math.nan) if part else t_interval(values)
    return Cost(
        family, float(rows["network_evaluations"].mean()), sum(values) / len(values), low, high, False,
        ", ".join(differ), not part and bool(rows["as_run"].all()),
        float((rows["seconds"] / rows["samples"]).mean()), part,
    )  # fmt: skip


def _beaten(point: Cost, points: Iterable[Cost]) -> bool:
    mine = point.evaluations, point.mean
    return any(
        other.evaluations <= mine[0] and other.mean <= mine[1] and (other.evaluations, other.mean) != mine
        for other in points
    )


def yardsticks(card: pd.DataFrame, source: str, metric: str, contestants: Iterable[str]) -> dict[str, float]:
    """Mean of every family that is no contestant."""
    known = set(contestants)
    rows = card[(card["source"] == source) & (card["metric"] == metric) & (card["n_ok"] > 0)]
    records: list[dict[Any, Any]] = rows.to_dict("records")
    return {str(row["family"]): float(row["mean"]) for row in records if row["family"] not in known}


def rows_of(found: Costs) -> list[Mapping[str, str]]:
    """The points as text, for a table: what a chart says to those who do not see it."""
    return [
        {
            "metric": found.metric,
            "family": point.family,
            "setting": point.said or "as run",
            "as_run": "yes" if point.as_run else "",
            "evaluations": f"{point.evaluations:g}",
            "text": f"{point.mean:.3g}" + ("" if math.isnan(point.high) else f" [{point.low:.3g}, {point.high:.3g}]"),
            "milliseconds": "" if math.isnan(point.seconds) else f"{1e3 * point.seconds:.3g}",
            "front": "yes" if point.front else "",
        }
        for point in found.points
    ]
