"""What pages say of results: written when the site is built, from results/*/records.jsonl.gz, never typed in.

A page holds `<!-- results: NAME -->`; NAME is one of `BLOCKS`. Of the suites that have a source, the one with the
largest training budget there speaks for it. Rankings and sentences are those of the report (`genfam.report.answer`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from blocks import filled, power

from genfam.comparing.choice import Need, Needed, choose
from genfam.comparing.suites import compares_families, event_of, suites_in
from genfam.records.store import load_published
from genfam.report.answer import Answer, answer, sentence
from genfam.report.choosing import recommendation
from genfam.report.findings import Findings, findings
from genfam.report.markdown import escape
from genfam.report.tables import KIND_MARKS, cell, headline, together
from genfam.types import Kind

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"known": "Worlds whose truth is known", "images": "Images", "sequences": "Sequences", "rows": "Tables"}
_EVENTS = {"sequence": "sequences", "rows": "rows"}  # /event: of a source that is neither known nor of images
COLUMNS = ("coverage", "high_quality_share", "total_variation", "nll_nats", "evaluations_per_sample")
SMALL_WORLDS = ("die", "tiny_images")


@dataclass(frozen=True)
class Suite:
    """A published suite and what its records say.

    Attributes:
        contestants: families that compete.
        likelihoods: (source, family) -> kind of its likelihood.
    """

    name: str
    provenance: dict[str, Any]
    found: Findings
    contestants: list[str]
    likelihoods: dict[tuple[str, str], str]

    @property
    def card(self) -> pd.DataFrame:
        """The scorecard, with who leads."""
        return self.found.card

    def flops(self, source: str) -> float:
        """Training FLOPs of a contestant's run on a source, the mean over families."""
        own = self.card[(self.card["source"] == source) & (self.card["metric"] == "train_flops")]
        return float(own.loc[own["family"].isin(self.contestants), "mean"].mean())


@cache
def suites(results: Path = ROOT / "results") -> tuple[Suite, ...]:
    """All published suites that compare families; the one that was published first comes first."""
    there = [path.parent for path in results.glob("*/provenance.json") if compares_families(path.parent.name)]
    found = []
    for folder in there:
        records = load_published(folder)
        if all(record.is_guest for record in records):
            continue
        found.append(
            Suite(
                folder.name,
                json.loads((folder / "provenance.json").read_text(encoding="utf-8")),
                findings(records),
                sorted({record.family for record in records if record.role == "contestant"}),
                {(record.task, record.family): record.likelihood.value for record in records},
            )
        )
    return tuple(sorted(found, key=lambda suite: suite.provenance["date"]))


@cache
def speakers(results: Path = ROOT / "results") -> dict[str, Suite]:
    """Source -> the suite that speaks for it; known worlds before images, each in alphabetical order."""
    owners: dict[str, Suite] = {}
    for suite in suites(results):
        for source in suite.card["source"].unique():
            if source not in owners or suite.flops(source) >= owners[source].flops(source):
                owners[source] = suite
    return dict(sorted(owners.items(), key=lambda item: (list(KINDS).index(kind(item[0])), item[0])))


def kind(source: str) -> str:
    """A key of `KINDS`."""
    if "genfam.sources.known." in _yaml(source):
        return "known"
    event = re.search(r"^  - /event: (\w+)$", _yaml(source), re.M)
    return _EVENTS.get(event[1] if event else "", "images")


def description(source: str) -> str:
    """The first comment of the source's YAML, less what to type."""
    comments = re.findall(r"^# (?!@)(.+)$", _yaml(source), re.M)
    return re.split(r"[:.,;] (?:data_dir|source\.)", comments[0])[0].rstrip(".") + "." if comments else ""


def _yaml(source: str) -> str:
    path = ROOT / "conf" / "source" / f"{source}.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def answers(results: Path = ROOT / "results") -> Iterator[tuple[str, Suite, Answer]]:
    """(source, the suite that speaks for it, the answer)."""
    for source, suite in speakers(results).items():
        here = [family for family in suite.contestants if (source, family) in suite.likelihoods]
        kinds = {family: suite.likelihoods[source, family] for family in here}
        found = suite.found
        yield (
            source,
            suite,
            answer(source, found.card, found.stability, found.metric_trial, here, found.verdicts, kinds),
        )


def by_source() -> str:
    """Per source: what it is, what was spent, the answer in sentences, the table."""
    parts = []
    for source, suite, found in answers():
        own = suite.card[suite.card["source"] == source]
        runs = own.loc[own["family"].isin(suite.contestants), "n_runs"]
        lines = [f"- **{v.aspect.capitalize()}**{_metric(v.metric)}: {escape(sentence(v))}" for v in found.claims]
        warning = [f'!!! warning ""\n\n    {escape(found.warning)}'] if found.warning else []
        answered = ["\n".join(lines), *warning, table(source, suite), *_pictures(source, suite)]
        spent_here = f"Up to {runs.max()} seeds of {power(suite.flops(source))} FLOPs, `results/{suite.name}`."
        parts += [f"### {escape(source)}", f"{escape(description(source))} {spent_here}", *answered]
    return "\n\n".join(parts)


