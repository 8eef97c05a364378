"""Which family to take on a source, and which not to: the one rule by which a report says that somebody leads.

A family leads in a metric if it may be chosen, no contestant is significantly better (`scorecard`'s paired tests),
and at least one other that may be chosen is significantly worse than some contestant. A family may be chosen if at
least one of its runs ended well and its mean in the source's judge is no worse than the fitted Gaussian's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from genfam.comparing.stability import curves_of, judge_of, scale_of
from genfam.types import Outcome, Record

LATE = (0.5, 0.8)  # shares of the budget between which a curve should have become as good as at its end
STILL_RISING = 0.1  # of skill gained since then


class Standing(StrEnum):
    """What a source's runs say of a contestant."""

    BEST = "clearly best"
    TIED = "not separated"
    BEHIND = "behind"
    ONLY = "the only one that may be chosen"
    UNKNOWN = "not tested: one run each, or nobody to compare with"
    WORSE = "worse than a Gaussian: do not choose"
    LOST = "no run ended well: do not choose"

    @property
    def may_be_chosen(self) -> bool:
        """Whether it is in question at all."""
        return self not in (Standing.WORSE, Standing.LOST)


@dataclass(frozen=True)
class Verdict:
    """A contestant on a source.

    Attributes:
        undertrained: its curve was still rising when its budget ended; None where curves cannot say.
    """

    source: str
    family: str
    judge: str
    standing: Standing
    undertrained: bool | None


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
        rows = card[(card["source"] == source) & (card["metric"] == judge)].set_index("family")
        scale = scale_of(own, judge, final=True)
        standings: dict[str, Standing] = {}
        for family in families:
            ended = any(record.family == family and record.outcome is Outcome.OK for record in own)
            mean = float(rows["mean"].get(family, math.nan))
            if not ended:
                standings[family] = Standing.LOST
            elif scale is not None and not scale.skill(mean) >= 0.0:
                standings[family] = Standing.WORSE
        open_ones = [family for family in families if family not in standings]
        better = _better(source, judge, comparisons)
        for family in open_ones:
            others = [other for other in open_ones if other != family]
            if not others and len(families) > 1:
                standings[family] = Standing.ONLY
            elif not any({family, other} in better.pairs for other in others):
                standings[family] = Standing.UNKNOWN
            elif any((other, family) in better.wins for other in others):
                standings[family] = Standing.BEHIND
            elif all((family, other) in better.wins for other in others):
                standings[family] = Standing.BEST
            else:
                standings[family] = Standing.TIED
        found += [
            Verdict(source, family, judge, standings[family], undertrained(own, family, judge)) for family in families
        ]
    return found


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


def undertrained(own: Sequence[Record], family: str, judge: str) -> bool | None:
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


@dataclass(frozen=True)
class _Better:
    wins: set[tuple[str, str]]
    pairs: list[set[str]]


def _better(source: str, judge: str, comparisons: pd.DataFrame) -> _Better:
    """Of the pairs that were tested: (winner, loser)."""
    rows = comparisons[(comparisons["source"] == source) & (comparisons["metric"] == judge)].to_dict("records")
    tested = [row for row in rows if row["n"] > 1]
    wins = {
        (row["better"], row["family_b"] if row["better"] == row["family_a"] else row["family_a"])
        for row in tested
        if row["better"]
    }
    return _Better(wins, [{row["family_a"], row["family_b"]} for row in tested])
