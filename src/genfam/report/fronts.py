"""Quality against diversity: what sharpening after training buys, and what it costs, as a chart of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from genfam.report.interactive import family_key, finished, marker, plain
from genfam.report.style import Look

QUALITY, DIVERSITY = "precision", "recall"
ALSO = ("coverage", "within_class_variance")  # said where a point is looked at
SHARPENING = ("guidance", "temperature")  # knobs that trade one for the other; solver steps do not


@dataclass(frozen=True)
class FrontPoint:
    """A family at one setting of its knobs: means over the runs that were measured at it.

    Attributes:
        setting: the knobs that sharpen, as they were.
        runs: how many.
        values: by metric.
        plain: whether nothing is sharpened.
    """

    family: str
    setting: str
    order: tuple[float, ...]
    runs: int
    values: Mapping[str, float]
    plain: bool


def fronts(by_knobs: pd.DataFrame, source: str, families: Sequence[str]) -> list[FrontPoint]:
    """Points by family and from plain samples on; empty where no family was measured at two settings that sharpen.

    Args:
        by_knobs: as `genfam.records.sampling_costs.of_suite` gives it.
        source: a task's name.
        families: in drawing order.
    """
    if not len(by_knobs):
        return []
    found: list[FrontPoint] = []
    own = by_knobs[by_knobs["source"] == source]
    for family in families:
        points = []
        for text, rows in own[own["family"] == family].groupby("knobs"):
            knobs = json.loads(str(text))
            sharp = {key: float(knobs[key]) for key in SHARPENING if key in knobs}
            values = {str(name): float(each["value"].mean()) for name, each in rows.groupby("metric")}
            if QUALITY not in values or DIVERSITY not in values or not sharp:
                continue
            said = ", ".join(f"{key} {value:g}" for key, value in sharp.items())
            is_plain = all(value == 1.0 for value in sharp.values())
            points.append(FrontPoint(family, said, tuple(sharp.values()), rows["run_id"].nunique(), values, is_plain))
        if len({point.order for point in points}) > 1:
            found += sorted(points, key=lambda point: point.order)
    return found


def front_chart(points: Sequence[FrontPoint], families: Mapping[str, Look]) -> go.Figure:
    """Precision over recall, a line per family; the filled marker is of plain samples."""
    figure = go.Figure()
    for family in dict.fromkeys(point.family for point in points):
        own, look = [point for point in points if point.family == family], families[family]
        symbol = marker(look, 9)
        shapes = [str(symbol["symbol"]) + ("" if point.plain else "-open") for point in own]
        figure.add_scatter(
            x=[point.values[DIVERSITY] for point in own], y=[point.values[QUALITY] for point in own],
            mode="lines+markers", line={"color": look.colour, "width": 1.5}, marker=symbol | {"symbol": shapes},
            name=plain(family), legendgroup=family_key(family), hoverinfo="text",
            hovertext=[_said(point) for point in own],
        )  # fmt: skip
    figure.update_xaxes(title="recall (diversity)")
    figure.update_yaxes(title="precision (quality)")
    return finished(figure, 380)


def rows_of(points: Sequence[FrontPoint]) -> list[dict[str, Any]]:
    """The points as text, for a table: what a chart says to those who do not see it."""
    return [
        {"family": point.family, "setting": point.setting, "runs": str(point.runs)}
        | {name: f"{point.values[name]:.3g}" if name in point.values else "" for name in (QUALITY, DIVERSITY, *ALSO)}
        for point in points
    ]


def _said(point: FrontPoint) -> str:
    more = [f"{plain(name)} {point.values[name]:.3g}" for name in (QUALITY, DIVERSITY, *ALSO) if name in point.values]
    return f"{plain(point.family)}, {plain(point.setting)}: {', '.join(more)}"
