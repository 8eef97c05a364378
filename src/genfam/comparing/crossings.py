"""Between which amounts of training compute one family overtakes another.

No curve is assumed. Two families are compared at the places where one of them was measured, by the t test of
`genfam.comparing.statistics`. Where the other was not measured there (in seconds, budgets of two families lie side by
side), one must be better than the other is at both of its neighbouring budgets; what lies between two budgets is taken
to lie between their values. Holm's correction covers the places of a pair, with the level of all comparisons,
`SEPARATES`. So the interval begins at the last place where the family that ends up behind is better, ends at the first
one from which on the leader always is, and is open where no place says so.

Its width is that of the steps between budgets, so where the seeds suffice it holds the truth more often than 95 %:
`benchmarks/interval_coverage.py` simulates it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from genfam.comparing.statistics import SEPARATES, Runs, holm, p_value

NEAR = 1.1  # ratio of compute up to which two places are the same: steps are whole, so budgets are not met exactly


@dataclass(frozen=True)
class Measured:
    """One family's runs over budgets.

    Attributes:
        compute: (B,) ascending, in any unit.
        runs: (B,) the values of each budget; none where no run ended well, so that nothing can be said there.
    """

    compute: Sequence[float]
    runs: Sequence[Runs]

    def around(self, place: float) -> list[Runs]:
        """Of the budget at a place, or else of the two beside it; empty beyond the range."""
        here = [runs for at, runs in zip(self.compute, self.runs, strict=True) if max(at / place, place / at) <= NEAR]
        after = sum(at < place for at in self.compute)
        return here or (list(self.runs[after - 1 : after + 1]) if 0 < after < len(self.compute) else [])


@dataclass(frozen=True)
class Place:
    """Two families compared at one amount of compute.

    Attributes:
        compute: the place.
        ahead: 1 where the first has the better mean, −1 where the second has, 0 where that cannot be said.
        p_holm: of the test, corrected for all places of the pair.
    """

    compute: float
    ahead: int
    p_holm: float

    @property
    def better(self) -> int:
        """`ahead` where the test separates the two, else 0."""
        return self.ahead if self.p_holm < SEPARATES else 0


def places_of(first: Measured, second: Measured, higher_is_better: bool) -> list[Place]:
    """The pair at every place within the range that both were measured in, ascending; empty where there is none."""
    found: list[tuple[float, int, float]] = []
    for place in sorted([*first.compute, *second.compute]):
        pairs = list(product(first.around(place), second.around(place)))
        if not pairs or (found and place / found[-1][0] <= NEAR):
            continue
        ahead = {_ahead(a, b, higher_is_better) for a, b in pairs}
        alike = ahead.pop() if len(ahead) == 1 else 0
        found.append((place, alike, max(p_value(a, b) for a, b in pairs) if alike else 1.0))
    corrected = holm([p for *_, p in found])
    return [Place(place, ahead, p) for (place, ahead, _), p in zip(found, corrected, strict=True)]


def _ahead(a: Runs, b: Runs, higher_is_better: bool) -> int:
    gap = a.mean - b.mean if higher_is_better else b.mean - a.mean
    return (gap > 0.0) - (gap < 0.0)


@dataclass(frozen=True)
class Crossing:
    """Where one of two families overtakes the other.

    Attributes:
        first_leads: whether the first of the pair has the better mean where the range ends.
        low: the last place at which the other is better; 0 where there is none.
        high: the first place from which on the leader is better; ∞ where it is not at the range's end, and `low` = 0
            with `high` at the range's beginning where it leads throughout.
        throughout: whether the leader is better at every place.
        last: the last place where the test separates the two; None where it does nowhere.
        range: the first and the last place.
    """

    first_leads: bool
    low: float
    high: float
    throughout: bool
    last: Place | None
    range: tuple[float, float]


def crossing(places: Sequence[Place]) -> Crossing | None:
    """From `places_of`; None for fewer than two places."""
    if len(places) < 2:
        return None
    leader = next((place.ahead for place in reversed(places) if place.ahead), 1)
    behind = [place.compute for place in places if place.better == -leader]
    doubtful = [index for index, place in enumerate(places) if place.better != leader]
    after = doubtful[-1] + 1 if doubtful else 0
    high = places[after].compute if after < len(places) else math.inf
    low = behind[-1] if behind else 0.0
    last = next((place for place in reversed(places) if place.better), None)
    return Crossing(leader > 0, low, high, not doubtful, last, (places[0].compute, places[-1].compute))
