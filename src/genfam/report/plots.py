"""Numbers as figures: learning curves, and the headline of the whole suite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genfam.report.series import curves
from genfam.report.style import TRUTH, Look, label, save
from genfam.report.tables import headline
from genfam.types import Record


def curves_figure(records: Sequence[Record], families: Mapping[str, Look], path: Path, source: str) -> bool:
    """A metric over training FLOPs: every seed faint, the families' means bold. False where no run has a curve."""
    found = curves(records, families)
    if found is None:
        return False
    figure = Figure(figsize=(6.5, 4.0), layout="constrained")
    axis = figure.subplots()
    for family, lines in found.seeds.items():
        look = families[family]
        for points in lines:
            axis.plot(*_line(points), color=look.colour, alpha=0.3, linewidth=0.8)
        name = f"{label(family)} ({len(lines)} seed{'s' if len(lines) > 1 else ''})"
        axis.plot(
            *_line(found.means[family]),
            color=look.colour,
            linewidth=2.0,
            marker=look.marker,
            markersize=3.5,
            label=name,
        )
    for family, value in found.marks.items():
        axis.axhline(value, color=families[family].colour, linewidth=1.0, linestyle="--", label=label(family), zorder=0)
    flops_positive = all(x > 0.0 for lines in found.seeds.values() for points in lines for x in points)
    axis.set_xscale("log" if flops_positive else "linear")
    axis.set_yscale("log" if found.positive else "linear")
    axis.set_xlabel("training FLOPs")
    axis.set_ylabel(label(found.metric))
    axis.set_title(f"{label(source)}: learning curves", fontsize=10)
    axis.grid(alpha=0.25, which="major")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)
    save(figure, path, vector=True)
    return True


def headline_figure(card: pd.DataFrame, frame: pd.DataFrame, families: Mapping[str, Look], path: Path) -> bool:
    """The suite at one glance: a panel per source, its Fréchet distance relative to the oracle's, intervals, seeds.

    Where the oracle is missing or not positive (an unbiased estimate may be below zero) the panel shows the distance
    itself and says so. False where no source has a Fréchet distance.
    """
    panels = [(source, metric) for source in sorted(set(card["source"])) if (metric := headline(card, source))]
    if not panels:
        return False
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.4, 3.1 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (source, metric) in zip(axes, panels, strict=False):
        rows = card[(card["source"] == source) & (card["metric"] == metric)]
        runs = frame[(frame["source"] == source) & (frame["metric"] == metric)]
        runs = runs[(runs["outcome"] == "ok") & (runs["status"] == "ok")]
        _panel(axis, rows.to_dict("records"), runs, families)
        axis.set_title(f"{label(source)}\n{label(metric)}", fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    save(figure, path, vector=True)
    return True


def trial_figure(trial: pd.DataFrame, path: Path) -> bool:
    """Kendall's τ of every metric with the exact divergence, a panel per source, with intervals. False without any."""
    known = trial[trial["tau"].notna()]
    sources = sorted(set(known["source"]))
    if not sources:
        return False
    metrics = list(dict.fromkeys(known.sort_values("tau")["metric"]))
    figure = Figure(figsize=(2.4 * len(sources) + 1.6, 0.28 * len(metrics) + 1.1), layout="constrained")
    axes = figure.subplots(1, len(sources), sharey=True, squeeze=False).ravel()
    for axis, source in zip(axes, sources, strict=True):
        for row in known[known["source"] == source].to_dict("records"):
            y = metrics.index(row["metric"])
            axis.hlines(y, row["ci_low"], row["ci_high"], colors=TRUTH, linewidth=1.5)
            axis.plot([row["tau"]], [y], marker="o", color=TRUTH, markersize=5)
        axis.axvline(0.0, color="#999999", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_xlim(-1.05, 1.05)
        axis.set_title(label(source), fontsize=9)
        axis.set_xlabel("rank correlation\nwith the truth", fontsize=8)
        axis.set_yticks(range(len(metrics)), [label(metric, 24) for metric in metrics], fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(alpha=0.25)
    save(figure, path, vector=True)
    return True


def _panel(axis: Axes, rows: Sequence[Mapping[Any, Any]], runs: pd.DataFrame, families: Mapping[str, Look]) -> None:
    oracles = {float(row["oracle"]) for row in rows if math.isfinite(row["oracle"])}
    oracle = oracles.pop() if len(oracles) == 1 else math.nan
    relative = oracle > 0.0
    scale = oracle if relative else 1.0
    known = {row["family"]: row for row in rows if math.isfinite(row["mean"])}
    shown = [family for family in families if family in known]
    seeds = {family: runs.loc[runs["family"] == family, "value"].to_numpy(dtype=float) / scale for family in shown}
    everything = np.concatenate([np.asarray([1.0] if relative else []), *seeds.values()])
    everything = everything[np.isfinite(everything)]
    log = bool(len(everything)) and bool((everything > 0.0).all())
    # An interval may reach below zero, where a logarithm does not: its bar then runs off the panel's lower edge.
    floor = float(everything.min()) / 3.0 if log else -math.inf
    for x, family in enumerate(shown):
        row, look = known[family], families[family]
        values = seeds[family]
        axis.scatter(np.full(len(values), x + 0.18), values, s=8, color=look.colour, alpha=0.45, linewidths=0)
        mean, low, high = (float(row[name]) / scale for name in ("mean", "ci_low", "ci_high"))
        if math.isfinite(low):
            axis.vlines(x, max(low, floor / 10.0), high, colors=look.colour, linewidth=2.0)
        axis.plot([x], [mean], marker="D" if look.marker == "_" else look.marker, color=look.colour, markersize=6)
    if log:
        axis.set_yscale("log")
        highs = [float(known[family]["ci_high"]) / scale for family in shown]
        top = max([float(everything.max()), *(high for high in highs if math.isfinite(high))])
        axis.set_ylim(floor, top * 1.6)
    if relative:
        axis.axhline(1.0, color="#999999", linewidth=0.8, linestyle="--", zorder=0)
    axis.set_ylabel("distance / oracle's" if relative else "distance (no positive oracle)", fontsize=8)
    axis.set_xticks(range(len(shown)), [label(family, 18) for family in shown], rotation=30, ha="right", fontsize=8)
    axis.set_xlim(-0.6, max(0, len(shown) - 1) + 0.6)
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", alpha=0.25)


def _line(points: Mapping[float, float]) -> tuple[list[float], list[float]]:
    x = sorted(points)
    return x, [points[value] for value in x]
