"""How sure a few training seeds can make one: intervals, tests with Holm's correction, power, ratios.

Three seeds say little of a variance, so the families of a cell (suite, source, metric) lend each other theirs:

1. Levene's test of equal variances, at 10 %. Where it rejects, every family keeps its own: Student's t, Welch's test.
2. Where it does not, a family's variance is the pooled one, or its own where that is larger.
3. Degrees of freedom are Satterthwaite's. Those of a pooled variance lie between d (one family makes up nearly all of
   it) and k·d (k equal ones), where each family has d.
4. No variance is below the evaluation's own error, the mean of the runs' squared `draw_stderr`; but for the oracle's,
   whose runs scatter by nothing else.

Pooling outright wherever the test does not reject would not do: of three seeds it sees little. The larger of the two
variances and the fewer degrees repair most of what it misses: in `benchmarks/interval_coverage.py`'s simulations (3, 5
and 10 seeds, equal and unequal variances, normal and skewed values) intervals hold 92.5 to 96 % over the families of a
cell, and about 90 % of the one family that scatters more than all others; where the evaluation's error is all there is,
up to nearly 100 %. docs/stability.md has the table.
Two families are called different below an adjusted p of `SEPARATES`, half of 5 %: of skewed values with unequal
variances a t test has up to twice the false alarms that it says. So at most 5 % of simulated cells have
any.
Tests are not paired by seed: families hardly correlate over seeds, and pairing would halve the degrees of freedom.

References:
    Agarwal, R. et al. 2021. Deep reinforcement learning at the edge of the statistical precipice.
    https://arxiv.org/abs/2108.13264 (probability of improvement, performance profiles: section 4)
    Donner, A. & Zou, G. 2012. Closed-form confidence intervals for functions of the normal mean and standard
    deviation. Stat. Methods Med. Res. 21 (a ratio from the intervals of its two means)
    Fieller, E. 1954. Some problems in interval estimation. JRSS B 16.
    Holm, S. 1979. A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6.
    Levene, H. 1960. Robust tests for equality of variances. Contributions to Probability and Statistics, 278-292.
    Satterthwaite, F. 1946. An approximate distribution of estimates of variance components. Biometrics Bulletin 2.
    Welch, B. 1947. The generalization of "Student's" problem. Biometrika 34.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

CONFIDENCE = 0.95
SEPARATES = 0.025  # adjusted p below which two families are called different
EQUAL_VARIANCES = 0.10  # level of Levene's test
POWER = 0.8
ROUNDING = 1e-5  # of a number: below this part of it another is the rounding of a zero
MOST_SEEDS = 10_000  # that `seeds_needed` looks for


@dataclass(frozen=True)
class Pool:
    """What the families of a cell say together of the variance over seeds.

    Attributes:
        variance: the mean of theirs, weighted by degrees of freedom.
        degrees: of freedom, Satterthwaite's: (Σ dᵢ sᵢ²)² / Σ dᵢ sᵢ⁴.
    """

    variance: float
    degrees: float


@dataclass(frozen=True)
class Runs:
    """One family's values in a cell, one per training seed.

    Attributes:
        values: (n,) float64.
        error: variance of one value by the evaluation alone.
        pool: what its rivals lend it, if anything.
    """

    values: NDArray[np.float64]
    error: float = 0.0
    pool: Pool | None = None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def finite(self) -> bool:
        """Whether all values are numbers."""
        return bool(np.isfinite(self.values).all())

    @cached_property
    def mean(self) -> float:
        """Exactly the one value where all are the same; NaN without any."""
        if (self.values == self.values[:1]).all():
            return float(self.values[0]) if self.n else math.nan
        with np.errstate(invalid="ignore", over="ignore"):
            return float(self.values.mean())

    @cached_property
    def own_variance(self) -> float:
        """Of one value, from this family alone; exactly 0 where all values are the same."""
        with np.errstate(invalid="ignore", over="ignore"):
            return 0.0 if (self.values == self.values[:1]).all() else float(self.values.var(ddof=1))

    @property
    def variance(self) -> float:
        """Of one value, as it is used."""
        return max(self.own_variance, self.error, self.pool.variance if self.pool else 0.0)

    @property
    def degrees(self) -> float:
        """Of freedom, of that variance."""
        return self.pool.degrees if self.pool else self.n - 1.0

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The interval of the mean over seeds: mean ± t · √(variance / n).

        Returns:
            (low, high); (NaN, NaN) for fewer than two values or where one is not finite, and zero width where all
            values are the same number and no evaluation's error is known.
        """
        if self.n < 2 or not self.finite:
            return math.nan, math.nan
        half = _quantile((1.0 + confidence) / 2.0, self.degrees) * math.sqrt(self.variance / self.n)
        return self.mean - half, self.mean + half


