"""Which family to take on a source, and which not to: the one rule by which every report says that somebody leads.

Everything is by `scorecard`'s tests in the source's judge, the fitted Gaussian among those tested. Where no contestant
is significantly better than the Gaussian, the source is *undertrained*: the budget decides there, and no family.
Elsewhere a family may be chosen if at least one of its runs ended well and its mean is no worse than the Gaussian's;
else it is *worse than the Gaussian* where the test says so, or *not better*. Of those that may be chosen, one is
*clearly best* if it is significantly better than every other, *clearly worse* if some contestant is significantly
better, else *not separated* with as many seeds. Single runs have no test: their means decide. Where the oracle cannot
be told from the Gaussian, the judge cannot say who learnt anything: only the significantly worse are out of question.

A family leads in a metric if it may be chosen, no contestant is significantly better in it, and at least one other that
may be chosen is significantly worse than some contestant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from genfam.comparing.stability import curves_of, judge_of, scale_of
from genfam.records.tuning import is_tuned
from genfam.types import Outcome, Record

LATE = (0.5, 0.8)  # shares of the budget between which a curve should have become as good as at its end
STILL_RISING = 0.1  # of skill gained since then


class Standing(StrEnum):
    """What a source's runs say of a contestant."""

    BEST = "clearly best"
    OPEN = "not separated"
    BEHIND = "clearly worse"
    ONLY = "the only one that may be chosen"
    UNKNOWN = "not tested: one run each, or nobody to compare with"
    NO_BETTER = "not better than the fitted Gaussian"
    BELOW = "worse than the fitted Gaussian"
    UNDERTRAINED = "undertrained"
    LOST = "no run ended well"

    @property
    def may_be_chosen(self) -> bool:
        """Whether it is in question at all."""
        return self not in (Standing.NO_BETTER, Standing.BELOW, Standing.UNDERTRAINED, Standing.LOST)


@dataclass(frozen=True)
class Verdict:
    """A contestant on a source.

    Attributes:
        still_improving: its curve was still rising when its budget ended; None where curves cannot say.
        tuned: whether all its runs have the settings that genfam-tune chose for the source.
        seeds: with which the source's contestants were told apart, the fewest of any pair; 0 where none was tested.
        seeds_needed: the least and the most seeds that would separate a pair of those that are not separated; the most
            is NaN where some pair is out of sight, both where all are or none is left.
        floor: the family that stands for the fitted Gaussian.
    """

    source: str
    family: str
    judge: str
    standing: Standing
    still_improving: bool | None
    tuned: bool = True
    seeds: int = 0
    seeds_needed: tuple[float, float] = (math.nan, math.nan)
    floor: str = "gaussian"


def verdicts(records: Sequence[Record], card: pd.DataFrame, comparisons: pd.DataFrame) -> list[Verdict]:
    """Every contestant on every source, by the source's judge.

    Args:
        records: of a suite, at the tuned learning rate.
        card: as `genfam.comparing.scorecard.scorecard` gives it.
        comparisons: as `genfam.comparing.scorecard.comparisons` gives it.
    """
    found = []
    for source in sorted({record.task for record in records}):
        own = [record for record in records if record.task == source]
        judge = judge_of(own)
        families = sorted({record.family for record in own if record.role == "contestant"})
        floor = next((record.family for record in own if record.role == "floor"), "gaussian")
        judged = card[(card["source"] == source) & (card["metric"] == judge)]
        rows = judged.set_index("family").to_dict("index")
        tests = comparisons[(comparisons["source"] == source) & (comparisons["metric"] == judge)]
        everything = [row for row in tests.to_dict("records") if row["n"] > 1]
        tested = [row for row in everything if row["role_b"] == "contestant"]
        floored = {row["family_a"]: row["better"] for row in everything if row["role_b"] == "floor"}
        standings = _out_of_question(own, families, judge, _ahead(rows, floor), floored)
        standings |= _compared([family for family in families if family not in standings], len(families), tested)
        undecided = {family for family in families if standings[family] is Standing.OPEN}
        needed = [
            float(row["seeds_needed"])
            for row in tested
            if not row["better"] and {row["family_a"], row["family_b"]} <= undecided
        ]
        seeds = min((int(row["n"]) for row in tested), default=0)
        found += [
            Verdict(
                source, family, judge, standings[family], still_improving(own, family, judge), _tuned(own, family),
                seeds,
                (float(np.fmin.reduce(needed)), max(needed, key=_nan_last)) if needed else (math.nan, math.nan),
                floor,
            )
            for family in families
        ]  # fmt: skip
    return found


