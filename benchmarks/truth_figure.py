"""Draw how far every metric orders runs as the truth does: rank correlations of results/metrics, a column per source.

    .venv/bin/python benchmarks/truth_figure.py

Reads results/metrics/metric_trial.csv (`make benchmark SUITE=metrics`) and writes metric_trial.png beside it.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pages import ROOT

from genfam.comparing.metric_trial import by_source
from genfam.report.style import save

TRIAL = ROOT / "results" / "metrics" / "metric_trial.csv"


def draw(trial: pd.DataFrame) -> Figure:
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
    """Draw it."""
    picture = TRIAL.with_suffix(".png")
    save(draw(pd.read_csv(TRIAL)), picture)
    print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
