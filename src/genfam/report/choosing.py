"""Which family to take, in words: `genfam.comparing.choice`'s answers for the terminal, the page and the docs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from genfam.comparing.choice import (
    FAR,
    Choice,
    Found,
    Need,
    Needed,
    Row,
    answer_of,
    budgets,
    choose,
    choose_among,
    families_to_measure,
    measuring_command,
    speaker_of,
)
from genfam.comparing.suites import ALONGSIDE, compares_families, kinds_of_event
from genfam.comparing.verdicts import Standing
from genfam.report.tables import choice as standings
from genfam.report.tables import clean, number
from genfam.types import Likelihood, Record

UNKNOWN = {Found.UNTESTED, Found.LOST, Found.ABOVE, Found.NOTHING}
LIKELIHOODS = {
    Likelihood.EXACT: "exact likelihood", Likelihood.LOWER_BOUND: "bound on the likelihood",
    Likelihood.ESTIMATE: "estimate of the likelihood", Likelihood.UNNORMALISED: "unnormalised likelihood",
    Likelihood.NONE: "no likelihood",
}  # fmt: skip


def text(need: Need, found: Sequence[Choice], suites: Mapping[str, Sequence[Record]]) -> list[str]:
    """All that the terminal shows, line by line; suites as `choose` had them."""
    lines = []
    for choice in found:
        lines += [f"{choice.task}: {recommendation(choice)}", *(f"  {line}" for line in evidence(choice))]
        lines += [f"  {line}" for line in (caution(choice), *missing(need, choice, suites)) if line]
    lines += [line for line in [everywhere(found)] if line]
    return [clean_line(line) for line in lines]


def clean_line(line: str) -> str:
    """`clean`, with the spaces that put numbers below one another."""
    return line if line.isprintable() else clean(line)


def missing(need: Need, found: Choice, suites: Mapping[str, Sequence[Record]]) -> list[str]:
    """Where we do not know, or not at such a compute: what was measured on such events, and what would tell."""
    if found.found not in UNKNOWN and not found.below > FAR:
        return []
    kinds = kinds_of_event()
    kind = kinds.get(need.source, "")
    lines = []
    if found.found is Found.NOTHING and kind:
        alike = choose(replace(need, source="", event=kind), suites)
        names = ", ".join(choice.task for choice in alike if choice.found is not Found.NOTHING)
        lines += [f"of events of the same kind was measured: {names} (event={kind})"] if names else []
    own = replace(need, source=found.task, event="") if found.task in kinds else need
    if command := measuring_command(own):
        lines += [f"this would tell: {command}", f"then: {asked(own)} output_dir=outputs"]
    return lines


def asked(need: Need) -> str:
    """The command that states such a need."""
    usual = Need()
    given = [(f.name, getattr(need, f.name)) for f in fields(need) if getattr(need, f.name) != getattr(usual, f.name)]
    return " ".join(["genfam-choose", *(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in given)])


def recommendation(found: Choice) -> str:
    """Whom to take, or why that is not known, as a sentence."""
    names = " or ".join(part for part in (", ".join(found.families[:-1]), *found.families[-1:]) if part)
    seeds = found.verdicts[0].seeds if found.verdicts else 0
    if any(verdict.standing is Standing.ONLY for verdict in found.verdicts):
        return f"take {names}: of those that meet the needs the only one that beats the fitted Gaussian."
    if found.found is Found.SEVERAL:
        return f"take {names}: not separated with {seeds} seeds, so choose by cost."
    if found.found is Found.ALONE:
        return f"take {names}: {found.found.value}, so it was compared with nobody."
    if found.found is Found.ABOVE:
        return f"we do not know: {found.found.value}; the smallest budget was {found.least:.3g} FLOPs."
    if found.found is Found.ONE:
        return f"take {names}: clearly better than every other that meets the needs, with {seeds} seeds."
    return f"{'we do not know' if found.found in UNKNOWN else 'take none'}: {found.found.value}."


def caution(found: Choice) -> str:
    """What a reader must know beside it; empty where there is nothing."""
    if not found.below > FAR:
        return ""
    return (
        f"The compute stated is {found.below:.0f} times that of the largest budget measured here "
        f"({found.budget:.3g} FLOPs): with so much more, the order may be another."
    )


def evidence(found: Choice) -> list[str]:
    """The rows that an answer rests on, a line each, then what the verdicts say of them."""
    if not found.rows:
        return []
    first = found.rows[0]
    direction = "higher" if first.higher_is_better else "lower"
    width = max(len(row.family) for row in found.rows)
    lines = [
        f"rests on {found.suite}, judged by {first.judge} ({direction} is better; skill 0 as the fitted Gaussian, 1 as "
        f"fresh real data; seconds on {found.machine}):"
    ]
    lines += [f"  {row.family:{width}}  {numbers(row)}" for row in found.rows]
    if found.found is not Found.UNDERTRAINED and (said := standings(found.task, found.verdicts)):
        lines.append("; ".join(said))
    if found.left_out:
        lines.append(f"measured with more compute only: {', '.join(found.left_out)}")
    if missing := sorted(set(families_to_measure()) - {row.family for row in found.rows} - set(found.left_out)):
        lines.append(f"not measured there, so not in question: {', '.join(missing)}")
    return lines


def numbers(row: Row) -> str:
    """A family's numbers, with which needs it does not meet."""
    half = None if math.isnan(row.low) else (row.high - row.low) / 2.0
    skill = "" if math.isnan(row.skill) else f", skill {row.skill:.2f}"
    value = "no number" if math.isnan(row.mean) else f"{number(row.mean, half)}{skill}"
    cost = f"{row.train_flops:.3g} FLOPs"
    cost += "" if math.isnan(row.train_seconds) else f" in {row.train_seconds:.3g} s"
    cost += f", {row.seconds_per_sample:.2g} s per sample" if row.seconds_per_sample > 0.0 else ""
    unmet = f" [does not meet the needs: {row.unmet}]" if row.unmet else ""
    return f"{value}; {row.seeds} of {row.runs} seeds; {cost}; {LIKELIHOODS[row.likelihood]}{unmet}"


