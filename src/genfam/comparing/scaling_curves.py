"""Fits of value over training compute, and where two of them cross.

A family's curve is value = floor + reducible · (C / C_max)^−b: what no compute removes, what the largest budget has
left to remove, and how fast that falls (Hestness et al.; Hoffmann et al. fit the same form). The fit is by least
squares of relative errors, on the budgets' means over seeds: for every exponent b on a grid up to `STEEPEST` floor and
reducible follow from weighted linear least squares, with floor at least the oracle's value (and 0) and reducible at
least 0, and the best b is taken. Weights are by a first fit, whose own are by the means.

Whether the runs are of this form at all is tested first: the means' errors about the curve against the scatter over
seeds within budgets. Where the test rejects, at 5 %, there is no interval. Elsewhere those of floor and exponent are by
profile: all values with which the best curve is worse than the best of all by no more than the F test at 95 % allows,
given the residual variance of all runs about the curve (Bates & Watts). A crossing's interval holds the places where
the two fitted curves differ by less than Student's t times the standard error of their difference (with Satterthwaite's
degrees of freedom), from curves through means that are drawn anew with that variance. Scatter is taken to be the same
share of the value at every budget. `benchmarks/interval_coverage.py` simulates how often all of them hold the truth,
and what becomes of it where the form or the scatter is another.

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
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from genfam.comparing.statistics import CONFIDENCE

PARAMETERS = 3  # floor, reducible, exponent
LEAST_BUDGETS = PARAMETERS
ROUNDING = 1e-20  # of a sum of squared relative errors
FORM = 0.05  # level of the test of a curve's form
STEEPEST = 3.0
EXPONENTS = np.linspace(0.0, STEEPEST, 301)[1:]
RESAMPLES = 500
PLACES = 200  # along the compute axis, between which a crossing is looked for

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """One or several fitted curves; see the module.

    Attributes:
        floor, reducible, exponent: (R,); exponent 0 where nothing falls with compute.
        largest: C_max.
    """

    floor: Numbers
    reducible: Numbers
    exponent: Numbers
    largest: float

    def at(self, compute: Numbers) -> Numbers:
        """(P,) -> (R, P) values."""
        powers = (np.asarray(compute, dtype=np.float64) / self.largest)[None, :] ** -self.exponent[:, None]
        return self.floor[:, None] + self.reducible[:, None] * powers


@dataclass(frozen=True)
class Fit:
    """A family's curve, and how sure a few seeds make it.

    Attributes:
        curve: one.
        floor, exponent: 95 % intervals; NaN where a budget has one seed, or the runs reject the form.
        drawn: (`RESAMPLES`, B) means drawn anew with the residual variance; None where there are no intervals.
        compute: (B,) where it was measured, ascending.
        weights: (B,) of the squared errors.
        least_floor: what no floor may be below.
        degrees: of freedom of the residual variance.
        misfit: root mean square of the means' relative errors.
        form_p: of the test that the runs are of this form; NaN where nothing is left to test it by.
    """

    curve: Curves
    floor: tuple[float, float]
    exponent: tuple[float, float]
    drawn: Numbers | None
    compute: Numbers
    weights: Numbers
    least_floor: float
    degrees: int
    misfit: float
    form_p: float

    @cached_property
    def resampled(self) -> Curves | None:
        """Curves through the means drawn anew."""
        if self.drawn is None:
            return None
        return fit_curves(self.compute, self.drawn, self.weights, self.least_floor)


def fit_curves(compute: Numbers, means: Numbers, weights: Numbers, least_floor: float) -> Curves:
    """The best curve through each row of means.

    Args:
        compute: (B,) ascending, positive.
        means: (R, B).
        weights: (B,) of the squared errors.
        least_floor: what no floor may be below.
    """
    power = (compute / compute[-1])[None, :] ** -EXPONENTS[:, None]
    total, of_means, squares = weights.sum(), means @ weights, means**2 @ weights
    first, second, mixed = (power @ weights)[:, None], (power**2 @ weights)[:, None], power @ (weights * means).T
    slope = (total * mixed - first * of_means) / (total * second - first**2)
    level = (of_means - first * slope) / total
    held = np.maximum((mixed - least_floor * first) / second, 0.0)  # with the floor at its least
    level, slope = (np.where(level < least_floor, b, a) for a, b in ((level, least_floor), (slope, held)))
    level = np.where(slope < 0.0, np.maximum(of_means / total, least_floor), level)
    slope = np.maximum(slope, 0.0)
    errors = squares + level * (level * total - 2.0 * of_means)
    errors += slope * (slope * second + 2.0 * level * first - 2.0 * mixed)
    best = errors.argmin(axis=0), np.arange(len(means))
    floor, reducible = level[best], slope[best]
    falls = reducible > 1e-12 * floor
    return Curves(floor, reducible, np.where(falls, EXPONENTS[best[0]], 0.0), float(compute[-1]))


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
    first = fit_curves(x, means[None, :], sizes / means**2, least)
    weights = sizes / first.at(x)[0] ** 2  # relative to the curve: relative to means, low ones would count too much
    curve = fit_curves(x, means[None, :], weights, least)
    misfit = float(np.sqrt(np.mean((curve.at(x)[0] / means - 1.0) ** 2)))
    degrees = sum(map(len, samples)) - PARAMETERS
    unknown = math.nan, math.nan
    if min(map(len, samples)) < 2:
        return Fit(curve, unknown, unknown, None, x, weights, least, degrees, misfit, math.nan)
    scatter = sum(
        float(((own - own.mean()) ** 2).sum()) / at**2 for own, at in zip(samples, first.at(x)[0], strict=True)
    )
    lack = float(weights @ (curve.at(x)[0] - means) ** 2)
    free = int(curve.floor[0] > least) + 2 * int(curve.reducible[0] > 0.0)
    form_p = _form_p(lack, len(x) - free, scatter, degrees + PARAMETERS - len(x))
    if form_p < FORM:
        return Fit(curve, unknown, unknown, None, x, weights, least, degrees, misfit, form_p)
    variance = (scatter + lack) / degrees
    floor, exponent = profiles(x, means, weights, least, variance, degrees)
    rng = np.random.default_rng(np.frombuffer(means.tobytes(), dtype=np.uint32))  # two families draw apart
    drawn = means + rng.standard_normal((RESAMPLES, len(x))) * np.sqrt(variance / weights)
    return Fit(curve, floor, exponent, drawn, x, weights, least, degrees, misfit, form_p)


def _form_p(lack: float, spare: int, scatter: float, degrees: int) -> float:
    """Of the lack-of-fit test: means about the curve against runs about their means, sums of squares with degrees."""
    if spare < 1 or scatter < ROUNDING:
        return math.nan
    return float(stats.f.sf(lack / spare / (scatter / degrees), spare, degrees))


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


@dataclass(frozen=True)
class Crossing:
    """Where on the range that both were measured in one family overtakes the other.

    Attributes:
        first_leads: whether the first of the pair is the better at the range's end.
        place: the compute from which on that is so; None where it is so over the whole range.
        low, high: its interval, of the place; 0 says "before the range", ∞ "not within it"; NaN without a place or
            without resampled curves.
        range: that was looked at.
        agreement: share of resamples that say the same (the same leader, and a crossing within the range or none).
    """

    first_leads: bool
    place: float | None
    low: float
    high: float
    range: tuple[float, float]
    agreement: float


def crossing(first: Fit, second: Fit) -> Crossing | None:
    """The last crossing of two curves of which lower is better; None where their ranges do not overlap."""
    low = max(first.compute[0], second.compute[0])
    high = min(first.compute[-1], second.compute[-1])
    if not low < high:
        return None
    x = np.geomspace(low, high, PLACES)
    leads, places = _last_crossings(x, first.curve.at(x) - second.curve.at(x))
    first_leads = bool(leads[0])
    place = None if places[0] == 0.0 else float(places[0])
    span = float(low), float(high)
    if first.resampled is None or second.resampled is None:
        return Crossing(first_leads, place, math.nan, math.nan, span, math.nan)
    again, where = _last_crossings(x, first.resampled.at(x) - second.resampled.at(x))
    same = again == first_leads
    agreement = float((same & ((where > 0.0) == (place is not None))).mean())
    if place is None:
        return Crossing(first_leads, None, math.nan, math.nan, span, agreement)
    between = first.curve.at(x)[0] - second.curve.at(x)[0]
    one, other = (again.at(x).var(axis=0) for again in (first.resampled, second.resampled))
    with np.errstate(invalid="ignore"):  # no number where there is no scatter: nothing is open there
        degrees = (one + other) ** 2 / (one**2 / first.degrees + other**2 / second.degrees)
        t = stats.t.ppf((1.0 + CONFIDENCE) / 2.0, degrees)
        open_at = np.flatnonzero(np.abs(between) <= t * np.sqrt(one + other))
    if not len(open_at):
        return Crossing(first_leads, place, place, place, span, agreement)
    begin = 0.0 if open_at[0] == 0 else float(x[open_at[0] - 1])
    end = math.inf if open_at[-1] == len(x) - 1 else float(x[open_at[-1] + 1])
    return Crossing(first_leads, place, min(begin, place), max(end, place), span, agreement)


def _last_crossings(x: Numbers, differences: Numbers) -> tuple[NDArray[np.bool_], Numbers]:
    """(P,), (R, P) -> whether each row ends negative, and where it last changed its sign; 0 where it never did."""
    negative = differences < 0.0
    leads = negative[:, -1]
    other = negative != leads[:, None]
    last = other.shape[1] - 1 - other[:, ::-1].argmax(axis=1)
    never = ~other.any(axis=1)
    at = np.where(never, 0, last)
    rows = np.arange(len(differences))
    left, right = differences[rows, at], differences[rows, np.minimum(at + 1, len(x) - 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(never | (right == left), 0.0, left / (left - right))
    logs = np.log(x)
    places = np.exp(logs[at] + share * (logs[np.minimum(at + 1, len(x) - 1)] - logs[at]))
    return leads, np.where(never, 0.0, places)