def _ahead(rows: Mapping[Any, Mapping[Any, Any]], floor: str) -> dict[Any, float]:
    """By family, how much better its mean is than the floor's; empty without a floor's number or a direction."""
    if floor not in rows or rows[floor]["higher_is_better"] is None or math.isnan(rows[floor]["mean"]):
        return {}
    sign = 1.0 if rows[floor]["higher_is_better"] else -1.0
    return {
        family: sign * (row["mean"] - rows[floor]["mean"]) for family, row in rows.items() if math.isfinite(row["mean"])
    }


def _tuned(own: Sequence[Record], family: str) -> bool:
    return all(
        is_tuned(record.source, family, record.config.get("family", {})) for record in own if record.family == family
    )


def _out_of_question(
    own: Sequence[Record],
    families: Sequence[str],
    judge: str,
    ahead: Mapping[Any, float],
    floored: Mapping[Any, str],
) -> dict[str, Standing]:
    """Families whose runs all went wrong, and those that lose to the Gaussian; all where none beats it.

    Args:
        own: runs on the source.
        families: contestants.
        judge: of the source.
        ahead: by how much the mean of a contestant is better than the floor's; empty without a floor.
        floored: by contestant, who is significantly better, it or the floor; empty where neither is.
    """
    ended = [family for family in families if any(r.family == family and r.outcome is Outcome.OK for r in own)]
    found = {family: Standing.LOST for family in families if family not in ended}
    if not ahead:
        return found
    below = [f for f in ended if (floored[f] not in ("", f) if f in floored else ahead.get(f, math.nan) < 0.0)]
    # Where the judge cannot tell the Gaussian from real data, being no better than it is no fault.
    tells = scale_of(own, judge, final=True) is not None or all(record.role != "oracle" for record in own)
    beats = [f for f in ended if (floored[f] == f if f in floored else ahead.get(f, math.nan) >= 0.0)]
    if (tells and not beats) or len(below) == len(ended):
        return found | dict.fromkeys(ended, Standing.UNDERTRAINED)
    if tells:
        found |= {f: Standing.NO_BETTER for f in ended if f not in beats and not ahead.get(f, math.nan) >= 0.0}
    return found | dict.fromkeys(below, Standing.BELOW)


def _compared(families: Sequence[str], contestants: int, tested: Sequence[Mapping[Any, Any]]) -> dict[str, Standing]:
    """Families that may be chosen, by the tests among them."""
    pairs = [{row["family_a"], row["family_b"]} for row in tested]
    wins = {
        (row["better"], row["family_b"] if row["better"] == row["family_a"] else row["family_a"])
        for row in tested
        if row["better"]
    }
    standings = {}
    for family in families:
        others = [other for other in families if other != family]
        if not others and contestants > 1:
            standings[family] = Standing.ONLY
        elif not any({family, other} in pairs for other in others):
            standings[family] = Standing.UNKNOWN
        elif any((other, family) in wins for other in others):
            standings[family] = Standing.BEHIND
        elif all((family, other) in wins for other in others):
            standings[family] = Standing.BEST
        else:
            standings[family] = Standing.OPEN
    return standings


def leaders(card: pd.DataFrame, found: Sequence[Verdict]) -> pd.Series[bool]:
    """Of every row of a scorecard, whether its family leads in its metric on its source."""
    out = {(verdict.source, verdict.family) for verdict in found if not verdict.standing.may_be_chosen}
    choosable = pd.Series(
        [(source, family) not in out for source, family in zip(card["source"], card["family"], strict=True)],
        index=card.index,
        dtype=bool,
    )
    worst = card["rank"].where(choosable).groupby([card["suite"], card["source"], card["metric"]]).transform("max")
    return choosable & (card["rank"] == 1) & (worst > 1)


def still_improving(own: Sequence[Record], family: str, judge: str) -> bool | None:
    """Whether the skill of the family's runs at their end is above that of the late part of their curves."""
    scale = scale_of(own, judge, final=False)
    runs = [record for record in own if record.family == family and record.outcome is Outcome.OK]
    if scale is None:
        return None
    gains = []
    for curve in curves_of(runs, judge, scale):
        late = curve[int(LATE[0] * len(curve)) : max(int(LATE[1] * len(curve)), 1)]
        if len(late) > 1:
            gains.append(curve[-1] - float(np.mean(late)))
    return float(np.mean(gains)) > STILL_RISING if gains else None


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
