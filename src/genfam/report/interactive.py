"""The charts of the page, as Plotly figures: the same numbers as the pictures, to be hovered over.

Names come from configurations and Plotly reads a subset of HTML, so every name passes through `plain`. Colours that
must turn with the page's theme (`THEMED`) are replaced in the browser.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from genfam.comparing.statistics import performance_profile
from genfam.report.pictures import MOST_BARS, Drawn, plane_limits
from genfam.report.series import Curves, mass_ratios
from genfam.report.style import TRUTH, Look
from genfam.report.tables import clean
from genfam.types import Record

# Dark colours that would not show on a dark page: there the browser draws the second one of each pair.
THEMED = {TRUTH: "#E4E4E4", "#000000": "#FFFFFF", "#555555": "#C4C4C4"}
SYMBOLS = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross",
           "X": "x", "*": "star", "_": "line-ew-open"}  # fmt: skip
BINS = 72  # of a density plot, each way
FAINT = 0.35
MOST_LINES = 25  # of a family's runs, by seed: more cannot be told apart


def plain(name: str, most: int = 30) -> str:
    """A name as Plotly shows it literally, cut to `most` characters."""
    text = clean(name)
    text = html.escape(text if len(text) <= most else text[: most - 1] + "…", quote=False)
    return text.replace("%{", "%&#123;")  # or a hover template would read it


def headline_chart(
    rows: Sequence[Mapping[Any, Any]], runs: pd.DataFrame, families: Mapping[str, Look], roles: Mapping[str, str]
) -> go.Figure:
    """One source's headline metric: a line per contestant and guest with mean, interval, seeds; yardsticks across all.

    Args:
        rows: of the scorecard, one per family.
        runs: measurements of the metric that entered its means.
        families: looks by name, in drawing order.
        roles: by name.
    """
    known = {row["family"]: row for row in rows if math.isfinite(row["mean"])}
    shown = [family for family in families if family in known and roles[family] in ("contestant", "guest")]
    marks = {family: float(known[family]["mean"]) for family in families if family in known and family not in shown}
    values = {family: runs.loc[runs["family"] == family, "value"].to_numpy(dtype=float) for family in shown}
    everything = np.concatenate([np.asarray(list(marks.values())), *values.values()])
    log = bool(len(everything)) and bool((everything > 0.0).all())
    reach = [float(value) for value in everything]
    figure = go.Figure()
    for y, family in enumerate(shown):
        row, look = known[family], families[family]
        mean, low, high = (float(row[name]) for name in ("mean", "ci_low", "ci_high"))
        if log and math.isfinite(low):  # an interval may reach below zero, where a logarithm does not
            low = max(low, float(everything.min()) / 10.0)
        reach += [end for end in (low, high) if math.isfinite(end)]
        error = {"array": [high - mean], "arrayminus": [mean - low], "symmetric": False, "thickness": 2.5, "width": 0}
        figure.add_scatter(
            x=values[family].tolist(), y=[y + 0.25] * len(values[family]), mode="markers", opacity=0.5,
            marker={"color": look.colour, "size": 5}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=[mean], y=[y], mode="markers", marker=marker(look, 10), hoverinfo="text", showlegend=False,
            error_x=None if math.isnan(low) else error | {"color": look.colour},
            hovertext=f"{plain(family)}: {_interval(row)}, {row['n_ok']} seeds",
        )  # fmt: skip
    for family, value in marks.items():
        ends = [-0.8, len(shown) - 0.4]
        across(figure, [value, value], ends, family, families[family].colour, dash(roles[family]))
    # Over more than a decade powers of ten alone are labelled: on a phone the digits between would overlap.
    wide = log and float(everything.max()) > 12.0 * float(everything.min())
    figure.update_xaxes(
        type="log" if log else "linear", nticks=6, dtick=1 if wide else None, range=_room(reach, log=log)
    )
    figure.update_yaxes(
        tickvals=list(range(len(shown))), showgrid=False, range=[len(shown) - 0.4, -0.8],
        ticktext=[plain(family, 18) + (" (guest)" if roles[family] == "guest" else "") for family in shown],
    )  # fmt: skip
    return finished(figure, 140 + 32 * len(shown))


def compute_chart(found: Curves, families: Mapping[str, Look], roles: Mapping[str, str]) -> go.Figure:
    """Quality over training FLOPs: every seed faint, the means bold; what trains nothing is a line across."""
    figure = go.Figure()
    values = [(x, y) for lines in found.seeds.values() for points in lines for x, y in points.items()]
    reach = [min((x for x, _ in values), default=1.0), max((x for x, _ in values), default=1.0)]
    for family, value in found.marks.items():
        name = f"{family}, as few samples"  # not the scorecard's number
        across(figure, reach, [value, value], name, families[family].colour, dash(roles[family]))
    for family, lines in found.seeds.items():
        look = families[family]
        for points in lines[:MOST_LINES]:
            x, y = line(points)
            figure.add_scatter(
                x=x, y=y, mode="lines" if len(x) > 1 else "markers", line={"color": look.colour, "width": 1},
                opacity=FAINT, hoverinfo="skip", showlegend=False, legendgroup=family_key(family),
                marker={"color": look.colour},
            )  # fmt: skip
        x, y = line(found.means[family])
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", line={"color": look.colour, "width": 3}, marker=marker(look, 7),
            name=plain(family), legendgroup=family_key(family), hoverinfo="text",
            hovertext=[f"{plain(family)}: {b:.3g} after {a:.3g} FLOPs, mean of {len(lines)} seeds"
                       for a, b in zip(x, y, strict=True)],
        )  # fmt: skip
    figure.update_xaxes(title="training FLOPs", type="log" if all(x > 0 for x, _ in values) else "linear", nticks=5)
    figure.update_yaxes(title=plain(found.metric), type="log" if found.positive else "linear", nticks=6)
    return finished(figure, 380)


def modes_chart(
    shares: Mapping[str, NDArray[np.float64]], masses: NDArray[np.float64], truth: str, families: Mapping[str, Look],
    names: Sequence[str],
) -> go.Figure:  # fmt: skip
    """Mass per mode against the truth: bars for up to `MOST_BARS` modes, the sorted ratio for more."""
    figure = go.Figure()
    if len(masses) <= MOST_BARS:
        modes = list(range(len(masses)))
        for family, share in shares.items():
            figure.add_bar(x=modes, y=share.tolist(), name=plain(family), marker={"color": families[family].colour})
        figure.add_scatter(
            x=modes, y=masses.tolist(), mode="markers", name=truth,
            marker={"symbol": "line-ew-open", "size": 16, "color": TRUTH, "line": {"width": 2.5, "color": TRUTH}},
        )  # fmt: skip
        shown = modes if len(modes) <= 12 else modes[::5]
        figure.update_xaxes(title="mode", tickvals=shown, ticktext=[plain(names[mode]) for mode in shown])
        figure.update_yaxes(title="share of samples", rangemode="tozero")
        return finished(figure, 360)
    for family, share in shares.items():
        ratio = mass_ratios(share, masses)
        missed = int((ratio == 0.0).sum())
        figure.add_scatter(
            x=list(range(len(ratio))), y=ratio.round(4).tolist(), mode="lines",
            line={"color": families[family].colour, "shape": "hvh"},
            name=plain(family) + (f" ({missed} missed)" if missed else ""),
        )  # fmt: skip
    across(figure, [0, len(masses)], [1.0, 1.0], truth, TRUTH, "dash")
    figure.update_xaxes(title="modes, most oversampled first")
    figure.update_yaxes(title="share / true mass", range=[0, 8], rangemode="tozero")
    return finished(figure, 360)


def density_chart(points: NDArray[np.generic], drawn: Drawn, colour: str) -> tuple[go.Figure, float]:
    """Points in the plane as counts per cell, the modes as rings, and the share of points off the picture.

    Args:
        points: (N, 2); those of a family, or of the data.
        drawn: what gives the limits and the modes.
        colour: of the fullest cell.
    """
    x = points.astype(np.float64)
    low, high = plane_limits(drawn.reference.astype(np.float64))
    inside = ((x >= low) & (x <= high)).all(axis=1)
    limits = [[float(low[axis]), float(high[axis])] for axis in range(2)]
    counts, across, up = np.histogram2d(x[inside, 0], x[inside, 1], bins=BINS, range=limits)
    figure = go.Figure()
    # The square root keeps thin bridges between modes visible beside full modes.
    figure.add_heatmap(
        x=((across[1:] + across[:-1]) / 2).round(4).tolist(), y=((up[1:] + up[:-1]) / 2).round(4).tolist(),
        z=np.sqrt(counts.T).round(2).tolist(), hoverinfo="skip", showscale=False,
        colorscale=[[0, _faded(colour, 0.0)], [0.02, _faded(colour, 0.25)], [1, _faded(colour, 1.0)]],
    )  # fmt: skip
    if drawn.mode_centres is not None:
        figure.add_scatter(
            x=drawn.mode_centres[:, 0].tolist(), y=drawn.mode_centres[:, 1].tolist(), mode="markers", hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 12, "color": TRUTH, "line": {"width": 1}},
        )  # fmt: skip
    figure.update_xaxes(range=limits[0], nticks=4, zeroline=False, showgrid=False)
    figure.update_yaxes(range=limits[1], nticks=4, zeroline=False, showgrid=False)
    return finished(figure, 250, legend=False), 1.0 - float(inside.mean()) if len(x) else 0.0


def trajectory_chart(record: Record) -> go.Figure:
    """Samples per mode over training, one run: what moves from mode to mode shows as broken lines."""
    assert record.trace is not None
    points = [point for point in record.trace.points if point.mode_counts]
    shares = np.asarray([point.mode_counts for point in points], dtype=float).T / record.trace.samples
    figure = go.Figure()
    figure.add_heatmap(
        x=[point.updates for point in points], y=list(range(len(shares))), z=shares.round(3).tolist(),
        zmin=0.0, zmax=min(1.0, 3.0 / len(shares)), showscale=False, hoverongaps=False,
        hovertemplate="update %{x}, mode %{y}: %{z:.0%} of the samples<extra></extra>",
        colorscale=[[0, "rgba(128,128,128,0)"], [1, "rgba(40,120,190,1)"]],
    )  # fmt: skip
    figure.update_xaxes(title="updates", nticks=4, showgrid=False)
    figure.update_yaxes(title="mode", nticks=5, showgrid=False)
    return finished(figure, 250, legend=False)


def reach_chart(records: Sequence[Record], families: Mapping[str, Look]) -> go.Figure:
    """Modes reached, relative to as many fresh real events, over training: a line per run."""
    figure = go.Figure()
    for family, look in families.items():
        own = [r for r in records if r.family == family and r.trace is not None and r.trace.points]
        for place, record in enumerate(sorted(own, key=lambda r: r.seed)[:MOST_LINES]):
            assert record.trace is not None
            points = record.trace.points
            figure.add_scatter(
                x=[round(point.updates / max(1, points[-1].updates), 4) for point in points],
                y=[round(point.modes / max(1e-12, record.trace.oracle_modes), 4) for point in points],
                mode="lines", line={"color": look.colour, "width": 1.5}, opacity=0.6, name=plain(family),
                legendgroup=family_key(family), showlegend=place == 0,
                hovertemplate=f"seed {record.seed}: %{{y:.0%}} after %{{x:.0%}} of training<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(title="share of training done", tickformat=".0%", nticks=5)
    figure.update_yaxes(title="modes reached / as real data", tickformat=".0%", rangemode="tozero", nticks=5)
    return finished(figure, 340)


def trial_chart(rows: Sequence[Mapping[Any, Any]]) -> go.Figure:
    """Rank correlation of every metric on trial with the exact divergence; `rows` with the most truthful first."""
    figure = go.Figure()
    figure.add_scatter(
        x=[row["tau"] for row in rows], y=list(range(len(rows))), mode="markers", hoverinfo="text",
        marker={"color": TRUTH, "size": 9}, hovertext=[f"{plain(row['metric'])}: {row['tau']:.2f}" for row in rows],
        error_x={
            "array": [row["ci_high"] - row["tau"] for row in rows], "symmetric": False, "color": TRUTH,
            "arrayminus": [row["tau"] - row["ci_low"] for row in rows],
        },
    )  # fmt: skip
    figure.update_xaxes(title="rank correlation with the truth", range=[-1.05, 1.05], zeroline=True, dtick=0.5)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[plain(str(row["metric"]), 22) for row in rows],
        range=[len(rows) - 0.5, -0.5],
    )  # fmt: skip
    return finished(figure, 90 + 26 * len(rows), legend=False)


def profile_chart(skills: Mapping[str, Mapping[str, Sequence[float]]], families: Mapping[str, Look]) -> go.Figure:
    """Share of runs above each skill, sources with equal weight (see `stability_plots.profile_figure`)."""
    thresholds = np.linspace(-0.2, 1.1, 131)
    figure = go.Figure()
    for family in [family for family in families if family in skills]:
        values = performance_profile(list(skills[family].values()), thresholds.tolist())
        figure.add_scatter(
            x=thresholds.round(3).tolist(), y=values, mode="lines", name=plain(family),
            line={"color": families[family].colour, "width": 2.5, "shape": "hv"},
            hovertemplate=f"{plain(family)}: %{{y:.0%}} of runs above skill %{{x:.2f}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="skill (0 as the fitted Gaussian, 1 as the oracle)", nticks=7)
    figure.update_yaxes(title="share of runs above", tickformat=".0%", range=[-0.02, 1.02])
    return finished(figure, 360)


def learning_rates_chart(
    values: Mapping[str, Mapping[float, Sequence[float]]], families: Mapping[str, Look]
) -> go.Figure:
    """Skill at the end over the factor on the learning rate: every run faint, the means bold."""
    figure = go.Figure()
    for family in [family for family in families if family in values]:
        look, own = families[family], values[family]
        factors = sorted(own)
        figure.add_scatter(
            x=[factor for factor in factors for _ in own[factor]], y=[v for factor in factors for v in own[factor]],
            mode="markers", marker={"color": look.colour, "size": 5}, opacity=0.5, hoverinfo="skip",
            legendgroup=family_key(family), showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=factors, y=[float(np.mean(own[factor])) for factor in factors], mode="lines+markers",
            line={"color": look.colour, "width": 2.5}, marker=marker(look, 8), name=plain(family),
            legendgroup=family_key(family),
            hovertemplate=f"{plain(family)}: skill %{{y:.2f}} at ×%{{x}}<extra></extra>",
        )  # fmt: skip
    factors = sorted({factor for own in values.values() for factor in own})
    ticks = [f"×{factor:g}" for factor in factors]
    figure.update_xaxes(title="learning rate, against the tuned", type="log", tickvals=factors, ticktext=ticks)
    figure.update_yaxes(title="skill at the end (cut off at −1)")
    return finished(figure, 360)


def family_key(family: str) -> str:
    """A legend group: what is shown and hidden together."""
    return plain(family, 300)


def marker(look: Look, size: int) -> dict[str, Any]:
    """A family's marker, as Plotly takes it."""
    return {"color": look.colour, "size": size, "symbol": SYMBOLS.get(look.marker, "circle")}


