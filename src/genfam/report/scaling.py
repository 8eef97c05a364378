"""Quality over training budgets: charts, a picture, and the tables of exponents and of pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from genfam.comparing.scaling import AGAINST, Scaling
from genfam.report.charts import Chart, chart
from genfam.report.interactive import across, dash, family_key, finished, marker, plain
from genfam.report.sections import Part, Section, SectionTable
from genfam.report.style import Look, label, save, slug
from genfam.report.tables import bracketed

TITLES = {"train_flops": "training FLOPs", "train_seconds": "training seconds"}
OPEN = "–"
TEXT = (
    "The same runs at several budgets. Points: means over seeds with their 95 % interval. Lines: the fit value = floor "
    "+ reducible · (compute / largest)^−exponent; where the runs reject it, dotted lines join the points. "
    "All other sections of this page are about the largest budget."
)


def section(
    found: Scaling, card: pd.DataFrame, families: Mapping[str, Look], roles: Mapping[str, str]
) -> Section | None:
    """The page's section; None where nothing was run at several budgets.

    Args:
        found: as `genfam.comparing.scaling.scaling` gives it.
        card: the scorecard, for the yardsticks' lines.
        families: looks by name.
        roles: by name.
    """
    parts = []
    for source in found.points["source"].unique():
        tables = [table for table in (fits_table(found, source), pairs_table(found, source)) if table is not None]
        notes = [] if tables else ["Neither fits nor pairs: the judge has no direction, or too little was measured."]
        charts = [_chart(found, source, against, card, families, roles) for against in AGAINST]
        parts.append(Part(str(source), str(source), charts, tables, notes))
    return Section("scaling", "Scaling", "Quality over training budgets", TEXT, parts) if parts else None


def fits_table(found: Scaling, source: str) -> SectionTable | None:
    """Floor and exponent of every family, against FLOPs; None where nothing was fitted."""
    own = found.fits[(found.fits["source"] == source) & (found.fits["against"] == "train_flops")]
    if not len(own):
        return None
    points = found.points[found.points["source"] == source]
    shares = list(points.sort_values("budget")["share"].unique())
    rows = []
    for row in own.to_dict("records"):
        cells = []
        for share in shares:
            at = points[(points["family"] == row["family"]) & (points["share"] == share)]
            cells.append(_point(dict(at.iloc[0])) if len(at) else OPEN)
        for name in ("exponent", "floor"):
            ends = {"value": row[name], "ci_low": row[f"{name}_low"], "ci_high": row[f"{name}_high"]}
            cells.append(OPEN if row["rejected"] else bracketed(ends))
        cells.append(f"{row['misfit']:.0%}{', rejected' if row['rejected'] else ''}")
        rows.append((str(row["family"]), cells))
    largest = f"{points['budget'].max():.3g}"
    caption = (
        f"{own['metric'].iloc[0]} on {source} by budget (C is {largest} FLOPs), and its fit against FLOPs: a dash "
        "where the runs reject it"
    )
    return SectionTable(caption, "family", [*shares, "exponent", "floor", "misfit"], rows)


def _point(row: dict[str, Any]) -> str:
    """A mean with its interval, and of how many runs where some diverged."""
    said = bracketed(row | {"value": row["mean"]})
    return said if row["n_ok"] == row["n_runs"] else f"{said}, {row['n_ok']} of {row['n_runs']} runs"


def pairs_table(found: Scaling, source: str) -> SectionTable | None:
    """A row per pair of families: who is better at each budget, and where one overtakes; None without any pair."""
    own = found.crossings[found.crossings["source"] == source]
    if not len(own):
        return None
    points = found.points[found.points["source"] == source]
    budgets = points.sort_values("budget").drop_duplicates("share").set_index("share")["budget"]
    places = found.pairs[(found.pairs["source"] == source) & (found.pairs["against"] == AGAINST[0])]
    better: dict[tuple[str, ...], dict[str, str]] = {}
    for row in places.to_dict("records"):
        share = str(np.abs(np.log(budgets / row["compute"])).idxmin())
        better.setdefault((row["a"], row["b"]), {})[share] = row["better"] or OPEN
    said: dict[tuple[str, ...], dict[str, str]] = {}
    for row in own.to_dict("records"):
        pair = tuple(sorted((str(row["leads"]), str(row["behind"]))))
        said.setdefault(pair, {})[str(row["against"])] = crossing_text(row)
    rows = [
        (
            f"{a}, {b}",
            [better.get((a, b), {}).get(share, OPEN) for share in budgets.index]
            + [words.get(against, "not comparable") for against in AGAINST],
        )
        for (a, b), words in said.items()
    ]
    caption = f"{source}: the significantly better of two families at each budget, and where one overtakes the other"
    return SectionTable(caption, "pair", [*budgets.index, *(f"in {TITLES[against]}" for against in AGAINST)], rows)


def crossing_text(row: Mapping[Any, Any]) -> str:
    """Where one family of a pair overtakes the other, as far as the tests say."""
    leads, low, high = row["leads"], float(row["ci_low"]), float(row["ci_high"])
    if row["throughout"]:
        return f"{leads} leads throughout"
    if low > 0.0 and math.isfinite(high):
        return f"{leads} overtakes between {low:.2g} and {high:.2g}"
    if math.isfinite(high):
        return f"{leads} leads from {high:.2g} on"
    return f"{row['last_better']} leads at {row['last_at']:.2g}, then open" if row["last_better"] else "open"


def _chart(
    found: Scaling, source: str, against: str, card: pd.DataFrame, families: Mapping[str, Look],
    roles: Mapping[str, str],
) -> Chart:  # fmt: skip
    points = found.points[(found.points["source"] == source) & (found.points["n_ok"] > 0)]
    metric = str(found.points.loc[found.points["source"] == source, "metric"].iloc[0])
    figure = go.Figure()
    least = float(points["mean"].min()) if len(points) else 0.0
    for family in [family for family in families if family in set(points["family"])]:
        look, own = families[family], points[points["family"] == family].sort_values(against)
        line = _line(found, source, family, against)
        if line is not None:
            x, y, fitted = line
            figure.add_scatter(
                x=x, y=y, mode="lines", hoverinfo="skip",
                line={"color": look.colour, "width": 2, "dash": "solid" if fitted else "dot"},
                legendgroup=family_key(family), showlegend=False,
            )  # fmt: skip
        lows = [max(low, least / 10.0) if least > 0.0 else low for low in own["ci_low"]]
        error = {"array": (own["ci_high"] - own["mean"]).tolist(), "arrayminus": (own["mean"] - lows).tolist()}
        figure.add_scatter(
            x=own[against].tolist(), y=own["mean"].tolist(), mode="markers", marker=marker(look, 9), name=plain(family),
            legendgroup=family_key(family), hoverinfo="text",
            error_y=error | {"symmetric": False, "thickness": 2, "width": 0, "color": look.colour},
            hovertext=[
                f"{plain(family)}: {bracketed(row | {'value': row['mean']})} at {row['share']}, {row['n_ok']} seeds"
                for row in own.to_dict("records")
            ],
        )  # fmt: skip
    reach = [float(points[against].min()), float(points[against].max())] if len(points) else [1.0, 2.0]
    for family, value in _yardsticks(card, source, metric, roles).items():
        across(figure, reach, [value, value], family, families[family].colour, dash(roles[family]))
    figure.update_xaxes(title=TITLES[against], type="log", nticks=5)
    figure.update_yaxes(title=plain(metric), type="log" if least > 0.0 else "linear", nticks=6)
    own = found.crossings[(found.crossings["source"] == source) & (found.crossings["against"] == against)]
    said = "; ".join(f"{row['leads']} and {row['behind']}: {crossing_text(row)}" for row in own.to_dict("records"))
    return chart(
        f"scaling-{slug(source)}-{against}", finished(figure, 400), f"{source}: {metric} over {TITLES[against]}",
        f"{metric} of every family on {source} at several budgets, over {TITLES[against]}. {said}.",
    )  # fmt: skip


def _line(found: Scaling, source: str, family: str, against: str) -> tuple[list[float], list[float], bool] | None:
    """The fitted curve over the budgets that were run, or the means where there is none; and which of the two."""
    fit = found.curves.get((source, family, against))
    if fit is not None and not fit.rejected:
        x = np.geomspace(fit.compute[0], fit.compute[-1], 60)
        return x.tolist(), fit.curve.at(x).tolist(), True
    of_family = (found.points["source"] == source) & (found.points["family"] == family) & (found.points["n_ok"] > 0)
    own = found.points[of_family].sort_values(against)
    return (own[against].tolist(), own["mean"].tolist(), False) if len(own) > 1 else None


def _yardsticks(card: pd.DataFrame, source: str, metric: str, roles: Mapping[str, str]) -> dict[str, float]:
    own = card[(card["source"] == source) & (card["metric"] == metric) & card["mean"].notna()]
    return {
        str(row["family"]): float(row["mean"])
        for row in own.to_dict("records")
        if roles[str(row["family"])] != "contestant"
    }


def scaling_figure(found: Scaling, families: Mapping[str, Look], path: Path, source: str) -> bool:
    """The picture for where the page's charts cannot go; False where the source was run at one budget."""
    points = found.points[(found.points["source"] == source) & (found.points["n_ok"] > 0)]
    if not len(points):
        return False
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    axes: Sequence[Any] = figure.subplots(1, 2, sharey=True)
    positive = bool((points["mean"] > 0.0).all())
    for axis, against in zip(axes, AGAINST, strict=True):
        for family in [family for family in families if family in set(points["family"])]:
            look, own = families[family], points[points["family"] == family].sort_values(against)
            line = _line(found, source, family, against)
            if line is not None:
                axis.plot(*line[:2], "-" if line[2] else ":", color=look.colour, linewidth=1.3)
            axis.plot(own[against], own["mean"], look.marker, color=look.colour, markersize=5, label=label(family, 20))
            low = np.maximum(own["ci_low"], points["mean"].min() / 10.0) if positive else own["ci_low"]
            axis.vlines(own[against], low, own["ci_high"], colors=look.colour, linewidth=1.0)
        axis.set_xscale("log")
        axis.set_yscale("log" if positive else "linear")
        axis.set_xlabel(TITLES[against], fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel(label(str(points["metric"].iloc[0])), fontsize=8)
    axes[1].legend(fontsize=7, frameon=False)
    figure.suptitle(f"{label(source)}: quality over training budgets", fontsize=9)
    save(figure, path)
    return True
