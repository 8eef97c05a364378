"""Draw the trials of metrics: rulers on images with planted failures, and every metric against the truth.

    .venv/bin/python benchmarks/trial_figures.py

Reads results/rulers/*.csv (`benchmarks/graded_failures.py`) and results/metrics/metric_trial.csv (`make benchmark
SUITE=metrics`), and writes a picture beside each.
"""

from __future__ import annotations

import sys
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from pages import ROOT

from genfam.comparing.metric_trial import SEEN, by_source, planted_verdicts
from genfam.report.style import save

RULERS = ROOT / "results" / "rulers"
TRIAL = ROOT / "results" / "metrics" / "metric_trial.csv"
MOST = 1000.0  # standard deviations, where colours end


def draw_rulers(table: pd.DataFrame) -> Figure:
    """A row per ruler, best first; per failure three columns, its grades.

    Args:
        table: columns `source`, `ruler`, `failure`, `grade` and `worse`.
    """
    order = planted_verdicts(table).index
    failures, grades = list(table["failure"].unique()), sorted(table["grade"].unique())
    wide = table.pivot_table(index="ruler", columns=["failure", "grade"], values="worse").loc[order]
    wide = wide[[(failure, grade) for failure in failures for grade in grades]]
    figure = Figure(figsize=(10.5, 0.24 * len(order) + 2.0), layout="constrained")
    axes = figure.subplots()
    scale = SymLogNorm(linthresh=SEEN, vmin=-MOST, vmax=MOST, base=10)
    image = axes.imshow(np.clip(wide, -MOST, MOST), cmap="RdBu_r", norm=scale, aspect="auto")
    axes.set_yticks(range(len(order)), order, fontsize=8)
    middles = [len(grades) * i + (len(grades) - 1) / 2 for i in range(len(failures))]
    axes.set_xticks(middles, [fill(failure, 13) for failure in failures], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for i in range(1, len(failures)):
        axes.axvline(len(grades) * i - 0.5, color="white", linewidth=3)
    told = f"standard deviations worse than fresh real data\n(linear within ±{SEEN:g}, where nothing is seen)"
    figure.colorbar(image, ax=axes, ticks=[-MOST, -100, -SEEN, 0, SEEN, 100, MOST], label=told)
    axes.set_xlabel(f"{table['source'].iloc[0]}: planted failures, in three grades from left to right", fontsize=9)
    return figure


def draw_truth(trial: pd.DataFrame) -> Figure:
    """A row per metric, the most truthful first, with τ in its cells.

    Args:
        trial: as `genfam.comparing.metric_trial.metric_trial` gives it.
    """
    table = by_source(trial)
    figure = Figure(figsize=(1.25 * len(table.columns) + 3.2, 0.27 * len(table) + 1.3), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(table, cmap="RdBu", vmin=-1.0, vmax=1.0, aspect="auto")
    for (row, column), tau in np.ndenumerate(table.to_numpy()):
        words = "–" if np.isnan(tau) else f"{tau:.2f}"
        axes.text(
            column, row, words, ha="center", va="center", fontsize=8, color="white" if abs(tau) > 0.6 else "black"
        )
    axes.set_yticks(range(len(table)), list(table.index), fontsize=8)
    truths = trial.drop_duplicates("source").set_index("source")["truth"]
    labels = [f"{source}\n{truths[source].replace('_', ' ').replace(' total', chr(10) + 'total')}" for source in table]
    axes.set_xticks(range(len(table.columns)), labels, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="Kendall's τ with the truth; 1: orders all runs alike")
    return figure


def main() -> int:
    """Draw all."""
    for path, draw in [*((path, draw_rulers) for path in sorted(RULERS.glob("*.csv"))), (TRIAL, draw_truth)]:
        picture = path.with_suffix(".png")
        save(draw(pd.read_csv(path)), picture)
        print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
