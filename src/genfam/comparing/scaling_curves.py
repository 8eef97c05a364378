"""Fits of value over training compute.

A family's curve is value = floor + reducible · (C / C_max)^−b: what no compute removes, what the largest budget has
left to remove, and how fast that falls (Hestness et al.; Hoffmann et al. fit the same form). The fit is by least
squares of relative errors, on the budgets' means over seeds: for every exponent b on a grid up to `STEEPEST` floor and
reducible follow from weighted linear least squares, with floor at least the lower end of the oracle's interval (and 0)
and reducible at least 0, and the best b is taken. Weights are by a first fit, whose own are by the means.

Two tests at 2.5 % come first: that the runs are of this form (the means' errors about the curve against the scatter
over seeds within budgets), and that they scatter by the same share of the value at every budget (Levene's). Where one
rejects, there is no interval. Elsewhere those of floor and exponent are by profile: all values with which the best
curve is worse than the best of all by no more than the F test at 95 % allows, given the residual variance of all runs
about the curve (Bates & Watts). `benchmarks/interval_coverage.py` simulates how often they hold the truth, and what
becomes of it where the form or the scatter is another. Where two families cross is not taken from their curves: see
`genfam.comparing.crossings`.

References:
    Hestness, J. et al. 2017. Deep learning scaling is predictable, empirically. https://arxiv.org/abs/1712.00409
    Hoffmann, J. et al. 2022. Training compute-optimal large language models. https://arxiv.org/abs/2203.15556
    (appendix D.3: a floor and a power law)
    Bates, D. & Watts, D. 1988. Nonlinear regression analysis and its applications. Wiley. (section 1.3.2: lack of fit;
    section 6.1.2: profiles)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from genfam.comparing.statistics import CONFIDENCE, levene_p

PARAMETERS = 3  # floor, reducible, exponent
LEAST_BUDGETS = PARAMETERS
ROUNDING = 1e-20  # of a sum of squared relative errors
REJECTS = 0.025  # level of either test, 5 % together
TESTABLE = 3  # runs of a budget: two always deviate from their mean by the same
STEEPEST = 3.0
EXPONENTS = np.linspace(0.0, STEEPEST, 301)[1:]

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A fitted curve; see the module.

    Attributes:
        floor, reducible, exponent: its numbers; exponent 0 where nothing falls with compute.
        largest: C_max.
    """

    floor: float
    reducible: float
    exponent: float
    largest: float

    def at(self, compute: Numbers) -> Numbers:
        """Values, in the shape of `compute`."""
        return self.floor + self.reducible * (np.asarray(compute, dtype=np.float64) / self.largest) ** -self.exponent


@dataclass(frozen=True)
class Fit:
    """A family's curve, and how sure a few seeds make it.

    Attributes:
        curve: the best one.
        floor, exponent: 95 % intervals; NaN where no budget has two seeds, or the fit is rejected.
        compute: (B,) where it was measured, ascending.
        n: number of runs.
        misfit: root mean square of the means' relative errors.
        form_p, scatter_p: of the two tests; NaN where nothing is left to test by.
    """

    curve: Curve
    floor: tuple[float, float]
    exponent: tuple[float, float]
    compute: Numbers
    n: int
    misfit: float
    form_p: float
    scatter_p: float

    @property
    def rejected(self) -> bool:
        """Whether the runs reject the form, or that they scatter alike."""
        return self.form_p < REJECTS or self.scatter_p < REJECTS


def fit_curve(compute: Numbers, means: Numbers, weights: Numbers, least_floor: float) -> Curve:
    """The best curve through means.

    Args:
        compute: (B,) ascending, positive.
        means: (B,).
        weights: (B,) of the squared errors.
        least_floor: what no floor may be below.
    """
    power = (compute / compute[-1])[None, :] ** -EXPONENTS[:, None]
    total, of_means = float(weights.sum()), float(means @ weights)
    first, second, mixed = power @ weights, power**2 @ weights, power @ (weights * means)
    slope = (total * mixed - first * of_means) / (total * second - first**2)
    level = (of_means - first * slope) / total
    held = np.maximum((mixed - least_floor * first) / second, 0.0)  # with the floor at its least
    level, slope = (np.where(level < least_floor, b, a) for a, b in ((level, least_floor), (slope, held)))
    level = np.where(slope < 0.0, max(of_means / total, least_floor), level)
    slope = np.maximum(slope, 0.0)
    errors = level * (level * total - 2.0 * of_means) + slope * (slope * second + 2.0 * level * first - 2.0 * mixed)
    best = int(errors.argmin())
    floor, reducible = float(level[best]), float(slope[best])
    return Curve(floor, reducible, float(EXPONENTS[best]) if reducible > 1e-12 * floor else 0.0, float(compute[-1]))


