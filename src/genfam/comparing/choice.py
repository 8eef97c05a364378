"""Which family to take for a task, as far as runs have been measured near it; else what is missing.

Nothing is tested anew. A suite's scorecard and its comparisons are made of all its families that were measured within
the compute at hand; families that do not meet the other needs are then left out, and `genfam.comparing.verdicts` says
who of the rest may be chosen. So every number is the scorecard's, and needs that leave fewer families do not make a
difference significant that is not significant there.

Only runs count whose budget is not above the compute stated. Of several suites that have the source, the one with the
largest such budget speaks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from genfam.build import configuration_folder
from genfam.comparing.corruption import source_name
from genfam.comparing.scorecard import comparisons, scorecard
from genfam.comparing.stability import judge_of, scale_of
from genfam.comparing.suites import event_of, kinds_of_event, named_in_files
from genfam.comparing.verdicts import Standing, Verdict, verdicts
from genfam.records.frame import to_frame
from genfam.records.store import as_tuned, budget_of
from genfam.types import Likelihood, Outcome, Record

FAR = 10.0  # times below the compute at hand, from which a budget says little of it


class Needed(StrEnum):
    """What likelihood a user needs."""

    EXACT = "exact"
    BOUND = "bound"
    NONE = "none"

    def met_by(self, kind: Likelihood) -> bool:
        """An exact one is a bound too; an estimate is neither."""
        enough = {
            Needed.EXACT: {Likelihood.EXACT},
            Needed.BOUND: {Likelihood.EXACT, Likelihood.LOWER_BOUND},
            Needed.NONE: set(Likelihood),
        }
        return kind in enough[self]


@dataclass(frozen=True)
class Need:
    """What is known of the task.

    Attributes:
        source: a source's name; empty where `event` says what kind of event it is (a file of conf/event).
        condition: what samples are conditioned on.
        train_flops, train_seconds, seconds_per_sample: at most; seconds are those of the machines of the runs.
        likelihood: the least that will do.
    """

    source: str = ""
    event: str = ""
    condition: str = "nothing"
    train_flops: float = math.inf
    train_seconds: float = math.inf
    seconds_per_sample: float = math.inf
    likelihood: Needed = Needed.NONE


class Found(StrEnum):
    """What the measured runs say."""

    ONE = "one family is clearly better than every other that meets the needs"
    SEVERAL = "not separated"
    ALONE = "the only one that was measured and meets the needs"
    UNTESTED = "one run each, so nothing was tested"
    UNDERTRAINED = "of those that meet the needs nobody is significantly better than the fitted Gaussian at this budget"
    LOST = "no run ended well"
    UNMET = "nobody that was measured meets the needs"
    ABOVE = "measured with more compute only"
    NOTHING = "nothing was measured"


@dataclass(frozen=True)
class Row:
    """A family's runs on the task, on which an answer rests.

    Attributes:
        mean, low, high: of the judge, with its 95 % interval over seeds; as in the scorecard.
        skill: 0 as the fitted Gaussian, 1 as the oracle; NaN where there is no such scale.
        seeds: that gave a number, of `runs`.
        train_flops: that each run was given.
        unmet: which needs it does not meet; empty where it meets all.
        higher_is_better: the judge's direction.
    """

    family: str
    judge: str
    mean: float
    low: float
    high: float
    skill: float
    seeds: int
    runs: int
    train_flops: float
    train_seconds: float
    seconds_per_sample: float
    likelihood: Likelihood
    unmet: str = ""
    higher_is_better: bool = False


@dataclass(frozen=True)
class Choice:
    """The answer for one task.

    Attributes:
        suite: the folder whose runs speak; empty where none does.
        families: to take: one, or several that the seeds do not separate; none where we do not know.
        rows: of every family that was measured within the compute, those that meet the needs first.
        verdicts: on those that meet them.
        budget: the largest of the rows, in FLOPs.
        below: how many times the compute at hand is that of the rows; 1 where it was not stated.
        least: the smallest budget that was measured, in FLOPs, where all are above the compute at hand.
        left_out: families that were measured, but with more compute only.
        machine: of the runs, whose seconds these are.
    """

    task: str
    found: Found
    suite: str = ""
    families: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    budget: float = math.nan
    below: float = 1.0
    least: float = math.nan
    left_out: list[str] = field(default_factory=list)
    machine: str = ""


def choose(need: Need, suites: Mapping[str, Sequence[Record]]) -> list[Choice]:
    """An answer for every task of the kind asked for; one that nothing was measured where there is none.

    Args:
        need: what is known of the task.
        suites: folder -> records of suites that compare families, as `suites_in` finds them.
    """
    tasks: dict[str, dict[str, list[Record]]] = {}
    for suite, records in suites.items():
        for record in records:
            if record.condition == need.condition and _is_asked_for(record, need):
                tasks.setdefault(record.task, {}).setdefault(suite, []).append(record)
    given = "" if need.condition == "nothing" else f" given {need.condition}"
    none = Choice(f"{need.source or f'sources of {need.event}'}{given}", Found.NOTHING)
    return [choose_among(need, task, found) for task, found in sorted(tasks.items())] or [none]


def choose_among(need: Need, task: str, suites: Mapping[str, Sequence[Record]]) -> Choice:
    """The answer for one task, from every suite's records of it."""
    speaker = speaker_of(need, suites)
    if speaker is None:
        above = budgets([record for own in suites.values() for record in own])
        return Choice(task, Found.ABOVE, least=above[0]) if above else Choice(task, Found.NOTHING)
    return answer_of(need, task, speaker)