def runs_of(families: Mapping[str, Sequence[float]], errors: Mapping[str, float] | None = None) -> dict[str, Runs]:
    """The families of a cell, with what they lend each other.

    Families with fewer than two values, with infinite ones, or with one value only lend and borrow nothing.

    Args:
        families: name -> values, one per seed.
        errors: name -> variance of one value by the evaluation alone, where it is known.
    """
    alone = {
        name: Runs(np.asarray(values, dtype=np.float64), (errors or {}).get(name, 0.0))
        for name, values in families.items()
    }
    lenders = [name for name, runs in alone.items() if runs.finite and 0.0 < runs.own_variance < math.inf]
    pool = _pool([alone[name] for name in lenders])
    return {name: Runs(runs.values, runs.error, pool if name in lenders else None) for name, runs in alone.items()}


def _pool(families: Sequence[Runs]) -> Pool | None:
    if len(families) < 2 or not levene_p([runs.values for runs in families]) >= EQUAL_VARIANCES:
        return None
    degrees = np.array([runs.n - 1.0 for runs in families])
    variances = np.array([runs.own_variance for runs in families])
    shares = degrees * variances / variances.max()  # so that squares neither overflow nor vanish
    return Pool(
        float((degrees * variances).sum() / degrees.sum()), float(shares.sum() ** 2 / (shares**2 / degrees).sum())
    )


def levene_p(samples: Sequence[NDArray[np.float64]]) -> float:
    """Levene's test of equal variances: an analysis of variance of the absolute deviations from each mean.

    0 where no sample's deviations differ, as of two values each: such samples cannot vouch for each other.
    """
    deviations = [np.abs(values - values.mean()) for values in samples]
    sizes, means = np.array([len(own) for own in deviations]), np.array([own.mean() for own in deviations])
    between = float((sizes * (means - (sizes * means).sum() / sizes.sum()) ** 2).sum())
    within = float(sum(((own - mean) ** 2).sum() for own, mean in zip(deviations, means, strict=True)))
    k, n = len(samples), int(sizes.sum())
    return float(special.fdtrc(k - 1, n - k, between / (k - 1) / (within / (n - k)))) if within > 0.0 else 0.0


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean of values that have no rivals: see `Runs.interval`."""
    return Runs(np.asarray(values, dtype=np.float64)).interval(confidence)


def seed_spread(values: Sequence[float]) -> float:
    """IQR / |median|, a robust relative spread; NaN for fewer than three values or where it is undefined."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 3 or not np.isfinite(array).all() or np.median(array) == 0.0:
        return math.nan
    lower, upper = np.quantile(array, [0.25, 0.75])
    return float((upper - lower) / abs(np.median(array)))


