"""How often the intervals over seeds hold the truth, and how often equal families are called different: simulated.

    .venv/bin/python benchmarks/interval_coverage.py [curves] [cells]    (both: twenty minutes on one core)

Cells of four and ten families with equal means and normal or skewed values (gamma of shape 4, skewness 1), and a floor
that each is compared with. Standard deviations are equal, or larger in `half` of the families or in `one`, or `drawn`
from a log-normal distribution with the scatter that published suites have; in `evaluation` they are equal, and known to
be the evaluation's error. Rules:

    own       every family has its own variance: Student's t, Welch's test
    outright  the pooled variance with all its degrees of freedom, wherever Levene's test does not reject
    used      `genfam.comparing.statistics`: what the reports do

Writes results/statistics/coverage.csv, a row per kind of cell and rule: the shares of intervals that hold the mean, of
all families and of those with the largest standard deviation; the share of cells with any false alarm; and the median
half-width in units of 1.96 σ / √n. And results/statistics/scaling_coverage.csv, a row per kind of curve over compute:
the shares of intervals that hold its floor and its exponent, of fits that are rejected, and of intervals that hold the
place where two curves cross; also of runs whose means or scatter are not as the fit takes them to be.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from itertools import combinations, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pages import ROOT

from genfam.comparing.crossings import Measured, crossing, places_of
from genfam.comparing.scaling_curves import fit
from genfam.comparing.statistics import SEPARATES, Pool, Runs, holm, p_value, runs_of
from genfam.files import write_atomically

PATH = ROOT / "results" / "statistics" / "coverage.csv"
SCALING_PATH = PATH.with_name("scaling_coverage.csv")
CELLS = 2000
CURVES = 1000
FLOOR = 0.3  # standard deviation of the fitted Gaussian's values: its evaluation's alone
BUDGETS = np.array([1 / 64, 1 / 16, 1 / 4, 1.0])
KNOWN = {  # (floor, reducible, exponent)
    "floor": (0.05, 0.1, 0.5), "no floor": (0.0, 0.1, 0.4), "steep": (0.1, 0.01, 1.2), "flat": (0.3, 0.0, 0.0),
}  # fmt: skip
RIGHT = "as fitted"
KINDS = {  # of runs -> the curves that are simulated with them
    RIGHT: tuple(KNOWN),
    "of another form": ("floor", "steep"),  # every budget's mean is off by a share of its own
    "scatter falls": ("floor", "steep"),
    "scatter rises": ("floor", "steep"),
}
ANOTHER = 0.05  # standard deviation of these shares
SCATTER = {"scatter falls": (4.0, 2.0, 1.0, 0.5), "scatter rises": (0.5, 1.0, 2.0, 4.0)}  # times the noise, by budget
CROSSING = (0.05, 0.1, 0.5), (0.10, 0.04, 0.9)
PAIRS = {  # of curves, and the second's budgets in units of the first's
    "two that cross": (*CROSSING, 1.0),
    "two that cross, in seconds": ((0.3, 0.05, 0.3), (0.0, 0.08, 0.9), 2.5),
    "two that hardly differ": ((0.05, 0.1, 0.5), (0.05, 0.101, 0.495), 1.0),
}  # fmt: skip
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


def standard(rng: np.random.Generator, values: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Of mean 0 and variance 1."""
    return (rng.gamma(4.0, size=shape) - 4.0) / 2.0 if values == "skewed" else rng.normal(size=shape)


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
        drawn = standard(rng, values, (families + 1, seeds))
        cell = dict(zip(names, drawn[:-1] * sigma[:, None], strict=True))
        floor = Runs(drawn[-1] * FLOOR)
        runs = runs_of(cell, dict.fromkeys(names, 1.0)) if who == "evaluation" else RULES[rule](cell)
        low, high = np.array([runs[name].interval() for name in names]).T
        hits = (low <= 0.0) & (high >= 0.0)
        held.append(hits.mean())
        held_largest.append(hits[sigma == sigma.max()].mean())
        widths += ((high - low) / 2.0 / (1.96 * sigma / np.sqrt(seeds))).tolist()
        p_values = [p_value(runs[a], runs[b]) for a, b in combinations(names, 2)]
        p_values += [p_value(runs[name], floor) for name in names]
        alarms += min(holm(p_values)) < SEPARATES
    return {
        "coverage": float(np.mean(held)),
        "coverage_of_largest": float(np.mean(held_largest)),
        "false_alarms": alarms / cells,
        "half_width": float(np.median(widths)),
    }


def value(compute: NDArray[np.float64], known: tuple[float, float, float]) -> NDArray[np.float64]:
    """A curve over compute, the largest being 1."""
    floor, reducible, exponent = known
    return floor + reducible * compute**-exponent


def shares_of(rng: np.random.Generator, kind: str) -> NDArray[np.float64]:
    """(B,) by which share each budget's mean is off the curve's form."""
    return ANOTHER * rng.normal(size=len(BUDGETS)) if kind == "of another form" else np.zeros(len(BUDGETS))