def everywhere(found: Sequence[Choice]) -> str:
    """Of several sources of one kind: the families that may be taken on each. Across sources nothing is tested."""
    known = [choice for choice in found if choice.families]
    if len(known) < 2:
        return ""
    common = sorted(set.intersection(*(set(choice.families) for choice in known)))
    where = f"{len(known)} sources of this kind"
    if common:
        return f"May be taken on each of {where}: {', '.join(common)}."
    return f"No family may be taken on each of {where}: the source decides, so measure yours."


# ---- on the page ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """One answer of the page's form: it holds from these limits on, up to the next row's.

    Attributes:
        train_flops, seconds_per_sample: the least that a reader must allow.
    """

    source: str
    likelihood: str
    train_flops: float
    seconds_per_sample: float
    families: list[str]
    text: str


def answers(suite: str, records: Sequence[Record]) -> list[Answered]:
    """Of every source and likelihood an answer per limit at which it changes, the loosest limits last.

    Args:
        suite: its name; of one that compares no families there are none.
        records: all of it, at every budget.
    """
    if not compares_families(suite, ALONGSIDE):
        return []
    found: list[Answered] = []
    for source in sorted({record.task for record in records}):
        own = {suite: [record for record in records if record.task == source]}
        steps = budgets(own[suite])
        below = choose_among(Need(train_flops=0.0), source, own)
        speakers = [(flops, speaker_of(Need(train_flops=flops), own)) for flops in steps]
        for likelihood in Needed:
            found.append(Answered(source, likelihood.value, 0.0, 0.0, [], _short(below)))
            for flops, speaker in speakers:
                assert speaker is not None  # something was measured at each of these budgets
                costs = {row.seconds_per_sample for row in answer_of(Need(), source, speaker).rows}
                for seconds in sorted({0.0, math.inf} | {cost for cost in costs if cost > 0.0}):
                    need = Need(likelihood=likelihood, train_flops=flops, seconds_per_sample=seconds)
                    made = answer_of(need, source, speaker)
                    said = Answered(source, likelihood.value, flops, seconds, made.families, _short(made))
                    if _said(found[-1]) != _said(said):
                        found.append(said)
    return found


def _said(answered: Answered) -> tuple[object, ...]:
    """All but from which time per sample on it holds."""
    return answered.source, answered.likelihood, answered.train_flops, answered.families, answered.text


def _short(found: Choice) -> str:
    """The recommendation with its families' numbers, for one cell."""
    rows = [f"{row.family} {numbers(row)}" for row in found.rows if row.family in found.families]
    said = recommendation(found)
    judged = f" By {found.rows[0].judge}:" if rows else ""
    return f"{said[:1].upper()}{said[1:]}{judged}" + "".join(f" {row}." for row in rows)