@dataclass(frozen=True)
class Speaker:
    """A suite's runs of one task that had no more than some compute, at the largest budget of each family.

    Attributes:
        left_out: families that were run with more compute only.
        card, pairs: their scorecard and comparisons, by the judge alone.
    """

    suite: str
    runs: list[Record]
    left_out: list[str]
    card: pd.DataFrame
    pairs: pd.DataFrame


def speaker_of(need: Need, suites: Mapping[str, Sequence[Record]]) -> Speaker | None:
    """The suite with the largest budget within the compute at hand, of those with a family that meets the needs."""
    found = []
    for suite, records in suites.items():
        near = as_tuned(_affordable(need, records))
        if families := _names(near):
            fitting = [family for family in families if not _unmet(need, _runs(near, family))]
            found.append(((bool(fitting), budgets(near)[-1], len(fitting), len(near), suite), near))
    if not found:
        return None
    (*_, suite), runs = max(found, key=lambda entry: entry[0])
    frame = to_frame(runs)
    frame = frame[frame["metric"] == judge_of(runs)].reset_index(drop=True)
    left_out = sorted(set(_names(suites[suite])) - set(_names(runs)))
    return Speaker(suite, runs, left_out, scorecard(frame), comparisons(frame))


def answer_of(need: Need, task: str, speaker: Speaker) -> Choice:
    """What a suite's runs say of the families that meet the needs."""
    rows = _rows(need, speaker)
    fitting = {row.family for row in rows if not row.unmet}
    left = [record for record in speaker.runs if record.role != "contestant" or record.family in fitting]
    others = speaker.pairs["family_b"].isin(fitting) | (speaker.pairs["role_b"] == "floor")
    among = speaker.pairs["family_a"].isin(fitting) & others
    said = verdicts(left, speaker.card, speaker.pairs[among])
    found, families = _found(said)
    by_value = [row.family for row in rows]
    return Choice(
        task, found, speaker.suite, sorted(families, key=by_value.index), rows, said,
        max(row.train_flops for row in rows), _below(need, rows), left_out=speaker.left_out,
        machine="; ".join(sorted({f"{record.device}, {record.threads} threads" for record in speaker.runs})),
    )  # fmt: skip


def _found(said: Sequence[Verdict]) -> tuple[Found, list[str]]:
    of: dict[Standing, list[str]] = {}
    for verdict in said:
        of.setdefault(verdict.standing, []).append(verdict.family)
    if not said:
        return Found.UNMET, []
    for standing, found in ((Standing.BEST, Found.ONE), (Standing.ONLY, Found.ONE), (Standing.OPEN, Found.SEVERAL)):
        if standing in of:
            return found, of[standing]
    if Standing.UNKNOWN in of:
        return (Found.ALONE, of[Standing.UNKNOWN]) if len(said) == 1 else (Found.UNTESTED, [])
    return (Found.UNDERTRAINED if Standing.UNDERTRAINED in of else Found.LOST), []


def _rows(need: Need, speaker: Speaker) -> list[Row]:
    """Those that meet the needs first, each by value."""
    near, judge = speaker.runs, judge_of(speaker.runs)
    cells: dict[Any, dict[Any, Any]] = (
        speaker.card[speaker.card["metric"] == judge].set_index("family").to_dict("index")
    )
    scale = scale_of(near, judge, final=True)
    higher = any(cell.get("higher_is_better") for cell in cells.values())
    rows = []
    for family in _names(near):
        own = _runs(near, family)
        cell = cells.get(family, {})
        mean = float(cell.get("mean", math.nan))
        rows.append(
            Row(
                family, judge, mean, float(cell.get("ci_low", math.nan)), float(cell.get("ci_high", math.nan)),
                math.nan if scale is None else scale.skill(mean), int(cell.get("n_ok", 0)), len(own),
                _budget(own[0]), _mean(own, "train_seconds"), _mean(own, "seconds_per_sample"), own[0].likelihood,
                _unmet(need, own), higher,
            )
        )  # fmt: skip

    def order(row: Row) -> tuple[bool, float, str]:
        return bool(row.unmet), math.inf if math.isnan(row.mean) else -row.mean if higher else row.mean, row.family

    return sorted(rows, key=order)


