"""The page: one HTML file that opens by double click and needs no network, from the same tables as the scorecard."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from genfam import glossary
from genfam.comparing.choice import FAR
from genfam.comparing.corruption import source_name
from genfam.comparing.published_numbers import compare, ours_of, settings_of, theirs
from genfam.comparing.stability import final_skills
from genfam.files import write_atomically
from genfam.records.sampling_costs import of_suite
from genfam.records.store import as_tuned
from genfam.report import corruption, dimension, fronts, interactive, scaling
from genfam.report.answer import ASPECTS, Answer, answer, sentence
from genfam.report.charts import Chart, chart
from genfam.report.choosing import Answered, answers
from genfam.report.cost_charts import cost_chart
from genfam.report.costs import Costs, costs, rows_of, yardsticks
from genfam.report.findings import Findings
from genfam.report.page_samples import Samples, samples_of
from genfam.report.page_tables import RunRow, ScoreRow, SkillRow, run_rows, score_rows, skill_rows
from genfam.report.pictures import Drawn
from genfam.report.sections import Section
from genfam.report.series import by_learning_rate, curves, diagnosed, diagnosis, first_traced
from genfam.report.style import Look, looks, slug
from genfam.report.tables import Summary, clean, headline
from genfam.types import Record

NAME = "report.html"


@dataclass(frozen=True)
class Family:
    """A family in the page's legend; `role` as in the tables, `about` empty for one from outside the package."""

    name: str
    role: str
    colour: str
    about: str


@dataclass(frozen=True)
class Source:
    """A source's charts and what was spent on each run; a chart is None where records cannot give it.

    `cost_rows` are the points of `cost` where some were measured at other solver steps than the run's.
    """

    name: str
    about: str
    budget: str
    answer: Answer
    headline: Chart | None
    compute: Chart | None
    cost: Chart | None
    cost_rows: list[Mapping[str, str]]
    front: Chart | None
    front_rows: list[dict[str, str]]
    samples: Samples
    trajectories: list[Chart]
    reach: Chart | None
    rates: Chart | None
    trial: Chart | None


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    summary: Summary
    choices: list[Answered]
    skills: list[SkillRow]
    left_out: list[str]  # contestants that the skills do not count: not run as often on every source
    families: list[Family]
    sources: list[Source]
    scores: list[ScoreRow]
    runs: list[RunRow]
    configurations: list[str]
    diagnoses: list[tuple[str, str, int, str]]
    profile: Chart | None
    papers: list[dict[str, str]]
    sections: list[Section]
    published: bool
    made: str


def write_page(
    path: Path, store: Path, records: Sequence[Record], found: Findings, summary: Summary,
    drawn: Mapping[str, Mapping[str, Drawn]], *, published: bool = False,
) -> Path:  # fmt: skip
    """Write the page atomically and return its path.

    Args:
        path: where to.
        store: folder of the runs (or of the published records), to which its links lead.
        records: of the suite, every learning rate.
        found: their tables.
        summary: the same in words.
        drawn: source -> family -> what its run drew.
        published: whether `store` is a folder of published records, which has no samples.
    """
    write_atomically(path, render(build(path, store, records, found, summary, drawn, published=published)))
    return path


def build(
    path: Path, store: Path, records: Sequence[Record], found: Findings, summary: Summary,
    drawn: Mapping[str, Mapping[str, Drawn]], *, published: bool,
) -> Page:  # fmt: skip
    """Tables and records -> what the page shows; see `write_page`."""
    roles = {record.family: record.role for record in records}
    families = looks(roles)
    tuned = as_tuned(records)
    kinds = {f"{record.task} {record.family}": record.likelihood.value for record in tuned}
    rates = by_learning_rate(records) if len({record.learning_rate_factor for record in records}) > 1 else {}
    runs, configurations = run_rows(records, found.card, path, store, published=published)
    skills = final_skills(records)
    by_steps = of_suite(store, tuned)
    everywhere = {source for own in skills.values() for source in own}
    whole = {family: own for family, own in skills.items() if own.keys() == everywhere}
    return Page(
        summary,
        answers(summary.suite, records),
        skill_rows(found.aggregate),
        sorted(skills.keys() - set(found.aggregate["family"])) if len(found.aggregate) else [],
        [Family(name, roles[name], look.colour, _about(name, records)) for name, look in families.items()],
        [
            _source(
                source,
                tuned,
                found,
                families,
                roles,
                drawn.get(source, {}),
                store,
                rates.get(source),
                by_steps,
                published=published,
            )
            for source in sorted({record.task for record in records})
        ],
        score_rows(found.card, roles, list(families), kinds),
        runs,
        configurations,
        _diagnoses(tuned),
        _profile(whole, families),
        _papers(found, tuned),
        _sections(found, families, roles),
        published,
        summary.facts.get("report made at", ""),
    )