def across(figure: go.Figure, x: list[float], y: list[float], name: str, colour: str, dash: str) -> None:
    """A yardstick's line over the whole chart, named in the legend."""
    line = {"color": colour, "width": 1.5, "dash": dash}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name=plain(name), hoverinfo="name")


def dash(role: str) -> str:
    """As in the scorecard's bars: the oracle's line is full, the floor's dashed."""
    return "solid" if role == "oracle" else "dash"


def _room(values: Sequence[float], *, log: bool) -> list[float] | None:
    """An axis' ends with a margin around the values: a line at the very end would lie on the frame, unseen."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    low, high = (math.log10(end) if log else end for end in (min(known), max(known)))
    margin = 0.05 * (high - low) or 0.5
    return [low - margin, high + margin]


def _faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _interval(row: Mapping[Any, Any]) -> str:
    low, high = float(row["ci_low"]), float(row["ci_high"])
    return f"{row['mean']:.3g}" + ("" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]")


def line(points: Mapping[float, float]) -> tuple[list[float], list[float]]:
    """Coordinates, from left to right."""
    x = sorted(points)
    return x, [points[value] for value in x]


def finished(figure: go.Figure, height: int, *, legend: bool = True) -> go.Figure:
    """The layout that all charts share."""
    figure.update_layout(
        template={}, height=height, showlegend=legend, margin={"l": 56, "r": 16, "t": 12, "b": 48},
        legend={"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0}, hovermode="closest", bargap=0.15,
    )  # fmt: skip
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(automargin=True, exponentformat="power")
    return figure