def fit(compute: Sequence[float], values: Sequence[Sequence[float]], least_floor: float = 0.0) -> Fit | None:
    """A family's curve; None with fewer than `LEAST_BUDGETS` budgets, or where a mean is not positive.

    Args:
        compute: of each budget.
        values: of each budget, a value per seed.
        least_floor: what no floor may be below; 0 if negative.
    """
    order = np.argsort(compute, kind="stable")
    x = np.asarray(compute, dtype=np.float64)[order]
    samples = [np.asarray(values[index], dtype=np.float64) for index in order]
    if len(x) < LEAST_BUDGETS or len(np.unique(x)) < len(x) or x[0] <= 0.0:
        return None
    means = np.array([own.mean() for own in samples])
    if not (means > 0.0).all():
        return None
    sizes = np.array([len(own) for own in samples], dtype=np.float64)
    least = max(0.0, least_floor)
    first = fit_curve(x, means, sizes / means**2, least)
    weights = sizes / first.at(x) ** 2  # relative to the curve: relative to means, low ones would count too much
    curve = fit_curve(x, means, weights, least)
    misfit = float(np.sqrt(np.mean((curve.at(x) / means - 1.0) ** 2)))
    n, within = sum(map(len, samples)), sum(map(len, samples)) - len(samples)  # runs, and degrees within budgets
    unknown = math.nan, math.nan
    found = Fit(curve, unknown, unknown, x, n, misfit, math.nan, math.nan)
    if not within:
        return found
    shares = [own / at for own, at in zip(samples, first.at(x), strict=True)]
    scatter = sum(float(((own - own.mean()) ** 2).sum()) for own in shares)
    lack = float(weights @ (curve.at(x) - means) ** 2)
    free = int(curve.floor > least) + 2 * int(curve.reducible > 0.0)
    form_p, scatter_p = _form_p(lack, len(x) - free, scatter, within), _scatter_p(shares, scatter)
    found = replace(found, form_p=form_p, scatter_p=scatter_p)
    if found.rejected:
        return found
    degrees = n - PARAMETERS
    floor, exponent = profiles(x, means, weights, least, (scatter + lack) / degrees, degrees)
    return replace(found, floor=floor, exponent=exponent)


def _form_p(lack: float, spare: int, scatter: float, degrees: int) -> float:
    """Of the lack-of-fit test: means about the curve against runs about their means, sums of squares with degrees."""
    if spare < 1:
        return math.nan
    if scatter < ROUNDING:
        return 1.0 if lack < 1e-9 else 0.0
    return float(stats.f.sf(lack / spare / (scatter / degrees), spare, degrees))


def _scatter_p(shares: Sequence[Numbers], scatter: float) -> float:
    """Of Levene's test, between budgets with enough runs."""
    known = [own for own in shares if len(own) >= TESTABLE]
    return levene_p(known) if len(known) > 1 and scatter >= ROUNDING else math.nan


def profiles(
    compute: Numbers, means: Numbers, weights: Numbers, least_floor: float, variance: float, degrees: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Intervals of the floor and of the exponent; see the module.

    Given an exponent, the least error is a quadratic function of the floor, up to the floor above which nothing would
    fall; so its values within the limit are an interval, and the floor's is the hull of all exponents'.

    Args:
        compute: (B,) ascending, positive.
        means: (B,).
        weights: (B,) of the squared errors.
        least_floor: what no floor may be below.
        variance: of one value, in units of 1 / weight per seed.
        degrees: of freedom of that.

    Returns:
        (low, high) of the floor, and of the exponent: from 0 where a flat line will do, and at most up to `STEEPEST`.
    """
    power = (compute / compute[-1])[None, :] ** -EXPONENTS[:, None]
    total, of_means, squares = weights.sum(), float(means @ weights), float(means**2 @ weights)
    first, second, mixed = power @ weights, power**2 @ weights, power @ (weights * means)
    lead, middle, rest = total - first**2 / second, of_means - mixed * first / second, squares - mixed**2 / second
    most = mixed / first  # the floor at which nothing falls any more
    at = np.clip(middle / lead, least_floor, np.maximum(most, least_floor))
    flat_at = max(of_means / total, least_floor)
    flat = squares + flat_at * (flat_at * total - 2.0 * of_means)
    errors = np.where(most > least_floor, lead * at**2 - 2.0 * middle * at + rest, flat)
    best = min(float(errors.min()), flat)
    limit = best + variance * float(stats.f.ppf(CONFIDENCE, 1, degrees)) + 1e-12 * squares
    ends = []
    root = np.sqrt(np.maximum(middle**2 - lead * (rest - limit), 0.0))
    known = (errors <= limit) & (most > least_floor)
    ends += np.clip((middle - root) / lead, least_floor, None)[known].tolist()
    ends += np.minimum((middle + root) / lead, most)[known].tolist()
    if flat <= limit:
        half = math.sqrt(max(of_means**2 - total * (squares - limit), 0.0)) / total
        ends += [max(of_means / total - half, least_floor), max(of_means / total + half, least_floor)]
    grid, over = np.append(0.0, EXPONENTS), np.append(flat, np.minimum(errors, flat)) - limit
    within = np.flatnonzero(over <= 0.0)
    low, high = (_where_zero(grid, over, int(within[i]), step) for i, step in ((0, -1), (-1, 1)))
    return (min(ends), max(ends)), (low, high)


def _where_zero(x: Numbers, y: Numbers, inner: int, step: int) -> float:
    """Between x[inner], where y ≤ 0, and its neighbour; x[inner] where there is none."""
    outer = inner + step
    if not 0 <= outer < len(x):
        return float(x[inner])
    return float(x[inner] + (x[outer] - x[inner]) * -y[inner] / (y[outer] - y[inner]))
