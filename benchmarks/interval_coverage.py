"""How often the intervals over seeds hold the true mean, and how often equal families are called different: simulated.

    .venv/bin/python benchmarks/interval_coverage.py        (about twelve minutes on one core)

Cells of four and eight families with equal means and normal or skewed values (gamma of shape 4, skewness 1). Standard
deviations are equal, or larger in `half` of the families or in `one`, or `drawn` from a log-normal distribution with
the scatter that published suites have; in `evaluation` they are equal, and known to be the evaluation's error. Rules:

    own       every family has its own variance: Student's t, Welch's test
    outright  the pooled variance with all its degrees of freedom, wherever Levene's test does not reject
    used      `genfam.comparing.statistics`: what the reports do

Writes results/statistics/coverage.csv, a row per kind of cell and rule: the shares of intervals that hold the mean, of
all families and of those with the largest standard deviation; the share of cells with any false alarm after Holm's
correction; and the median half-width in units of 1.96 σ / √n.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import combinations, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pages import ROOT

from genfam.comparing.statistics import CONFIDENCE, Pool, Runs, holm, p_value, runs_of
from genfam.files import write_atomically

PATH = ROOT / "results" / "statistics" / "coverage.csv"
CELLS = 2000
DRAWN = 0.73  # standard deviation of the logarithm of standard deviations, over contestants of the published cells
DEVIATIONS = (
    ("equal", 1.0), ("half", 2.0), ("one", 2.0), ("half", 4.0), ("one", 4.0), ("half", 10.0), ("one", 10.0),
    ("drawn", 1.0), ("evaluation", 1.0),
)  # fmt: skip


class Outright(Runs):
    """The pooled variance as if it were known to be everybody's."""

    @property
    def variance(self) -> float:
        """Of one value, as it is used."""
        return self.pool.variance if self.pool else self.own_variance


def outright(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Runs]:
    """See `Outright`."""
    found = runs_of(values)
    degrees = sum(runs.n - 1.0 for runs in found.values() if runs.pool)
    pools = {name: runs.pool and Pool(runs.pool.variance, degrees) for name, runs in found.items()}
    return {name: Outright(runs.values, 0.0, pools[name]) for name, runs in found.items()}


RULES: dict[str, Callable[[Mapping[str, NDArray[np.float64]]], dict[str, Runs]]] = {
    "own": lambda values: {name: Runs(own) for name, own in values.items()},
    "outright": outright,
    "used": runs_of,
}


def deviations(families: int, who: str, times: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(families,) standard deviations of a cell."""
    if who == "drawn":
        return np.exp(DRAWN * rng.standard_normal(families))
    larger = {"one": 1, "half": families // 2}.get(who, 0)
    return np.array([1.0] * (families - larger) + [times] * larger)


def simulate(
    families: int, seeds: int, values: str, who: str, times: float, rule: str, cells: int = CELLS, start: int = 0
) -> dict[str, float]:
    """What is measured of one kind of cell.

    Args:
        families: of a cell.
        seeds: of a family.
        values: `normal` or `skewed`.
        who: has the larger standard deviation; see `DEVIATIONS`.
        times: how many times as large.
        rule: a name of `RULES`.
        cells: how many are drawn.
        start: of the random numbers.
    """
    rng = np.random.default_rng([families, seeds, len(values), round(times), len(who), start])
    names = [str(place) for place in range(families)]
    held, held_largest, widths, alarms = [], [], [], 0
    for _ in range(cells):
        sigma = deviations(families, who, times, rng)
        drawn = rng.normal(size=(families, seeds))
        if values == "skewed":
            drawn = (rng.gamma(4.0, size=(families, seeds)) - 4.0) / 2.0
        cell = dict(zip(names, drawn * sigma[:, None], strict=True))
        runs = runs_of(cell, dict.fromkeys(names, 1.0)) if who == "evaluation" else RULES[rule](cell)
        low, high = np.array([runs[name].interval() for name in names]).T
        hits = (low <= 0.0) & (high >= 0.0)
        held.append(hits.mean())
        held_largest.append(hits[sigma == sigma.max()].mean())
        widths += ((high - low) / 2.0 / (1.96 * sigma / np.sqrt(seeds))).tolist()
        p_values = [p_value(runs[a], runs[b]) for a, b in combinations(names, 2)]
        alarms += min(holm(p_values)) < 1.0 - CONFIDENCE
    return {
        "coverage": float(np.mean(held)),
        "coverage_of_largest": float(np.mean(held_largest)),
        "false_alarms": alarms / cells,
        "half_width": float(np.median(widths)),
    }


def main() -> int:
    """Simulate all and write the table."""
    rows = []
    for families, seeds, values in product((4, 8), (3, 5, 10), ("normal", "skewed")):
        for (who, times), rule in product(DEVIATIONS, RULES):
            if who != "evaluation" or rule == "used":
                cell = {"families": families, "seeds": seeds, "values": values, "larger": who, "times": times}
                rows.append(cell | {"rule": rule} | simulate(families, seeds, values, who, times, rule))
                print(rows[-1], flush=True)
    write_atomically(PATH, pd.DataFrame(rows).to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