def _metric(name: str) -> str:
    return f" (`{name}`)" if name and name != "evaluations_per_sample" else ""


def _pictures(source: str, suite: Suite) -> list[str]:
    """Samples beside real data, where they are published."""
    path = f"results/{suite.name}/figures/samples_{source}.png"
    return [f"![{source}: samples of every family beside real data](../{path})"] if (ROOT / path).exists() else []


def table(source: str, suite: Suite) -> str:
    """The families' numbers on a source: its headline and `COLUMNS`, as far as they were measured."""
    own = suite.card[suite.card["source"] == source]
    leading = headline(own, source)
    measured = set(own.loc[own["n_ok"] > 0, "metric"])
    columns = [name for name in (leading, *COLUMNS) if name in measured]
    rows = {(str(r["family"]), str(r["metric"])): r for r in own.to_dict("records")}

    def shown(family: str, metric: str) -> str:
        row = rows.get((family, metric))
        bound = row is not None and row["kind"] == Kind.LIKELIHOOD.value
        made = cell(row, KIND_MARKS.get(suite.likelihoods.get((source, family), ""), "") if bound else "")
        text = escape(made.text.removesuffix(" ± 0"))
        return f"**{text}**" if made.leads else text

    def order(family: str) -> tuple[bool, float, str]:
        mean = rows.get((family, str(leading)), {"mean": math.inf})["mean"]
        return family not in suite.contestants, mean, family

    families = sorted(own["family"].unique(), key=order)
    arrows = {row["metric"]: "↑" if str(row["higher_is_better"]) == "True" else "↓" for row in own.to_dict("records")}
    head = " | ".join(f"{escape(name)} {arrows[name]}" for name in columns)
    lines = [f"| family | {head} |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {escape(f)} | " + " | ".join(shown(f, name) for name in columns) + " |" for f in families]
    return "\n".join(lines)


Counts = dict[tuple[str, str], list[int]]


def leads(key: str) -> Counts:
    """(family, aspect) -> how many sources of a kind it leads alone, leads with others, and has a number on.

    A source whose headline is in doubt has no say in the distance.
    """
    counts: Counts = {}
    for source, suite, found in answers():
        for claim in found.claims if kind(source) == key else ():
            if claim.aspect == "distance" and found.warning:
                continue
            for family in _measured(suite, source, claim.metric):
                entry = counts.setdefault((family, claim.aspect), [0, 0, 0])
                entry[2] += 1
                if family in claim.best:
                    entry[len(claim.best) > 1] += 1
    return counts


def tally() -> str:
    """Per kind of source, a row per family: how often it leads in what, alone or with others not separated from it."""
    parts = []
    for key, title in KINDS.items():
        counts = leads(key)
        aspects = list(dict.fromkeys(aspect for _, aspect in counts))
        lines = [f"| {title} | " + " | ".join(aspects) + " |", "|---|" + "---|" * len(aspects)]
        lines += [
            f"| {escape(family)} | " + " | ".join(_led(counts.get((family, aspect))) for aspect in aspects) + " |"
            for family in sorted({family for family, _ in counts})
        ]
        parts += ["\n".join(lines)] if counts else []
    return "\n\n".join(parts)


def pictures() -> str:
    """Who leads on images, the most often leading first."""
    counts, parts = leads("images"), []
    for aspect in ("distance", "coverage"):
        own = {family: counts[family, about] for family, about in counts if about == aspect}
        order = sorted(own, key=lambda family: (-own[family][0] - own[family][1], family))
        parts.append(f"{aspect}: " + ", ".join(f"{family} {_led(own[family])}" for family in order))
    return f"Led on images, alone or not separated from others that do; {'; '.join(parts)}."


def _measured(suite: Suite, source: str, metric: str) -> list[str]:
    """Contestants that have a number; all of them where the aspect has no metric (stability)."""
    own = suite.card[(suite.card["source"] == source) & (suite.card["metric"] == metric) & (suite.card["n_ok"] > 0)]
    return [family for family in suite.contestants if not metric or family in set(own["family"])]


def _led(counts: list[int] | None) -> str:
    """`2 (1 alone) of 5`."""
    if counts is None:
        return "–"
    alone, shared, measured = counts
    return f"{alone + shared} of {measured}" + (f" ({alone} alone)" if alone else "")


