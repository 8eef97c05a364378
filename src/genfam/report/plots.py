"""Numbers as pictures, where the page's charts cannot go: a suite's headline, and mode masses over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genfam.report.series import diagnosed, first_traced
from genfam.report.style import Look, label, save
from genfam.report.tables import headline
from genfam.types import Record


def headline_figure(card: pd.DataFrame, frame: pd.DataFrame, families: Mapping[str, Look], path: Path) -> bool:
    """Save `headline_picture`; False where there is none."""
    figure = headline_picture(card, frame, families)
    if figure is not None:
        save(figure, path)
    return figure is not None


def headline_picture(card: pd.DataFrame, frame: pd.DataFrame, families: Mapping[str, Look]) -> Figure | None:
    """The suite at one glance: a panel per source, its judge relative to the oracle's value, intervals, seeds.

    Intervals are Fieller's, of the ratio: they hold the oracle's scatter too. Where the oracle is missing or not
    positive (an unbiased estimate may be below zero) the panel shows the number itself and says so. None where no
    source has either.
    """
    panels = [(source, metric) for source in sorted(set(card["source"])) if (metric := headline(card, source))]
    if not panels:
        return None
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
    return figure


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
    names = ("times_low", "times_high") if relative else ("ci_low", "ci_high")
    bounds = {family: tuple(float(known[family][name]) for name in names) for family in shown}
    # An interval may reach below zero, where a logarithm does not, and a ratio's may have no end: such bars run off.
    ends = [*everything, *(end for low, high in bounds.values() for end in (low, high) if math.isfinite(end))]
    bottom, top = (min(ends), max(ends)) if ends else (0.0, 1.0)
    bottom, top = (float(everything.min()) / 3.0, top * 1.6) if log else (bottom, top)
    for x, family in enumerate(shown):
        row, look = known[family], families[family]
        values = seeds[family]
        axis.scatter(np.full(len(values), x + 0.18), values, s=8, color=look.colour, alpha=0.45, linewidths=0)
        low, high = bounds[family]
        if not math.isnan(low):
            axis.vlines(
                x, max(low, bottom / 10.0 if log else bottom), min(high, top), colors=look.colour, linewidth=2.0
            )
        mean = float(row["mean"]) / scale
        axis.plot([x], [mean], marker="D" if look.marker == "_" else look.marker, color=look.colour, markersize=6)
    if log:
        axis.set_yscale("log")
        axis.set_ylim(bottom, top)
    if relative:
        axis.axhline(1.0, color="#999999", linewidth=0.8, linestyle="--", zorder=0)
    axis.set_ylabel("relative to the oracle" if relative else "as measured (no positive oracle)", fontsize=8)
    axis.set_xticks(range(len(shown)), [label(family, 18) for family in shown], rotation=30, ha="right", fontsize=8)
    axis.set_xlim(-0.6, max(0, len(shown) - 1) + 0.6)
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", alpha=0.25)


def cycles_figure(records: Sequence[Record], families: Mapping[str, Look], path: Path, source: str) -> bool:
    """Samples per mode over training, a panel per family (its lowest seed), with the failures found by name.

    False where no run was traced with countable modes.
    """
    shown = first_traced(records, families)
    if not shown:
        return False
    figure = Figure(figsize=(2.7 * len(shown) + 0.5, 3.0), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False).ravel()
    for axis, record in zip(axes, shown, strict=True):
        assert record.trace is not None
        counts = np.asarray([point.mode_counts for point in record.trace.points], dtype=float).T
        end = record.trace.points[-1].updates
        axis.imshow(
            counts / record.trace.samples, aspect="auto", origin="lower", cmap="Greys", interpolation="nearest",
            vmin=0.0, vmax=min(1.0, 3.0 / len(counts)), extent=(0.0, float(end), -0.5, len(counts) - 0.5),
        )  # fmt: skip
        axis.set_title(f"{label(record.family)}\n{label(diagnosed(record))}", fontsize=8)
        axis.set_xlabel("updates", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel(f"{label(source)}: mode", fontsize=8)
    save(figure, path)
    return True
