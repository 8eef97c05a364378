"""Stability as figures: performance profiles, learning rates, and mode masses over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from genfam.records import learning_rate_factor
from genfam.report.series import by_learning_rate, diagnosed, first_traced
from genfam.report.style import Look, label, save
from genfam.statistics import performance_profile
from genfam.types import Record


def profile_figure(
    skills: Mapping[str, Mapping[str, Sequence[float]]], families: Mapping[str, Look], path: Path
) -> bool:
    """Share of runs whose skill is above τ, sources with equal weight (Agarwal et al. 2021, section 4.2).

    Only families that were run on every source. False where no source has both yardsticks.
    """
    sources = {source for own in skills.values() for source in own}
    shown = {family: own for family, own in skills.items() if own.keys() == sources}
    if not shown:
        return False
    thresholds = np.linspace(-0.2, 1.1, 261)
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axis = figure.subplots()
    for family, look in families.items():
        if family in shown:
            values = performance_profile(list(shown[family].values()), thresholds.tolist())
            axis.step(thresholds, values, where="post", color=look.colour, linewidth=1.8, label=label(family))
    axis.axvline(0.0, color="#999999", linewidth=0.8, linestyle="--", zorder=0)
    axis.set_xlabel("skill τ (0 as the fitted Gaussian, 1 as the oracle)")
    axis.set_ylabel("share of runs above τ")
    axis.set_ylim(-0.02, 1.02)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, frameon=False)
    save(figure, path, vector=True)
    return True


def learning_rates_figure(records: Sequence[Record], families: Mapping[str, Look], path: Path) -> bool:
    """Skill at the end over the learning rate's factor, a panel per source. False where all runs have one factor."""
    if len({learning_rate_factor(record) for record in records}) < 2:
        return False
    found = by_learning_rate(records)
    if not found:
        return False
    figure = Figure(figsize=(3.0 * len(found) + 0.6, 3.0), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False).ravel()
    for axis, (source, own) in zip(axes, found.items(), strict=True):
        for family in [family for family in families if family in own]:
            look, values = families[family], own[family]
            x = sorted(values)
            for factor in x:
                axis.scatter([factor] * len(values[factor]), values[factor], s=9, color=look.colour, alpha=0.45)
            mean = [float(np.mean(values[factor])) for factor in x]
            axis.plot(x, mean, color=look.colour, marker=look.marker, markersize=4, label=label(family))
        axis.axhline(0.0, color="#999999", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_xscale("log", base=2)
        factors = sorted({factor for values in own.values() for factor in values})
        axis.set_xticks(factors, [f"×{factor:g}" for factor in factors])
        axis.set_title(label(source), fontsize=9)
        axis.set_xlabel("learning rate, against the tuned", fontsize=8)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("skill at the end (cut off at −1)", fontsize=8)
    axes[-1].legend(fontsize=7, frameon=False)
    save(figure, path, vector=True)
    return True


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