def _about(family: str, records: Sequence[Record]) -> str:
    """What the legend says of a family."""
    computes = {record.train_flops for record in records if record.is_guest and record.family == family}
    if computes:
        told = [f"{flops:.3g} FLOPs as stated" if flops else "compute not stated" for flops in sorted(computes)]
        return f"guest, {', '.join(told)}: samples from elsewhere, measured in the same way and not ranked"
    return glossary.FAMILIES.get(family, "")


def _sections(found: Findings, families: Mapping[str, Look], roles: Mapping[str, str]) -> list[Section]:
    """Those that only some suites have."""
    made = (
        scaling.section(found.scaling, found.card, families, roles),
        dimension.section(found.dimension, families),
        corruption.section(found.corruption, families),
    )
    return [section for section in made if section is not None]


def render(page: Page) -> str:
    """The page as HTML. Every name is escaped, and no script runs but the page's own two (by their hashes)."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genfam.report"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, autoescape=True,
    )  # fmt: skip
    environment.filters["sentence"] = sentence
    environment.globals["aspects"] = ASPECTS
    environment.filters["clean"] = clean
    environment.filters["limit"] = lambda value: "Infinity" if math.isinf(value) else repr(value)
    environment.filters["definition"] = glossary.metric
    templates = resources.files("genfam.report") / "templates"
    scripts = [get_plotlyjs(), (templates / "report.js").read_text(encoding="utf-8")]
    style = (templates / "report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(
        page=page, legend=page.summary.legend, far=FAR, themed=interactive.THEMED, style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        hashes=[_hash(script) for script in scripts],
    )  # fmt: skip


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _source(
    source: str, records: Sequence[Record], found: Findings, families: Mapping[str, Look], roles: Mapping[str, str],
    drawn: Mapping[str, Drawn], store: Path, rates: Mapping[str, Mapping[float, Sequence[float]]] | None,
    by_steps: pd.DataFrame, *, published: bool,
) -> Source:  # fmt: skip
    own = [record for record in records if record.task == source]
    contestants = [family for family in families if roles[family] == "contestant"]
    key = slug(source)
    metric = headline(found.card, source)
    spent = costs(found.card, source, contestants, by_steps)
    sharpened = fronts.fronts(by_steps, source, contestants)
    own_kinds = {record.family: record.likelihood.value for record in own}
    said = answer(source, found.card, found.stability, found.metric_trial, contestants, found.verdicts, own_kinds)
    return Source(
        source,
        glossary.source(source_name(own[0])),
        _budget(own),
        said,
        _headline(source, metric, found, families, roles, said) if metric else None,
        _compute(source, own, families, roles),
        _cost(source, spent, found, families, roles, contestants),
        rows_of(spent) if spent.lines else [],
        _front(source, sharpened, families),
        fronts.rows_of(sharpened),
        samples_of(source, drawn, families, store / "figures", published=published),
        [
            chart(
                f"trajectory-{key}-{place}", interactive.trajectory_chart(record),
                f"{record.family}: {diagnosed(record)}",
                f"Samples per mode of {record.family} on {source} over training, seed {record.seed}; "
                f"diagnosis: {diagnosed(record)}",
            )
            for place, record in enumerate(first_traced(own, families))
        ],
        _reach(source, own, families),
        _rates(source, rates, families),
        _trial(source, found),
    )  # fmt: skip


def _headline(
    source: str, metric: str, found: Findings, families: Mapping[str, Look], roles: Mapping[str, str], said: Answer
) -> Chart | None:
    frame = found.frame
    rows = found.card[(found.card["source"] == source) & (found.card["metric"] == metric) & (found.card["n_ok"] > 0)]
    if not any(roles[str(family)] == "contestant" for family in rows["family"]):
        return None
    runs = frame[(frame["source"] == source) & (frame["metric"] == metric)]
    runs = runs[(runs["outcome"] == "ok") & (runs["status"] == "ok")]
    figure = interactive.headline_chart(rows.to_dict("records"), runs, families, roles)
    better = "higher" if rows["higher_is_better"].iloc[0] else "lower"
    told = next(sentence(claim) for claim in said.claims if claim.metric == metric and claim.aspect != "choice")
    label = f"{metric} of every family on {source} with 95 % intervals. {told}"
    return chart(f"headline-{slug(source)}", figure, f"{source}: {metric}, {better} is better", label)


def _compute(
    source: str, own: Sequence[Record], families: Mapping[str, Look], roles: Mapping[str, str]
) -> Chart | None:
    found = curves(own, families)
    if found is None:
        return None
    ends = {family: means[max(means)] for family, means in found.means.items() if means}
    order = ", ".join(f"{family} {ends[family]:.3g}" for family in sorted(ends, key=lambda name: ends[name]))
    label = f"{found.metric} on {source} over training FLOPs; means at the end: {order}."
    return chart(
        f"compute-{slug(source)}", interactive.compute_chart(found, families, roles), f"{source}: {found.metric}", label
    )


def _cost(
    source: str, spent: Costs, found: Findings, families: Mapping[str, Look], roles: Mapping[str, str],
    contestants: Sequence[str],
) -> Chart | None:  # fmt: skip
    if not spent.points:
        return None
    marks = yardsticks(found.card, source, spent.metric, contestants)
    names = ", ".join(dict.fromkeys(point.family for point in spent.front))
    front = ", ".join(f"{p.name} ({p.evaluations:g} evaluations, {p.mean:.3g})" for p in spent.front)
    label = f"{spent.metric} on {source} over network evaluations per sample. On the Pareto front: {front}."
    figure = cost_chart(spent, families, marks, roles)
    return chart(f"cost-{slug(source)}", figure, f"{source}: {spent.metric}. Pareto front: {names}", label)


def _front(source: str, points: Sequence[fronts.FrontPoint], families: Mapping[str, Look]) -> Chart | None:
    if not points:
        return None
    label = f"Precision over recall on {source}, a line per family over guidance or temperature."
    return chart(
        f"front-{slug(source)}", fronts.front_chart(points, families), f"{source}: quality and diversity", label
    )


def _reach(source: str, own: Sequence[Record], families: Mapping[str, Look]) -> Chart | None:
    traced = [record for record in own if record.trace is not None and record.trace.points]
    if not traced:
        return None
    label = f"Modes reached over training on {source}, relative to as many fresh real events, a line per run."
    return chart(f"reach-{slug(source)}", interactive.reach_chart(own, families), f"{source}: modes reached", label)


def _rates(
    source: str, rates: Mapping[str, Mapping[float, Sequence[float]]] | None, families: Mapping[str, Look]
) -> Chart | None:
    if not rates:
        return None
    label = f"Skill at the end of training on {source} over the factor on the learning rate."
    return chart(
        f"rates-{slug(source)}", interactive.learning_rates_chart(rates, families), f"{source}: sensitivity", label
    )


def _trial(source: str, found: Findings) -> Chart | None:
    trial = found.metric_trial
    rows = trial[(trial["source"] == source) & trial["tau"].notna()].sort_values("tau", ascending=False)
    if not len(rows):
        return None
    entries: list[dict[Any, Any]] = rows.to_dict("records")
    told = ", ".join(f"{row['metric']} {row['tau']:.2f}" for row in entries)
    truth = f"{entries[0]['truth']} over {entries[0]['n_runs']} runs"
    label = f"Rank correlation of each metric with {truth} on {source}: {told}."
    return chart(f"trial-{slug(source)}", interactive.trial_chart(entries), f"{source}: agreement with {truth}", label)


def _profile(skills: Mapping[str, Mapping[str, Sequence[float]]], families: Mapping[str, Look]) -> Chart | None:
    if not skills:
        return None
    label = "Share of runs above each skill, all sources together, a curve per family; higher is better."
    return chart(
        "profile", interactive.profile_chart(skills, families), "All sources: share of runs above a skill", label
    )


def _papers(found: Findings, records: Iterable[Record]) -> list[dict[str, str]]:
    """A row per published number of a cell that this suite has, with ours and what differs in protocol."""
    compared = compare([found.card], settings_of(records))
    rows: list[dict[Any, Any]] = compared[compared["ours"].notna()].to_dict("records")
    plain = ("source", "metric", "model", "family", "same_protocol", "differences", "paper", "table")
    return [{key: str(row[key]) for key in plain} | {"theirs": theirs(row), "ours": ours_of(row)} for row in rows]


def _diagnoses(records: Iterable[Record]) -> list[tuple[str, str, int, str]]:
    """(source, family, seed, failures by name) of every run that shows one."""
    found = [(record.task, record.family, record.seed, ", ".join(diagnosis(record) or [])) for record in records]
    return [entry for entry in found if entry[3]]


def _budget(records: Sequence[Record]) -> str:
    """What the runs of a source may spend, from their configurations: one budget, or that they differ."""
    budgets = Counter(
        (float(budget["train_flops"]), int(budget["parameters"]))
        for record in records
        if not record.is_guest
        and isinstance(budget := record.config.get("budget"), Mapping)
        and {"train_flops", "parameters"} <= budget.keys()
    )
    if not budgets:
        return "not recorded"
    return " or ".join(
        f"{flops:.2g} training FLOPs, {parameters:,} parameters" for flops, parameters in sorted(budgets)
    )
