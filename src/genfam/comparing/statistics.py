"""How sure a few training seeds can make one: intervals, paired tests with Holm's correction, power.

References:
    Agarwal, R. et al. 2021. Deep reinforcement learning at the edge of the statistical precipice.
    https://arxiv.org/abs/2108.13264 (probability of improvement, performance profiles: section 4)
    Efron, B. 1987. Better bootstrap confidence intervals. JASA 82 (BCa; scipy's is used).
    Holm, S. 1979. A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10  # values; of fewer, resampling sees too little (tests/test_statistics.py measures the coverage)
BOOTSTRAP_UNTIL = 50
RESAMPLES = 9999
POWER = 0.8
MOST_SEEDS = 10_000  # that `seeds_needed` looks for


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a mean over training seeds: Student's t below ten values, BCa bootstrap from ten on.

    From fifty on they agree, and t is not slow.

    Returns:
        (low, high); (NaN, NaN) for fewer than two values or where one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not BOOTSTRAP_FROM <= len(array) < BOOTSTRAP_UNTIL or not np.isfinite(array).all() or np.ptp(array) == 0.0:
        return t_interval(values, confidence)
    found = stats.bootstrap(
        (array,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES, method="BCa",
        rng=np.random.default_rng(len(array)),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean: mean ± t_{(1+c)/2, n−1} · s / √n.

    Args:
        values: independent values, one per training seed.
        confidence: share of such intervals that hold the true mean, were the values normal.

    Returns:
        (low, high); (NaN, NaN) for fewer than two values or where one is not finite, and zero width exactly where
        all values are the same number.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2 or not np.isfinite(array).all():
        return math.nan, math.nan
    if (array == array[0]).all():
        return float(array[0]), float(array[0])
    half = _t_quantile((1.0 + confidence) / 2.0, n - 1) * float(array.std(ddof=1)) / math.sqrt(n)
    return float(array.mean()) - half, float(array.mean()) + half


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
    """Two families on the seeds that both have.

    Attributes:
        a, b: the families.
        n: number of common seeds.
        advantage: mean of how much better a is (negative: worse), in the metric's unit.
        low, high: its 95 % interval, of this pair alone.
        p: two-sided paired t test.
        p_holm: corrected for all pairs of the cell; 0.05 separates.
        probability_of_improvement: P(a is better than b) over all pairs of their seeds, ties half (Agarwal et al.).
        seeds_needed: seeds that would separate a difference of this size and scatter with a power of 80 % after
            the correction's hardest step; NaN where they are separated already or no number would do.
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
        if not self.p_holm < 1.0 - CONFIDENCE:
            return None
        return self.a if self.advantage > 0 else self.b


def compare(
    families: Mapping[str, Mapping[int, float]], higher_is_better: bool, *, power: bool = False
) -> list[Comparison]:
    """All pairs of families, paired by seed: common luck (data order, reference split) falls out of the difference.

    Args:
        families: name -> {seed: value}.
        higher_is_better: the metric's direction.
        power: whether to find out how many seeds a tie would need (slow).
    """
    pairs = list(combinations(families, 2))
    differences = [_advantages(families[a], families[b], higher_is_better) for a, b in pairs]
    p_values = [paired_p(difference) for difference in differences]
    found = []
    for (a, b), difference, p, p_holm in zip(pairs, differences, p_values, holm(p_values), strict=True):
        low, high = interval(difference.tolist())
        chance = probability_of_improvement(
            list(families[a].values()), list(families[b].values()), higher_is_better=higher_is_better
        )
        tied = not p_holm < 1.0 - CONFIDENCE
        needed = seeds_needed(difference, tests=len(pairs)) if power and tied else math.nan
        mean = float(difference.mean()) if len(difference) else math.nan
        found.append(Comparison(a, b, len(difference), mean, low, high, p, p_holm, chance, needed))
    return found


def paired_p(advantages: NDArray[np.float64]) -> float:
    """Two-sided p-value of Student's t test that the differences have mean zero; 1 where nothing can be said."""
    if len(advantages) < 2 or np.isnan(advantages).any():
        return 1.0
    if not np.isfinite(advantages).all():  # one side infinitely bad: on every seed, or who can tell
        return 0.0 if (advantages == math.inf).all() or (advantages == -math.inf).all() else 1.0
    if (advantages == advantages[0]).all():
        return 1.0 if advantages[0] == 0.0 else 0.0
    statistic = float(advantages.mean()) / (float(advantages.std(ddof=1)) / math.sqrt(len(advantages)))
    return float(2.0 * stats.t.sf(abs(statistic), len(advantages) - 1))


def probability_of_improvement(a: Sequence[float], b: Sequence[float], *, higher_is_better: bool) -> float:
    """P(a better than b) + ½ P(equal) over all pairs of their runs: the Mann-Whitney statistic / (n_a n_b)."""
    if not len(a) or not len(b):
        return math.nan
    x, y = np.asarray(a, dtype=np.float64)[:, None], np.asarray(b, dtype=np.float64)[None, :]
    wins = (x > y) if higher_is_better else (x < y)
    return float((wins + 0.5 * (x == y)).mean())


def seeds_needed(advantages: NDArray[np.float64], tests: int = 1, power: float = POWER) -> float:
    """Seeds at which a paired t test at level 5 % / `tests` finds such a difference with this power.

    The true effect is taken to be the observed one, so this is a rough guide: an observed difference of zero needs
    infinitely many (NaN beyond `MOST_SEEDS`).
    """
    if len(advantages) < 2 or not np.isfinite(advantages).all() or float(advantages.std(ddof=1)) == 0.0:
        return math.nan
    effect = abs(float(advantages.mean())) / float(advantages.std(ddof=1))
    level = (1.0 - CONFIDENCE) / tests

    def enough(n: int) -> bool:
        critical = stats.t.ppf(1.0 - level / 2.0, n - 1)
        return bool(stats.nct.sf(critical, n - 1, effect * math.sqrt(n)) >= power)

    low, high = 2, 2
    while not enough(high):
        low, high = high, high * 2
        if high > MOST_SEEDS:
            return math.nan
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return float(low)


def _advantages(a: Mapping[int, float], b: Mapping[int, float], higher_is_better: bool) -> NDArray[np.float64]:
    common = sorted(a.keys() & b.keys())
    with np.errstate(invalid="ignore"):
        differences = np.array([a[seed] - b[seed] for seed in common], dtype=np.float64)
    return differences if higher_is_better else -differences


@cache
def _t_quantile(probability: float, degrees: int) -> float:
    return float(stats.t.ppf(probability, degrees))