def curve_runs(
    rng: np.random.Generator, known: tuple[float, float, float], noise: float, values: str, seeds: int,
    kind: str, across: NDArray[np.float64],
) -> list[NDArray[np.float64]]:  # fmt: skip
    """Per budget a value per seed, with relative errors; `across`: as `shares_of` gives it."""
    scatter = noise * np.array(SCATTER.get(kind, (1.0, 1.0, 1.0, 1.0)))
    errors = 1.0 + scatter[:, None] * standard(rng, values, (len(BUDGETS), seeds))
    return [np.abs(at * own) for at, own in zip(value(BUDGETS, known) * (1.0 + across), errors, strict=True)]


def simulate_curve(
    name: str, seeds: int, values: str, noise: float, kind: str = RIGHT, curves: int = CURVES, start: int = 0
) -> dict[str, float]:
    """Shares of the intervals of floor and exponent that hold those of `KNOWN[name]`, and of fits that are rejected."""
    rng, known = np.random.default_rng([seeds, len(values), round(1000 * noise), len(kind), start]), KNOWN[name]
    hits, rejected = np.zeros(2), 0
    for _ in range(curves):
        samples = curve_runs(rng, known, noise, values, seeds, kind, shares_of(rng, kind))
        found = fit(BUDGETS.tolist(), [own.tolist() for own in samples])
        assert found is not None
        if found.rejected:
            rejected += 1
            continue
        ends = zip((known[0], known[2]), (found.floor, found.exponent), strict=True)
        hits += [low - 1e-9 <= true <= high + 1e-9 for true, (low, high) in ends]
    floor, exponent = (hits / max(curves - rejected, 1)).tolist()
    return {"floor": floor, "exponent": exponent, "rejected": rejected / curves}


def simulate_crossing(
    name: str, seeds: int, values: str, noise: float, kind: str = RIGHT, pairs: int = CURVES, start: int = 0
) -> dict[str, float]:
    """Share of a crossing's intervals that hold it, and of those that have two ends.

    The truth is the last place where the two curves cross: 0 where they do not, and ∞ where the family that came out
    ahead at the largest budget is not. Between budgets the shares of another form are interpolated.
    """
    rng = np.random.default_rng([seeds, len(values), round(1000 * noise), len(kind), len(name), start])
    *known, unit = PAIRS[name]
    x = np.geomspace(BUDGETS[0] * max(1.0, unit), BUDGETS[-1] * min(1.0, unit), 2000)
    hits = closed = 0
    for _ in range(pairs):
        measured, curves = [], []
        across = [shares_of(rng, kind) for _ in known]
        samples = [
            curve_runs(rng, one, noise, values, seeds, kind, shares) for one, shares in zip(known, across, strict=True)
        ]
        cells = [runs_of(dict(enumerate(cell))) for cell in zip(*samples, strict=True)]
        for place, (one, shares, times) in enumerate(zip(known, across, (1.0, unit), strict=True)):
            measured.append(Measured((BUDGETS * times).tolist(), [cell[place] for cell in cells]))
            off = np.interp(np.log(x / times), np.log(BUDGETS), np.log1p(shares))
            curves.append(value(x / times, one) * np.exp(off))
        found = crossing(places_of(*measured, higher_is_better=False))
        assert found is not None
        between = curves[0] - curves[1]
        last = np.flatnonzero(np.diff(np.sign(between)))
        truth = x[last[-1]] if len(last) else 0.0
        if found.first_leads != (between[-1] < 0.0):
            truth = math.inf
        hits += found.low <= truth <= found.high
        closed += 0.0 < found.low < found.high < math.inf
    return {"crossing": float(hits / pairs), "closed": closed / pairs}


def curves_over_compute() -> pd.DataFrame:
    """A row per kind of curve and runs."""
    rows = []
    for seeds, values, noise in product((3, 5, 10), ("normal", "skewed"), (0.03, 0.1)):
        about = {"seeds": seeds, "values": values, "noise": noise}
        for kind, names in KINDS.items():
            for name in names:
                rows.append({"curve": name, "runs": kind} | about | simulate_curve(name, seeds, values, noise, kind))
            for name in PAIRS:
                rows.append({"curve": name, "runs": kind} | about | simulate_crossing(name, seeds, values, noise, kind))
        print(about, flush=True)
    return pd.DataFrame(rows)


def cells_of_families() -> pd.DataFrame:
    """A row per kind of cell and rule."""
    rows = []
    for families, seeds, values in product((4, 10), (3, 5, 10), ("normal", "skewed")):
        for (who, times), rule in product(DEVIATIONS, RULES):
            if who != "evaluation" or rule == "used":
                cell = {"families": families, "seeds": seeds, "values": values, "larger": who, "times": times}
                rows.append(cell | {"rule": rule} | simulate(families, seeds, values, who, times, rule))
        print({"families": families, "seeds": seeds, "values": values}, flush=True)
    return pd.DataFrame(rows)


def main() -> int:
    """Simulate what is named, and write its table."""
    tables = {"curves": (SCALING_PATH, curves_over_compute), "cells": (PATH, cells_of_families)}
    for name in sys.argv[1:] or tables:
        path, made = tables[name]
        write_atomically(path, made().to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
