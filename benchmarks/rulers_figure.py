"""Draw the matrix ruler × failure × grade of real images with planted failures.

    .venv/bin/python benchmarks/rulers_figure.py

Reads results/rulers/*.csv (`benchmarks/graded_failures.py`) and writes a picture beside each.
"""

from __future__ import annotations

import sys
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from pages import ROOT

from genfam.comparing.metric_trial import SEEN, planted_verdicts
from genfam.report.style import save

RULERS = ROOT / "results" / "rulers"
MOST = 1000.0  # standard deviations, where colours end


def draw(table: pd.DataFrame) -> Figure:
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


def main() -> int:
    """Draw all."""
    for path in sorted(RULERS.glob("*.csv")):
        picture = path.with_suffix(".png")
        save(draw(pd.read_csv(path)), picture)
        print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