def performance_profile(strata: Sequence[Sequence[float]], thresholds: Sequence[float]) -> list[float]:
    """Share of runs that score above each threshold, every stratum with equal weight."""
    shares = [
        (np.asarray(values, dtype=np.float64)[:, None] > np.asarray(thresholds)[None, :]).mean(axis=0)
        for values in strata
    ]
    return [float(value) for value in np.mean(shares, axis=0)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: among all pairs that are truly equal, any is called different at most with the level's share.

    Sorted ascending, p_(i) becomes max_{j ≤ i} min(1, (m − j + 1) p_(j)).
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return [float(p) for p in adjusted]


@dataclass(frozen=True)
class Comparison:
    """Two families of a cell.

    Attributes:
        a, b: the families.
        n: number of seeds, of the one with fewer.
        advantage: how much better a is in the mean (negative: worse), in the metric's unit.
        low, high: its 95 % interval, of this pair alone.
        p: two-sided t test.
        p_holm: corrected for all pairs of the cell; below `SEPARATES` they are separated.
        probability_of_improvement: P(a is better than b) over all pairs of their seeds, ties half (Agarwal et al.).
        seeds_needed: seeds per family that would separate such a difference with a power of 80 % after the
            correction's hardest step; NaN where they are separated already or no number would do.
    """

    a: str
    b: str
    n: int
    advantage: float
    low: float
    high: float
    p: float
    p_holm: float
    probability_of_improvement: float
    seeds_needed: float

    @property
    def better(self) -> str | None:
        """The better family, None where the data cannot separate them."""
        if not self.p_holm < SEPARATES:
            return None
        return self.a if self.advantage > 0 else self.b


def compare(
    families: Mapping[str, Runs], higher_is_better: bool, as_counted: Mapping[str, Runs] | None = None
) -> list[Comparison]:
    """All pairs of a cell's families.

    Args:
        families: name -> runs, as `runs_of` gives them.
        higher_is_better: the metric's direction.
        as_counted: of families whose values are exact, the same with the noise of samples: for pairs of which the
            other is counted from samples.
    """
    noisy = as_counted or {}
    pairs = list(combinations(families, 2))
    runs = [
        (noisy.get(a, families[a]), noisy.get(b, families[b]))
        if (a in noisy) != (b in noisy)
        else (families[a], families[b])
        for a, b in pairs
    ]
    p_values = [p_value(one, other) for one, other in runs]
    found = []
    for (a, b), (one, other), p, p_holm in zip(pairs, runs, p_values, holm(p_values), strict=True):
        mean, half = one.mean - other.mean, half_width(one, other)
        mean = mean if higher_is_better else -mean
        chance = probability_of_improvement(one.values, other.values, higher_is_better=higher_is_better)
        separated = p_holm < SEPARATES
        needed = math.nan if separated else seeds_needed(one, other, tests=len(pairs))
        n = min(one.n, other.n)
        found.append(Comparison(a, b, n, mean, mean - half, mean + half, p, p_holm, chance, needed))
    return found


def difference(a: Runs, b: Runs) -> tuple[float, float]:
    """Variance of the difference of the two means, and its degrees of freedom.

    Where both have a pooled variance it is mostly the same one, with the same degrees; of two pools (at two budgets)
    the fewer count. Else they are Welch's and Satterthwaite's, which lie between the smaller ones and the sum.
    """
    one, other = a.variance / a.n, b.variance / b.n
    if (a.pool is not None and b.pool is not None) or one + other in (0.0, math.inf):
        return one + other, min(a.degrees, b.degrees)
    share = one / (one + other)
    return one + other, 1.0 / (share**2 / a.degrees + (1.0 - share) ** 2 / b.degrees)


def half_width(a: Runs, b: Runs) -> float:
    """Of the 95 % interval of the difference of the two means; NaN with fewer than two values of either."""
    if min(a.n, b.n) < 2 or not (a.finite and b.finite):
        return math.nan
    variance, degrees = difference(a, b)
    return _quantile((1.0 + CONFIDENCE) / 2.0, degrees) * math.sqrt(variance)


def p_value(a: Runs, b: Runs) -> float:
    """Two-sided p-value of the t test that the two means are equal; 1 where nothing can be said."""
    if min(a.n, b.n) < 2 or np.isnan(a.values).any() or np.isnan(b.values).any():
        return 1.0
    if not (a.finite and b.finite):  # one side infinitely bad: on every seed, or who can tell
        sure = all(runs.finite or (runs.values == runs.values[0]).all() for runs in (a, b))
        return 0.0 if sure and a.mean != b.mean else 1.0
    if a.mean == b.mean:
        return 1.0
    variance, degrees = difference(a, b)
    if variance in (0.0, math.inf):  # no scatter at all, or too large for a number
        return 0.0 if variance == 0.0 else 1.0
    return 2.0 * float(special.stdtr(degrees, -abs(a.mean - b.mean) / math.sqrt(variance)))


def probability_of_improvement(a: ArrayLike, b: ArrayLike, *, higher_is_better: bool) -> float:
    """P(a better than b) + ½ P(equal) over all pairs of their runs: the Mann-Whitney statistic / (n_a n_b)."""
    x, y = np.asarray(a, dtype=np.float64)[:, None], np.asarray(b, dtype=np.float64)[None, :]
    if not x.size or not y.size:
        return math.nan
    wins = (x > y) if higher_is_better else (x < y)
    return float((wins + 0.5 * (x == y)).mean())


def seeds_needed(a: Runs, b: Runs, tests: int = 1, power: float = POWER) -> float:
    """Seeds per family at which the t test at level `SEPARATES` / `tests` finds such a difference with this power.

    True means and variances are taken to be the observed ones, so this is a rough guide: NaN where no difference was
    observed, or one that needs more than `MOST_SEEDS`.
    """
    gap, scatter = abs(a.mean - b.mean), a.variance + b.variance
    if min(a.n, b.n) < 2 or not (0.0 < gap < math.inf and 0.0 < scatter < math.inf):
        return math.nan
    quantile = 1.0 - SEPARATES / tests / 2.0
    per_seed = difference(a, b)[1] / ((a.n + b.n) / 2.0 - 1.0)  # degrees of freedom, which grow with the seeds

    def enough(n: int) -> bool:
        degrees, shift = per_seed * (n - 1), gap * math.sqrt(n / scatter)
        return bool(1.0 - special.nctdtr(degrees, shift, _quantile(quantile, degrees)) >= power)

    low, high = 2, 2
    while not enough(high):
        low, high = high, high * 2
        if high > MOST_SEEDS:
            return math.nan
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return float(low)


def ratio(a: Runs, b: Runs) -> tuple[float, float, float]:
    """The mean of one in units of the other's, with Fieller's 95 % interval, from the intervals of the two means.

    It holds every ρ for which x − ρy may be zero: (x − ρy)² ≤ h² + ρ²g², where the means are x ± h and y ± g, each with
    degrees of freedom of its own (Donner & Zou 2012).

    Returns:
        (ratio, low, high). high is ∞ where b cannot be told from 0: the ratio is at least `low`, or, where a cannot
        either (low = −∞), anything at all. NaN where b's mean is not positive, or is but rounding beside a's; bounds
        are NaN for single runs.
    """
    x, y = a.mean, b.mean
    if not (math.isfinite(x) and 0.0 < y < math.inf) or y < ROUNDING * abs(x):
        return math.nan, math.nan, math.nan
    h, g = x - a.interval()[0], y - b.interval()[0]
    if math.isnan(h + g):
        return x / y, math.nan, math.nan
    lead = y**2 - g**2
    if lead <= 0.0 and x <= h:
        return x / y, -math.inf, math.inf
    root = math.sqrt(max(0.0, x**2 * g**2 + y**2 * h**2 - h**2 * g**2))
    if lead <= 0.0:
        return x / y, (x**2 - h**2) / (x * y + root), math.inf
    return x / y, (x * y - root) / lead, (x * y + root) / lead


def _quantile(probability: float, degrees: float) -> float:
    """Student's t."""
    return float(special.stdtrit(degrees, probability))
