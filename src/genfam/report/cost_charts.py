"""Quality over sampling cost, as a chart of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go

from genfam.report.costs import Cost, Costs
from genfam.report.interactive import FAINT, across, dash, family_key, finished, line, marker, plain
from genfam.report.style import TRUTH, Look

X_TITLE = "network evaluations per sample"


def cost_chart(
    found: Costs, families: Mapping[str, Look], yardsticks: Mapping[str, float], roles: Mapping[str, str]
) -> go.Figure:
    """A point per family as it was run; a line over solver steps, every seed faint; the Pareto front dotted.

    Where not all runs were measured at a setting, its marker is hollow, and a line through such is thin.

    Args:
        found: with one point or more.
        families: looks by name.
        yardsticks: family -> its mean, drawn across.
        roles: by name.
    """
    figure = go.Figure()
    low, reach, log = _scale(found, yardsticks)
    figure.add_scatter(
        x=[p.evaluations for p in found.front], y=[p.mean for p in found.front], mode="lines", hoverinfo="skip",
        line={"color": TRUTH, "width": 1.5, "dash": "dot"}, name="Pareto front",
    )  # fmt: skip
    for own in found.lines:
        look = families[own.family]
        for points in own.seeds:
            x, y = line(points)
            figure.add_scatter(
                x=x, y=y, mode="lines+markers", line={"color": look.colour, "width": 1}, opacity=FAINT,
                marker={"color": look.colour, "size": 4}, hoverinfo="skip", showlegend=False,
                legendgroup=family_key(own.family),
            )  # fmt: skip
        figure.add_scatter(
            x=[p.evaluations for p in own.points], y=[p.mean for p in own.points], mode="lines", hoverinfo="skip",
            line={"color": look.colour, "width": 1.5 if any(p.part for p in own.points) else 3}, showlegend=False,
            legendgroup=family_key(own.family),
        )  # fmt: skip
    for point in found.points:
        look = families[point.family]
        bottom = max(point.low, low) if log else point.low
        error = {"array": [point.high - point.mean], "arrayminus": [point.mean - bottom], "symmetric": False}
        shape = marker(look, 12 if point.as_run else 7)
        shape["symbol"] += "-open" if point.part else ""
        figure.add_scatter(
            x=[point.evaluations], y=[point.mean], mode="markers", marker=shape,
            name=plain(point.family), legendgroup=family_key(point.family), showlegend=point.as_run,
            error_y=None if math.isnan(point.high) else error | {"color": look.colour, "thickness": 2, "width": 0},
            hoverinfo="text", hovertext=_said(point),
        )  # fmt: skip
    for family, value in yardsticks.items():
        across(figure, reach, [value, value], family, families[family].colour, dash(roles[family]))
    figure.update_xaxes(title=X_TITLE, type="log", dtick=1, range=[math.log10(end) for end in reach])
    values = [p.mean for p in found.points] + list(yardsticks.values())
    wide = log and max(values) > 12.0 * min(values)  # as in the headline's chart: powers of ten alone are labelled
    title = f"{plain(found.metric)} (lower is better)"
    figure.update_yaxes(title=title, type="log" if log else "linear", nticks=6, dtick=1 if wide else None)
    return finished(figure, 380)


def _scale(found: Costs, yardsticks: Mapping[str, float]) -> tuple[float, list[float], bool]:
    """Where intervals are cut off below, the ends of the horizontal axis, whether the vertical one is a logarithm."""
    seeds = [(x, y) for own in found.lines for points in own.seeds for x, y in points.items()]
    values = [p.mean for p in found.points] + [y for _, y in seeds] + list(yardsticks.values())
    x = [p.evaluations for p in found.points] + [x for x, _ in seeds]
    # a single point has no range of its own; a factor of two leaves room for markers on the edge
    return min(values) / 3.0, [min(x) / 2.0, max(x) * 2.0], min(values) > 0


def _said(point: Cost) -> str:
    text = f"{plain(point.family)}: {point.mean:.3g} with {point.evaluations:g} network evaluations"
    notes = [plain(point.said)] if point.said else []
    notes += ["on the front"] if point.front else []
    return text + (f" ({'; '.join(notes)})" if notes else "")