def separated() -> str:
    """How many pairs of contestants the headline tells apart with the seeds that there are."""
    apart = pairs = 0
    for source, suite in speakers().items():
        pairs_of = suite.found.comparisons
        own = pairs_of[(pairs_of["source"] == source) & (pairs_of["metric"] == headline(suite.card, source))]
        own = own[own["role_b"] == "contestant"]
        pairs, apart = pairs + len(own), apart + int((own["better"].fillna("") != "").sum())
    return (
        f"Of {pairs} pairs of families on {len(speakers())} sources, their judges tell {apart} apart with the "
        f"seeds that were run; {pairs - apart} are not separated."
    )


def losses() -> str:
    """How many runs of which family were lost, and where."""
    seen: dict[str, float] = {}
    lost: dict[str, list[str]] = {}
    for source, suite in speakers().items():
        stability = suite.found.stability
        own = stability[(stability["source"] == source) & (stability["entry"] == "lost")]
        for row in own.to_dict("records"):
            family = str(row["family"])
            seen[family] = seen.get(family, 0) + row["n"]
            where = [f"{source} {row['value'] * row['n']:.0f} of {row['n']:.0f}"] if row["value"] > 0 else []
            lost[family] = lost.get(family, []) + where
    rows = [f"| {family} | {seen[family]:.0f} | {', '.join(lost[family]) or 'none'} |" for family in sorted(lost)]
    return "\n".join(["| family | runs | diverged, or ended worse than the fitted Gaussian |", "|---|--:|---|", *rows])


def calls() -> str:
    """Network calls per sample, by family."""
    found: dict[str, list[float]] = {}
    for source, suite in speakers().items():
        own = suite.card[(suite.card["source"] == source) & (suite.card["metric"] == "evaluations_per_sample")]
        for row in own[own["family"].isin(suite.contestants)].to_dict("records"):
            found.setdefault(str(row["family"]), []).append(row["mean"])
    spans = {family: sorted({min(values), max(values)}) for family, values in sorted(found.items())}
    listed = ", ".join(f"{family} {' to '.join(f'{value:,.0f}' for value in span)}" for family, span in spans.items())
    return f"Network calls per sample over these sources: {listed}."


def overall() -> str:
    """Every suite's skill over all its sources, where there are enough of them, with its picture."""
    parts = []
    for suite in reversed(suites()):
        origin = suite.provenance
        skills = together(suite.found.aggregate) or ["too few sources for a number over all of them"]
        lines = "\n".join(f"- {escape(line)}" for line in skills)
        picture = f"results/{suite.name}/figures/headline.png"
        title = f"{suite.name}: each source's judge relative to the oracle's value"
        parts += [
            f"**{suite.name}** ({sum(origin['runs'].values())} runs on {'; '.join(origin['devices'])}, "
            f"{origin['date'][:10]}, code `{', '.join(origin['code_versions'])}`):",
            lines,
            *([f"![{title}](../{picture})"] if (ROOT / picture).exists() else []),
        ]
    return "\n\n".join(parts)


def small_worlds() -> str:
    """Every family's total variation on the sources whose states can be listed, by the suite with most families."""
    columns: dict[str, dict[str, str]] = {}
    for source in SMALL_WORLDS:
        there = [suite for suite in suites() if source in set(suite.card["source"])]
        if suite := max(there, key=lambda suite: len(suite.contestants), default=None):
            own = suite.card[(suite.card["source"] == source) & (suite.card["metric"] == "total_variation")]
            title = f"{source}, `results/{suite.name}`"
            columns[title] = {str(row["family"]): cell(row).text for row in own.to_dict("records")}
    if not columns:
        return "No suite with these sources is published yet."
    yardsticks = {"gaussian", "oracle"}
    families = sorted({family for own in columns.values() for family in own}, key=lambda f: (f in yardsticks, f))
    lines = ["| total variation ↓ | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {escape(f)} | " + " | ".join(own.get(f, "–") for own in columns.values()) + " |" for f in families]
    return "\n".join(lines)


def choices() -> str:
    """What `genfam-choose` answers on every published source, for each likelihood that may be needed."""
    there = suites_in(ROOT / "results")
    tasks = {(event_of(r), r.source, r.condition) for records in there.values() for r in records}
    lines = ["| kind of event | data | no likelihood needed | a bound | an exact one |", "|---|---|---|---|---|"]
    for event, source, condition in sorted(tasks):
        needs = [Need(source, condition=condition, likelihood=needed) for needed in reversed(Needed)]
        found = [choose(need, there)[0] for need in needs]
        cells = [event or "another", found[0].task, *map(recommendation, found)]
        lines.append(f"| {' | '.join(map(escape, cells))} |")
    return "\n".join(lines)


BLOCKS = {
    "by_source": by_source, "tally": tally, "pictures": pictures, "separated": separated, "losses": losses,
    "calls": calls, "overall": overall, "small_worlds": small_worlds, "choices": choices,
}  # fmt: skip


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """See `blocks.filled`."""
    return filled(markdown, page, "results", BLOCKS)
