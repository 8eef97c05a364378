"""Stability of a suite's families, source by source: the third headline beside quality and coverage.

Every entry is defined in docs/stability.md, with its planted controls. Quality enters as *skill*: 0 is the fitted
Gaussian, 1 the oracle, so that a regret or an oscillation means the same whatever the metric. The metric is the
run's `judge`: the Fréchet distance unless the source says otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from genfam.comparing.statistics import CONFIDENCE, Runs, runs_of, seed_spread, t_interval
from genfam.comparing.variance import evaluation_variance
from genfam.metrics.failures import FAILURES, failures, symptoms
from genfam.metrics.traces import first_reached, oscillation, skill
from genfam.records.frame import drawing_error
from genfam.records.store import as_tuned, at_largest_budget
from genfam.types import Kind, Outcome, Record

COLUMNS = ("suite", "source", "family", "entry", "unit", "judge", "n", "value", "ci_low", "ci_high")
HALFWAY = 0.5  # the skill whose first reaching is timed
PIVOT_DRAWS = 20_000
CLEARLY = 2.0  # standard errors that the oracle must be better than the Gaussian by, for skill to mean anything
LEAST_SOURCES = 6  # for an interval over them
NEAR = 0.2  # of skill below the best: within it, a learning rate does
UNITS = {
    "lost": "share of runs",
    "seed_spread": "IQR / median",
    "oscillation": "skill",
    "regret": "skill",
    "reached": "share of runs",
    "budget_to_reach": "share of budget",
    "stays": "share of runs that reached",
    "sensitivity": "share of learning rates",
} | {name: "share of runs" for name in FAILURES}


AGGREGATE_COLUMNS = ("suite", "family", "metric", "sources", "n", "value", "ci_low", "ci_high")


@dataclass(frozen=True)
class Scale:
    """A metric's values that make skill 0 (the Gaussian's) and 1 (the oracle's)."""

    floor: float
    ceiling: float

    def skill(self, value: float) -> float:
        """See `genfam.metrics.traces.skill`."""
        return skill(value, self.floor, self.ceiling)


def stability_card(records: Iterable[Record]) -> pd.DataFrame:
    """One row per (suite, source, contestant, entry), with columns `COLUMNS`, and two for the oracle.

    The oracle's oscillation and regret are what a curve of as many points would show if nothing but the draw of its
    few samples moved it: the noise floor beside which the others are to be read.

    Shares have Wilson's interval, means over seeds Student's t, the spread that of a normal sample.
    Entries in units of skill are left out where the suite has no Gaussian or no oracle on the source, `sensitivity`
    where all runs have one learning rate, failures where runs have no trace.
    """
    records = list(records)
    suite = ", ".join(sorted({record.suite for record in records}))
    rows: list[list[Any]] = []
    for source, own in _by_source(records).items():
        judge = judge_of(own)
        scale = scale_of(own, judge, final=True)
        on_curve = scale_of(own, judge, final=False)
        for family in sorted({r.family for r in own if r.role == "contestant"}):
            runs = [record for record in own if record.family == family]
            tuned = as_tuned(runs)
            entries = _of_seeds(tuned, judge, scale) | _of_curves(tuned, judge, on_curve) | _of_traces(tuned)
            entries |= _of_learning_rates(runs, judge, scale)
            rows += [[suite, source, family, *row] for row in _rows(entries, judge)]
        oracles = [record for record in own if record.role == "oracle"]
        points = max((len(_values(record, judge)) for record in own), default=0)
        if on_curve is not None and oracles:
            noise = _of_noise([value for record in oracles for value in _curve(record, judge, on_curve)], points)
            rows += [[suite, source, oracles[0].family, *row] for row in _rows(noise, judge)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def final_skills(records: Iterable[Record]) -> dict[str, dict[str, list[float]]]:
    """Contestant -> source -> skill at the end of every run at its tuned learning rate.

    A diverged run has the skill of the Gaussian, 0, which is what a user would fall back to. Sources without a
    Gaussian or an oracle are left out.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for source, family, _, value in run_skills(as_tuned(records)):
        found.setdefault(family, {}).setdefault(source, []).append(value if math.isfinite(value) else 0.0)
    return found


def run_skills(records: Iterable[Record]) -> list[tuple[str, str, float, float]]:
    """(source, contestant, factor of the learning rate, skill at the end) of every run; −∞ where it diverged."""
    found = []
    for source, own in _by_source(records).items():
        judge = judge_of(own)
        scale = scale_of(own, judge, final=True)
        for record in own if scale is not None else []:
            if scale is not None and record.role == "contestant":
                value = scale.skill(final_value(record, judge)) if record.outcome is Outcome.OK else -math.inf
                found.append((source, record.family, record.learning_rate_factor, nan_to_worst(value)))
    return found


def nan_to_worst(value: float) -> float:
    """A metric that could not be measured is as bad as can be."""
    return -math.inf if math.isnan(value) else value


def aggregate(records: Iterable[Record]) -> pd.DataFrame:
    """All sources together: the mean over sources of a family's mean skill, `AGGREGATE_COLUMNS`.

    The interval is Student's t with sources as its unit: another source is what a reader has. Resampling runs within
    two or three sources, as is often done, leaves the scatter of sources out; below `LEAST_SOURCES` there is no row.

    Only families that were run on every source of the suite, and as often on each, so that none is judged on easier
    ones. A source with one family has nobody to compare, and does not count.
    """
    records = list(records)
    skills = final_skills(records)
    families = Counter(source for own in skills.values() for source in own)
    sources = {source for source, count in families.items() if count > 1 or len(skills) == 1}
    if len(sources) < LEAST_SOURCES:
        return pd.DataFrame([], columns=list(AGGREGATE_COLUMNS))
    suite = ", ".join(sorted({record.suite for record in records}))
    rows = []
    for family, own in sorted(skills.items()):
        if sources <= own.keys() and len({len(own[source]) for source in sources}) == 1:
            means = [float(np.mean(own[source])) for source in sorted(sources)]
            n = sum(len(own[source]) for source in sources)
            rows.append([suite, family, "skill_mean", len(sources), n, float(np.mean(means)), *t_interval(means)])
    return pd.DataFrame(rows, columns=list(AGGREGATE_COLUMNS))


def _by_source(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Task -> its finished runs at the largest budget."""
    found: dict[str, list[Record]] = {}
    for record in at_largest_budget(records):
        if record.outcome.finished:
            found.setdefault(record.task, []).append(record)
    return dict(sorted(found.items()))


Entry = tuple[int, float, tuple[float, float]]


def _of_seeds(runs: Sequence[Record], judge: str, scale: Scale | None) -> dict[str, Entry]:
    """What the ends of the runs say."""
    found: dict[str, Entry] = {}
    finals = [final_value(record, judge) for record in runs if record.outcome is Outcome.OK]
    if runs:
        lost = len(runs) - len(finals)
        if scale is not None:
            lost += sum(not scale.skill(value) >= 0.0 for value in finals)
        found["lost"] = share(lost, len(runs))
    spread = seed_spread(finals)
    if not math.isnan(spread):
        found["seed_spread"] = len(finals), spread, spread_interval(spread, len(finals))
    return found


def _of_curves(runs: Sequence[Record], judge: str, scale: Scale | None) -> dict[str, Entry]:
    """What happened on the way."""
    if scale is None:
        return {}
    whole = curves_of([record for record in runs if record.outcome is Outcome.OK], judge, scale)
    lost = sum(record.outcome is Outcome.DIVERGED for record in runs)
    if not whole and not lost:
        return {}
    found: dict[str, Entry] = {}
    if whole:
        found["oscillation"] = _mean([oscillation(curve) for curve in whole])
        found["regret"] = _mean([max(curve) - curve[-1] for curve in whole])
    # A run that diverged may have been half way before; it counts as one that reached, and did not stay.
    cut = [_curve(record, judge, scale) for record in runs if record.outcome is Outcome.DIVERGED]
    when = [(curve, first_reached(curve, HALFWAY)) for curve in whole]
    reached = [(curve, index) for curve, index in when if index is not None]
    cut_reached = sum(first_reached(curve, HALFWAY) is not None for curve in cut)
    found["reached"] = share(len(reached) + cut_reached, len(whole) + lost)
    if reached:
        found["budget_to_reach"] = _mean_share([(index + 1) / len(curve) for curve, index in reached])
    if len(reached) + cut_reached:
        stayed = sum(min(curve[index:]) >= HALFWAY for curve, index in reached)
        found["stays"] = share(stayed, len(reached) + cut_reached)
    return found


def _of_noise(values: Sequence[float], points: int) -> dict[str, Entry]:
    """Expected oscillation and regret of `points` independent normal values with the spread of these.

    E|x − y| = 2σ/√π for each step; the expected maximum of all points by their order statistics (scipy).
    """
    if len(values) < 2 or points < 2:
        return {}
    spread = float(np.std(values, ddof=1))
    highest = stats.norm.expect(lambda x: points * x * stats.norm.cdf(x) ** (points - 1))
    unknown = math.nan, math.nan
    # Less the net change |last − first|, itself 2σ/√π on average.
    return {
        "oscillation": (len(values), (points - 2) * 2.0 * spread / math.sqrt(math.pi), unknown),
        "regret": (len(values), float(highest) * spread, unknown),
    }


def _rows(entries: Mapping[str, Entry], judge: str) -> list[list[Any]]:
    """Entries in their order: entry, unit, judge, n, value, low, high."""
    return [
        [entry, unit, judge, entries[entry][0], entries[entry][1], *entries[entry][2]]
        for entry, unit in UNITS.items()
        if entry in entries
    ]


def _of_traces(runs: Sequence[Record]) -> dict[str, Entry]:
    """How many runs show each failure."""
    told: dict[str, list[bool]] = {}
    for record in runs:
        seen = symptoms(record.trace) if record.trace is not None else None
        if seen is not None:
            for name, present in failures(seen).items():
                told.setdefault(name, []).append(present)
    return {name: share(sum(present), len(present)) for name, present in told.items()}


def _of_learning_rates(runs: Sequence[Record], judge: str, scale: Scale | None) -> dict[str, Entry]:
    """The share of learning rates that end within `NEAR` of the seed's best; a diverged run is nowhere near."""
    factors = {record.learning_rate_factor for record in runs}
    if scale is None or len(factors) < 2:
        return {}
    by_seed: dict[int, dict[float, float]] = {}
    for record in runs:
        value = scale.skill(final_value(record, judge)) if record.outcome is Outcome.OK else -math.inf
        by_seed.setdefault(record.seed, {})[record.learning_rate_factor] = nan_to_worst(value)
    whole = [list(values.values()) for values in by_seed.values() if values.keys() == factors]
    # -∞ is nowhere near anything: a seed that diverged at every rate counts as 0
    near = [np.mean([v > -math.inf and v >= max(values) - NEAR for v in values]) for values in whole]
    return {"sensitivity": _mean_share([float(value) for value in near])} if near else {}


def share(hits: int, of: int) -> Entry:
    """A share of runs with Wilson's 95 % interval (scipy)."""
    found = stats.binomtest(hits, of).proportion_ci(CONFIDENCE, method="wilson")
    return of, hits / of, (float(found.low), float(found.high))


def spread_interval(spread: float, n: int) -> tuple[float, float]:
    """The interval of IQR / |median| of the population, were it normal, from that of n values.

    The sample's IQR in units of the population's is a pivot: its quantiles, simulated once for every n, give the
    interval as those of χ² do for a standard deviation. Of three values it is wide, as it must be.
    """
    low, high = _pivot(n)
    return spread / high, spread / low


@cache
def _pivot(n: int) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of (IQR of n standard normal values) / (IQR of the standard normal)."""
    draws = np.random.default_rng(n).standard_normal((PIVOT_DRAWS, n))
    quartiles = np.quantile(draws, [0.25, 0.75], axis=1)
    ratio = (quartiles[1] - quartiles[0]) / (2.0 * stats.norm.ppf(0.75))
    low, high = np.quantile(ratio, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _mean(values: Sequence[float]) -> Entry:
    return len(values), float(np.mean(values)), t_interval(list(values))


def _mean_share(values: Sequence[float]) -> Entry:
    """As `_mean`, the interval cut off at 0 and 1, between which a mean of shares lies."""
    n, value, (low, high) = _mean(values)
    return n, value, (low, high) if math.isnan(low) else (max(0.0, low), min(1.0, high))


def judge_of(records: Sequence[Record]) -> str:
    """The metric that the configurations name, else the Fréchet distance that was measured.

    A judge that applies to none of the runs, such as one that another extractor has no features for, is no judge.
    Guests are asked where there is nobody else.
    """
    records = [record for record in records if not record.is_guest] or records
    measured = {m.name for record in records for m in record.metrics if m.estimate is not None}
    for record in records:
        if record.judge and (record.judge in measured or not measured):
            return record.judge
    names = sorted({m.name for record in records for m in record.metrics if m.kind is Kind.HEADLINE})
    return names[0] if names else ""


def final_value(record: Record, judge: str) -> float:
    """A metric at the end of a run; NaN where it was not measured."""
    found = [m.estimate.value for m in record.metrics if m.name == judge and m.estimate is not None]
    return found[0] if found else math.nan


def runs_at_end(records: Iterable[Record], metric: str) -> dict[str, Runs]:
    """Family -> its values of a metric at the end of runs that ended well, with the variance that rivals lend it.

    Args:
        records: of contestants on one source at one budget. Infinite values are left out, and
            families without a finite one.
        metric: its name.
    """
    values: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for record in records:
        for m in record.metrics if record.outcome is Outcome.OK else ():
            if m.name == metric and m.estimate is not None and math.isfinite(m.estimate.value):
                values.setdefault(record.family, []).append(m.estimate.value)
                error = drawing_error(m)
                errors.setdefault(record.family, []).append(math.nan if error is None else error)
    return runs_of(values, {family: evaluation_variance(own) for family, own in errors.items()})


def _values(record: Record, judge: str) -> list[float]:
    return [point.value for point in record.curve if point.metric == judge]


def _curve(record: Record, judge: str, scale: Scale) -> list[float]:
    return [scale.skill(value) for value in _values(record, judge)]


def curves_of(records: Sequence[Record], judge: str, scale: Scale) -> list[list[float]]:
    """Skill over training of every run that has a curve of several points."""
    return [curve for record in records if len(curve := _curve(record, judge, scale)) > 1]


def scale_of(records: Sequence[Record], judge: str, *, final: bool) -> Scale | None:
    """From the yardsticks' ends, or from their one point under the curve's protocol.

    None where one is missing, or where the oracle is not better than the Gaussian by `CLEARLY` standard errors (the
    curve's few samples may not tell them apart, and a scale made of noise may even point the wrong way).
    """
    found: dict[str, NDArray[np.float64]] = {}
    for role in ("floor", "oracle"):
        own = [record for record in records if record.role == role and record.outcome is Outcome.OK]
        values = [v for r in own for v in ([final_value(r, judge)] if final else _values(r, judge)) if math.isfinite(v)]
        if not values:
            return None
        found[role] = np.asarray(values)
    direction = next(
        (m.higher_is_better for record in records for m in record.metrics if m.name == judge and m.estimate), None
    )
    if direction is None:
        return None
    gap = float(found["oracle"].mean() - found["floor"].mean()) * (1.0 if direction else -1.0)
    error = math.sqrt(sum(float(v.var(ddof=1)) / len(v) for v in found.values() if len(v) > 1))
    if not gap > CLEARLY * error:
        return None
    return Scale(float(found["floor"].mean()), float(found["oracle"].mean()))
