"""Quality over sampling cost from the same numbers twice: for the page (Plotly), and as a picture (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go
from matplotlib.figure import Figure

from genfam.report.costs import Cost, Costs
from genfam.report.interactive import FAINT, across, dash, family_key, finished, line, marker, plain
from genfam.report.style import TRUTH, Look, label, save

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


def costs_figure(
    found: Costs, families: Mapping[str, Look], yardsticks: Mapping[str, float], path: Path, source: str
) -> bool:
    """As `cost_chart`, as a picture. False where nothing was measured at other solver steps than the run's."""
    if not found.lines or not found.points:
        return False
    figure = Figure(figsize=(6.5, 4.0), layout="constrained")
    axis = figure.subplots()
    low, reach, log = _scale(found, yardsticks)
    for own in found.lines:
        colour = families[own.family].colour
        for points in own.seeds:
            axis.plot(*line(points), color=colour, alpha=0.3, linewidth=0.8, marker=".", markersize=3)
        x, y = [p.evaluations for p in own.points], [p.mean for p in own.points]
        part = next((f" ({p.part})" for p in own.points if p.part), "")
        name = f"{label(own.family)}, steps of {label(own.solver)}{part}"
        axis.plot(x, y, color=colour, linewidth=1.0 if part else 2.0, label=name)
    for point in found.points:
        look = families[point.family]
        if math.isfinite(point.high):
            axis.vlines(point.evaluations, max(point.low, low) if log else point.low, point.high, colors=look.colour)
        axis.plot(
            [point.evaluations], [point.mean], color=look.colour, marker=look.marker, linestyle="none",
            markersize=8 if point.as_run else 4, label=f"{label(point.family)}, as run" if point.as_run else None,
            markerfacecolor="none" if point.part else look.colour,
        )  # fmt: skip
    axis.plot(
        [p.evaluations for p in found.front], [p.mean for p in found.front], color=TRUTH, linestyle=":", linewidth=1.5,
        label="Pareto front",
    )  # fmt: skip
    for family, value in yardsticks.items():
        axis.axhline(value, color=families[family].colour, linewidth=1.0, linestyle="--", label=label(family), zorder=0)
    axis.set_xscale("log")
    axis.set_yscale("log" if log else "linear")
    axis.set_xlim(*reach)
    axis.set_xlabel(X_TITLE)
    axis.set_ylabel(label(found.metric))
    axis.set_title(f"{label(source)}: quality over sampling cost", fontsize=10)
    axis.grid(alpha=0.25, which="major")
    axis.legend(fontsize=7, frameon=False)
    save(figure, path, vector=True)
    return True


def _scale(found: Costs, yardsticks: Mapping[str, float]) -> tuple[float, list[float], bool]:
    """Where intervals are cut off below, the ends of the horizontal axis, whether the vertical one is a logarithm."""
    seeds = [(x, y) for own in found.lines for points in own.seeds for x, y in points.items()]
    values = [p.mean for p in found.points] + [y for _, y in seeds] + list(yardsticks.values())
    x = [p.evaluations for p in found.points] + [x for x, _ in seeds]
    # a single point has no range of its own; a factor of two leaves room for markers on the edge
    return min(values) / 3.0, [min(x) / 2.0, max(x) * 2.0], min(values) > 0


def _said(point: Cost) -> str:
    text = f"{plain(point.family)}: {point.mean:.3g} with {point.evaluations:g} network evaluations"
    notes = [plain(point.setting)] if point.setting else []
    notes += ["on the front"] if point.front else []
    return text + (f" ({'; '.join(notes)})" if notes else "")
