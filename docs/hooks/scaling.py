"""What pages say of suites that vary a number: written when the site is built, never typed in.

A page holds `<!-- scaling: tables -->`. Tables and sentences are those of the report (`genfam.report`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from blocks import filled

from genfam.comparing.corruption import corruption_table
from genfam.comparing.dimension import dimension_table
from genfam.comparing.scaling import scaling
from genfam.records.sampling_costs import of_suite
from genfam.records.store import PUBLISHED, load_published
from genfam.report.corruption import section as corruption_section
from genfam.report.dimension import section as dimension_section
from genfam.report.markdown import escape
from genfam.report.scaling import fits_table, pairs_table
from genfam.report.sections import SectionTable
from genfam.report.style import looks, slug
from genfam.types import Record

ROOT = Path(__file__).resolve().parents[2]
IN_STEPS = ("mean_flow", "reflow")
IN_ONE = ("gan", "normalizing_flow", "vae")  # by nature
YARDSTICKS = ("floor", "oracle")
DIVERSITY = ("precision", "recall", "coverage", "within_class_variance")


def tables(results: Path = ROOT / "results") -> str:
    """Per suite and source: the picture, values and exponents, who overtakes whom."""
    parts = []
    for suite in ("scaling", "scaling_mnist"):
        folder, records, said = published(results, suite)
        found = scaling(records)
        parts.append(said)
        for source in found.points["source"].unique():
            parts.append(f"### {escape(source)}")
            picture = folder / "figures" / f"scaling_{slug(source)}.png"
            if picture.exists():
                where = f"../results/{suite}/figures/{picture.name}"
                parts.append(f"![{escape(source)}: quality over training budgets]({where})")
            made = [table for table in (fits_table(found, source), pairs_table(found, source)) if table is not None]
            parts += [markdown(table) for table in made]
    return "\n\n".join(parts)


def dimensions(results: Path = ROOT / "results") -> str:
    """Skill over dimensions, a table for each number of modes."""
    _, records, said = published(results, "dimension")
    found = dimension_table(records)
    made = dimension_section(found, looks(dict.fromkeys(sorted(set(found["family"])), "contestant")))
    return "\n\n".join([said, *(markdown(table) for part in made.parts for table in part.tables)] if made else [said])


def corruptions(results: Path = ROOT / "results") -> str:
    """Every source under each corruption of its training split: the judge, and the share of a rare class."""
    _, records, said = published(results, "data")
    found = corruption_table(records)
    made = corruption_section(found, looks(dict(zip(found["family"], found["role"], strict=True))))
    parts = [said]
    for part in made.parts if made else []:
        parts += [f"### {escape(part.title)}", *(markdown(table) for table in part.tables)]
    return "\n\n".join(parts)


def steps(results: Path = ROOT / "results") -> str:
    """Judges of `family_tree` at few network evaluations per sample."""
    folder, records, _ = published(results, "family_tree")
    judges = {record.task: record.judge for record in records}
    costs = of_suite(folder, records)
    costs = costs[(costs["metric"] == costs["source"].map(judges)) & costs["family"].isin(IN_STEPS)]
    told = [(row["family"], row["network_evaluations"], row["source"], row["value"]) for _, row in costs.iterrows()]
    told += [
        (record.family, 0.0 if record.role in YARDSTICKS else 1.0, record.task, m.estimate.value)
        for record in records if record.family in IN_ONE or record.role in YARDSTICKS
        for m in record.metrics if m.name == record.judge and m.estimate
    ]  # fmt: skip
    found = pd.DataFrame(told, columns=["family", "calls", "source", "value"])
    lines = [f"| family | evaluations | {' | '.join(f'{name}: `{judge}`' for name, judge in judges.items())} |"]
    lines.append("|---|--:|" + "--:|" * len(judges))
    for (family, calls), own in found.groupby(["family", "calls"]):
        seen = own.groupby("source")["value"].agg(["mean", "min", "max"])
        cells = [
            "{mean:.3f} ({min:.3f} to {max:.3f})".format(**seen.loc[name]) if name in seen.index else "–"
            for name in judges
        ]
        lines.append(f"| {family} | {f'{calls:.0f}' if calls else '–'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def knobs(results: Path = ROOT / "results") -> str:
    """Quality against diversity on `conditions_mnist`: every setting of guidance or temperature that was measured."""
    folder, records, said = published(results, "conditions_mnist")
    if not records:
        return said
    shown = [*dict.fromkeys(record.judge for record in records), *DIVERSITY]
    costs = of_suite(folder, records)
    named = [
        ", ".join(f"{key} {own[key]:g}" for key in ("guidance", "temperature") if key in own)
        for own in map(json.loads, costs["knobs"])
    ]
    costs = costs.assign(knob=named)
    parts = [said]
    for task, own in costs.groupby("source"):
        wide = own.pivot_table(index=["family", "knob"], columns="metric", values="value")[shown]
        lines = [f"| {escape(str(task))} | setting | {' | '.join(map(escape, shown))} |"]
        lines.append("|---|---|" + "--:|" * len(shown))
        lines += [
            f"| {' | '.join(map(escape, map(str, key)))} | {' | '.join(f'{value:.3g}' for value in row)} |"
            for key, row in zip(wide.index, wide.to_numpy(), strict=True)
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def published(results: Path, suite: str) -> tuple[Path, list[Record], str]:
    """The suite's folder, its records, and a sentence on where they come from, or that there are none yet."""
    folder = results / suite
    if not (folder / PUBLISHED).exists():
        return folder, [], f"Not published yet: `make benchmark SUITE={suite}` runs it, and its page has the tables."
    records = load_published(folder)
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    first, last = min(origin["seeds"]), max(origin["seeds"])
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    said = (
        f"{len(records)} runs on {'; '.join(origin['devices'])}, {origin['date'][:10]}, {seeds}, "
        f"code `{', '.join(origin['code_versions'])}`."
    )
    return folder, records, said


def markdown(table: SectionTable) -> str:
    """A table of the report, its caption above."""
    lines = [f"| {escape(table.first)} | {' | '.join(map(escape, table.columns))} |"]
    lines.append("|---|" + "--:|" * len(table.columns))
    lines += [f"| {escape(name)} | {' | '.join(map(escape, cells))} |" for name, cells in table.rows]
    return f"{escape(table.caption)}:\n\n" + "\n".join(lines)


BLOCKS = {"tables": tables, "dimensions": dimensions, "corruptions": corruptions, "steps": steps, "knobs": knobs}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """See `blocks.filled`."""
    return filled(markdown, page, "scaling", BLOCKS)