def _affordable(need: Need, records: Sequence[Record]) -> list[Record]:
    """Without contestants' runs that had more compute; yardsticks train nothing."""
    cells: dict[tuple[str, float], list[Record]] = {}
    for record in records:
        cells.setdefault((record.family, _budget(record)), []).append(record)
    return [
        record
        for (_, budget), own in cells.items()
        if own[0].role != "contestant"
        or (budget <= need.train_flops and not _mean(own, "train_seconds") > need.train_seconds)
        for record in own
    ]


def _unmet(need: Need, own: Sequence[Record]) -> str:
    """Which needs a family's runs do not meet."""
    seconds = _mean(own, "seconds_per_sample")
    found = []
    if not need.likelihood.met_by(own[0].likelihood):
        found.append(f"its likelihood: {own[0].likelihood.value.replace('_', ' ')}")
    if math.isfinite(need.seconds_per_sample) and not 0.0 < seconds <= need.seconds_per_sample:
        found.append(f"{seconds:.2g} s per sample" if seconds > 0.0 else "its time per sample was not measured")
    return ", ".join(found)


def _below(need: Need, rows: Sequence[Row]) -> float:
    """How many times the compute at hand is what the rows were given."""
    spent = (
        (need.train_flops, max(row.train_flops for row in rows)),
        (need.train_seconds, max(row.train_seconds for row in rows)),
    )
    return min((limit / most for limit, most in spent if math.isfinite(limit) and most > 0.0), default=1.0)


def _budget(record: Record) -> float:
    """What a run was given, else what it spent, in FLOPs."""
    return budget_of(record) or record.train_flops


def _names(records: Sequence[Record]) -> list[str]:
    return sorted({record.family for record in records if record.role == "contestant"})


def budgets(records: Sequence[Record]) -> list[float]:
    """Of contestants, in FLOPs, the smallest first."""
    return sorted({_budget(record) for record in records if record.role == "contestant"})


def _runs(records: Sequence[Record], family: str) -> list[Record]:
    return [record for record in records if record.family == family]


def _mean(own: Sequence[Record], name: str) -> float:
    """Of the runs that ended well; NaN where none did."""
    values = [getattr(record, name) for record in own if record.outcome is Outcome.OK]
    return float(np.mean(values)) if values else math.nan


# ---- what was measured, and what would be ----


def _is_asked_for(record: Record, need: Need) -> bool:
    """Another start or a corruption is another task, which only its own name asks for."""
    plain = record.source == source_name(record)
    if need.source:
        pattern, _ = named_in_files().get(need.source, (need.source, ""))
        return record.source == need.source or (plain and fnmatchcase(record.source, pattern))
    return plain and event_of(record) == need.event


def families_to_measure() -> list[str]:
    """Those that genfam-tune has a space for, so that every one can be measured like the others."""
    return sorted(path.stem for path in (configuration_folder() / "tune").glob("*.yaml"))


def measuring_command(need: Need) -> str:
    """What would measure families on such a task; FOLDER stands where the files have to be there first.

    Of sources of a kind of event it takes one that needs no files, if there is one, and no variant of another.
    """
    kinds = kinds_of_event()
    texts = {stem: (configuration_folder() / "source" / f"{stem}.yaml").read_text(encoding="utf-8") for stem in kinds}
    files = {stem for stem, text in texts.items() if re.search(r"^  (download|folder):", text, re.M)}
    sources = [need.source] if need.source in kinds else [stem for stem, kind in kinds.items() if kind == need.event]
    if not sources:
        return ""
    source = min(sources, key=lambda stem: (stem in files, "*" in named_in_files()[stem][0], len(stem)))
    words = ["genfam", "-m", "+suite=quick", f"source={source}"]
    words += ["data_dir=FOLDER"] if source in files else []
    words += [f"condition={need.condition}"] if need.condition != "nothing" else []
    words += [f"budget.train_flops={need.train_flops:g}"] if math.isfinite(need.train_flops) else []
    return " ".join(words)
