"""What charts draw, as plain numbers: the same for the pictures (matplotlib) and for the page (Plotly)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genfam.comparing.stability import judge_of, run_skills
from genfam.metrics.failures import failures, symptoms
from genfam.types import Kind, Record

WORST_SHOWN = -1.0  # skill: what is worse, or diverged, is drawn here


@dataclass(frozen=True)
class Curves:
    """A metric over training.

    Attributes:
        metric: its name.
        seeds: family -> one {training FLOPs: value} per run, by seed.
        means: family -> {training FLOPs: mean}, where all of a family's seeds have a point, and no further.
        marks: family -> mean, for families that spend nothing on training.
        positive: whether every value is, so that a logarithm shows them all.
    """

    metric: str
    seeds: dict[str, list[dict[float, float]]]
    means: dict[str, dict[float, float]]
    marks: dict[str, float]
    positive: bool


def curves(records: Sequence[Record], families: Iterable[str]) -> Curves | None:
    """The judge or the Fréchet distance if the curves have it, else their first metric; None without curves."""
    names = {point.metric: point.kind for record in records for point in record.curve}
    judge = judge_of(records)
    metric = min(names, key=lambda name: (name != judge, names[name] is not Kind.HEADLINE, name), default=None)
    if metric is None:
        return None
    seeds: dict[str, list[dict[float, float]]] = {}
    for family in families:
        for record in sorted((r for r in records if r.family == family), key=lambda r: r.seed):
            points = {p.train_flops: p.value for p in record.curve if p.metric == metric and math.isfinite(p.value)}
            if points:
                seeds.setdefault(family, []).append(points)
    positive = all(value > 0.0 for lines in seeds.values() for points in lines for value in points.values())
    means = {}
    for family, lines in seeds.items():
        common = sorted(set.intersection(*(set(points) for points in lines)))
        means[family] = {x: float(np.mean([points[x] for points in lines])) for x in common}
    marks = {family: mean[0.0] for family, mean in means.items() if set(mean) == {0.0}}
    trained = {family: lines for family, lines in seeds.items() if family not in marks}
    return Curves(metric, trained, {family: means[family] for family in trained}, marks, positive)


def mass_ratios(share: NDArray[np.float64], masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,), (K,) -> share / mass of every mode that has any mass, the most oversampled first."""
    possible = masses > 0.0
    return np.sort(share[possible] / masses[possible])[::-1]


def by_learning_rate(records: Iterable[Record]) -> dict[str, dict[str, dict[float, list[float]]]]:
    """Source -> family -> factor of the learning rate -> skills at the end, cut off at `WORST_SHOWN`."""
    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for source, family, factor, value in run_skills(records):
        found.setdefault(source, {}).setdefault(family, {}).setdefault(factor, []).append(max(value, WORST_SHOWN))
    return dict(sorted(found.items()))


def diagnosis(record: Record) -> list[str] | None:
    """The failures that a run's trace shows, by name; None where it has too few points to say."""
    found = symptoms(record.trace) if record.trace is not None else None
    return None if found is None else [name for name, present in failures(found).items() if present]


def diagnosed(record: Record) -> str:
    """`diagnosis` in words."""
    found = diagnosis(record)
    return "too few points to say" if found is None else ", ".join(found) or "no failure found"


def first_traced(records: Sequence[Record], families: Mapping[str, object]) -> list[Record]:
    """The lowest seed of each family that was traced with countable modes, in the order of `families`."""
    shown = []
    for family in families:
        own = sorted((r for r in records if r.family == family), key=lambda r: r.seed)
        shown += [r for r in own if r.trace is not None and any(point.mode_counts for point in r.trace.points)][:1]
    return shown
