"""Quality over sampling cost, as plain numbers: every family as it was run, and at other solver steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from genfam.report.tables import headline
from genfam.statistics import interval


@dataclass(frozen=True)
class Cost:
    """A family's headline metric beside what one sample costs.

    Attributes:
        family: its name.
        evaluations: of the network, per sample.
        mean, low, high: of the headline metric over seeds, as in the scorecard; NaN bounds for one run.
        front: whether no point of all runs is as cheap and better, or as good and cheaper, by means.
        solver, steps: how it was drawn; empty and 0 where that was not measured.
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
    solver: str = ""
    steps: int = 0
    as_run: bool = True
    seconds: float = math.nan
    part: str = ""

    @property
    def name(self) -> str:
        """The family, with the setting where it is another than the run's."""
        return self.family if self.as_run else f"{self.family} ({self.setting})"

    @property
    def setting(self) -> str:
        """Solver and steps in words; empty where not known."""
        steps = f"{self.solver}, {self.steps} step{'s' if self.steps > 1 else ''}" if self.solver else ""
        return f"{steps}, {self.part}" if self.part else steps


@dataclass(frozen=True)
class Line:
    """One family over the steps of one solver.

    Attributes:
        seeds: a {network evaluations: value} per run.
        points: the means, by network evaluations.
    """

    family: str
    solver: str
    seeds: list[dict[float, float]]
    points: list[Cost]


@dataclass(frozen=True)
class Costs:
    """A source's points, the cheapest first, and the lines through those of one family and solver."""

    metric: str
    points: list[Cost]
    lines: list[Line]

    @property
    def front(self) -> list[Cost]:
        """The Pareto front, the cheapest first."""
        return [point for point in self.points if point.front]


def costs(card: pd.DataFrame, source: str, contestants: Iterable[str], by_steps: pd.DataFrame | None = None) -> Costs:
    """Contestants by network evaluations per sample; no points where the source has no headline metric.

    Args:
        card: as `genfam.scorecard.scorecard` gives it.
        source: its name.
        contestants: families.
        by_steps: as `genfam.sampling_costs.of_suite` gives it. A setting is on the front only where all runs that
            entered the scorecard's mean were measured at it.
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
        mine = _settings(by_steps, source, metric, family, int(row["n_ok"]))
        as_run = next((point for point in mine if point.as_run), None)
        mean, low, high = (float(row[name]) for name in ("mean", "ci_low", "ci_high"))
        point = Cost(family, asked[family], mean, low, high)
        if as_run is not None:
            point = replace(point, solver=as_run.solver, steps=as_run.steps, seconds=as_run.seconds)
        points.append(point)
        points += [point for point in mine if not point.as_run]
    points = [point for point in points if point.evaluations > 0]
    points.sort(key=lambda p: (p.evaluations, p.mean, p.name))
    whole = [point for point in points if not point.part]
    points = [replace(point, front=not point.part and not _beaten(point, whole)) for point in points]
    if by_steps is not None and len(by_steps):
        rows = by_steps[(by_steps["source"] == source) & (by_steps["metric"] == metric)]
        rows = rows[rows["family"].isin(list(known))]
        for family, solver in dict.fromkeys(zip(rows["family"], rows["solver"], strict=True)):
            part = rows[(rows["family"] == family) & (rows["solver"] == solver)]
            seeds = [
                dict(sorted(zip(run["network_evaluations"].astype(float), run["value"].astype(float), strict=True)))
                for _, run in part.groupby("seed")
            ]
            through = [point for point in points if (point.family, point.solver) == (family, solver)]
            lines.append(Line(str(family), str(solver), seeds, through))
    return Costs(metric, points, lines)


def _settings(by_steps: pd.DataFrame | None, source: str, metric: str, family: str, runs: int) -> list[Cost]:
    """The settings at which a family was measured; `runs` runs are all of it."""
    if by_steps is None or not len(by_steps):
        return []
    own = by_steps[(by_steps["source"] == source) & (by_steps["family"] == family) & (by_steps["metric"] == metric)]
    found = []
    for solver, steps in sorted(set(zip(own["solver"], own["steps"], strict=True))):
        rows = own[(own["solver"] == solver) & (own["steps"] == steps)]
        values = rows["value"].astype(float).tolist()
        part = "" if len(values) == runs else f"{len(values)} of {runs} runs"
        low, high = (math.nan, math.nan) if part else interval(values)
        found.append(
            Cost(
                family, float(rows["network_evaluations"].mean()), sum(values) / len(values), low, high, False,
                str(solver), int(steps), not part and bool(rows["as_run"].all()),
                float((rows["seconds"] / rows["samples"]).mean()), part,
            )
        )  # fmt: skip
    return found


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
            "setting": point.setting or "as run",
            "as_run": "yes" if point.as_run else "",
            "evaluations": f"{point.evaluations:g}",
            "text": f"{point.mean:.3g}" + ("" if math.isnan(point.high) else f" [{point.low:.3g}, {point.high:.3g}]"),
            "milliseconds": "" if math.isnan(point.seconds) else f"{1e3 * point.seconds:.3g}",
            "front": "yes" if point.front else "",
        }
        for point in found.points
    ]
