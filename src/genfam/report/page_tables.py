"""Rows of the page's long tables: the scorecard with its bars, and every run."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from genfam import glossary
from genfam.records.publication import publishable
from genfam.records.store import PUBLISHED
from genfam.report.series import diagnosed
from genfam.report.tables import KIND_MARKS, bracketed, cell, headline
from genfam.types import Kind, Record

ARROWS = {True: "↑ higher is better", False: "↓ lower is better", None: "no direction"}
WIDE = 30.0  # ratio of largest to smallest from which a positive scale is logarithmic
NOT_REPEATED = ("seed", "learning_rate_factor")  # keys in which runs of one configuration differ


@dataclass(frozen=True)
class Bar:
    """A number on its metric's scale for one source, everything in per cent of the width; None where there is none."""

    mean: float
    low: float | None
    high: float | None
    oracle: float | None
    floor: float | None


@dataclass(frozen=True)
class ScoreRow:
    """One number of the scorecard.

    Attributes:
        text: as in the terminal's table.
        leads: see `genfam.comparing.verdicts`.
        leading: whether the metric is the source's headline.
        value: for sorting; NaN as an empty text.
        about: what the metric measures, and its direction and unit; `fingerprint` how it was measured.
    """

    source: str
    family: str
    role: str
    metric: str
    direction: str
    unit: str
    text: str
    leads: bool
    rank: str
    runs: str
    leading: bool
    value: str
    bar: Bar | None
    about: str
    fingerprint: str


@dataclass(frozen=True)
class RunRow:
    """One run: where its record and configuration are, and what repeats it.

    Attributes:
        flops: spent on training.
        record, config: addresses relative to the page; `config` empty where the configuration is in the page only.
        configuration: index into the page's list of configurations.
        head: the lines that this run adds to that configuration.
        value: its headline metric.
    """

    run_id: str
    source: str
    family: str
    seed: int
    factor: str
    flops: str
    outcome: str
    reason: str
    diagnosis: str
    metric: str
    value: str
    seconds: str
    record: str
    config: str
    configuration: int
    head: str
    command: str


def score_rows(
    card: pd.DataFrame, roles: Mapping[str, str], order: Sequence[str], kinds: Mapping[str, str]
) -> list[ScoreRow]:
    """The scorecard in the page's order: by source, headline first, then metric and family.

    Args:
        card: as `genfam.comparing.scorecard.scorecard` gives it.
        roles: family -> role.
        order: families as they are drawn.
        kinds: `source family` -> kind of likelihood.
    """
    rows: list[ScoreRow] = []
    place = {family: index for index, family in enumerate(order)}
    for source in sorted(set(card["source"])):
        own = card[card["source"] == source]
        leading = headline(card, source)
        for metric in sorted(set(own["metric"]), key=lambda name: (name != leading, name)):
            entries = own[own["metric"] == metric].to_dict("records")
            known = [entry for entry in entries if entry["n_ok"] > 0]
            bars = _bars(known, roles)
            for entry in sorted(known, key=lambda entry: place[str(entry["family"])]):
                family = str(entry["family"])
                bound = entry["kind"] == Kind.LIKELIHOOD.value
                mark = KIND_MARKS.get(kinds.get(f"{source} {family}", ""), "") if bound else ""
                shown = cell({str(key): value for key, value in entry.items()}, mark)
                spread = entry["kind"] == Kind.SPREAD.value
                rows.append(
                    ScoreRow(
                        source, family, roles[family], metric, ARROWS[entry["higher_is_better"]],
                        "" if entry["unit"] == "1" else str(entry["unit"]), shown.text, shown.leads,
                        "" if math.isnan(entry["rank"]) else f"{entry['rank']:.0f}",
                        f"{entry['n_ok']}/{entry['n_runs']}", metric == leading,
                        repr(float(entry["mean"])) if math.isfinite(entry["mean"]) else "",
                        None if spread else bars.get(family), glossary.metric(metric), str(entry["fingerprint"]),
                    )
                )  # fmt: skip
    return rows


def _bars(entries: Sequence[Mapping[Any, Any]], roles: Mapping[str, str]) -> dict[str, Bar]:
    """Family -> bar, on a scale that holds every mean and interval of the metric on its source."""
    numbers = [float(entry[name]) for entry in entries for name in ("mean", "ci_low", "ci_high", "oracle")]
    numbers = [number for number in numbers if math.isfinite(number)]
    means = [float(entry["mean"]) for entry in entries if math.isfinite(entry["mean"])]
    if not means:
        return {}
    log = min(means) > 0 and max(numbers) / min(means) > WIDE
    least = min(means) / 3.0 if log else min(numbers)  # an interval's end below that runs to the edge
    most = max(numbers)

    def place(number: float) -> float | None:
        if not math.isfinite(number):
            return None
        if most <= least:
            return 50.0
        number = min(max(number, least), most)
        share = math.log(number / least) / math.log(most / least) if log else (number - least) / (most - least)
        return round(2.0 + 96.0 * share, 2)

    floors = [float(entry["mean"]) for entry in entries if roles[str(entry["family"])] == "floor"]
    found = {}
    for entry in entries:
        mean = place(float(entry["mean"]))
        if mean is not None:
            found[str(entry["family"])] = Bar(
                mean, place(float(entry["ci_low"])), place(float(entry["ci_high"])), place(float(entry["oracle"])),
                place(floors[0]) if len(floors) == 1 else None,
            )  # fmt: skip
    return found


@dataclass(frozen=True)
class SkillRow:
    """A family on all sources together. Nobody leads there: across sources nothing is tested."""

    family: str
    text: str
    bar: Bar


def skill_rows(aggregate: pd.DataFrame) -> list[SkillRow]:
    """All sources together, the highest first; the scale holds 0 (the Gaussian) and 1 (the oracle)."""
    rows = aggregate.sort_values("value", ascending=False).to_dict("records")
    ends = [float(row[name]) for row in rows for name in ("value", "ci_low", "ci_high") if math.isfinite(row[name])]
    least, most = min([0.0, *ends]), max([1.0, *ends])

    def place(number: float) -> float:
        return round(2.0 + 96.0 * (number - least) / (most - least), 2)

    found = []
    for row in rows:
        known = math.isfinite(row["ci_low"])
        bar = Bar(
            place(row["value"]), place(row["ci_low"]) if known else None, place(row["ci_high"]) if known else None,
            place(1.0), place(0.0),
        )  # fmt: skip
        found.append(SkillRow(str(row["family"]), bracketed(row), bar))
    return found


def run_rows(
    records: Sequence[Record], card: pd.DataFrame, page: Path, store: Path, *, published: bool
) -> tuple[list[RunRow], list[str]]:
    """Every run in the order given, and the configurations as YAML, each once for all runs that share it.

    Machine paths are taken out, so that a page can be sent to somebody.

    Args:
        records: of the suite.
        card: as `genfam.comparing.scorecard.scorecard` gives it.
        page: where the page will be.
        store: folder of the runs, or of what was published.
        published: whether that is a folder of published records.
    """
    places: dict[str, int] = {}
    texts: list[str] = []
    rows = []
    leading = {source: headline(card, source) or "" for source in {record.task for record in records}}
    base = Path(os.path.relpath(store, page.parent)).as_posix()
    for line, record in enumerate(map(publishable, records), start=1):
        shared = {key: value for key, value in record.config.items() if key not in NOT_REPEATED}
        place = places.setdefault(json.dumps(shared), len(places))
        if place == len(texts):
            texts.append(yaml.safe_dump(shared, sort_keys=False, allow_unicode=True))
        own = {key: record.config[key] for key in NOT_REPEATED if key in record.config}
        values = [m.estimate.value for m in record.metrics if m.name == leading[record.task] and m.estimate]
        folder = f"{base}/{record.run_id}" if base != "." else record.run_id
        here = not published
        if record.is_guest and (page.parent / record.run_id / "record.json").is_file():  # also beside published runs
            here, folder = True, record.run_id
        rows.append(
            RunRow(
                record.run_id, record.task, record.family, record.seed, f"{record.learning_rate_factor:g}",
                "" if record.is_guest and not record.train_flops else f"{record.train_flops:.3g}",
                record.outcome.value, record.reason, diagnosed(record) if record.trace and record.trace.points else "",
                leading[record.task], f"{values[0]:.4g}" if values else "",
                "" if record.is_guest else f"{record.train_seconds:.1f}",
                f"{folder}/record.json" if here else f"{base}/{PUBLISHED}#line={line}",
                f"{folder}/config.yaml" if here else "", place,
                "".join(f"{key}: {json.dumps(value)}\n" for key, value in own.items()),
                _command(record, folder if here else base, published=not here),
            )
        )  # fmt: skip
    return rows, texts


def _command(record: Record, folder: str, *, published: bool) -> str:
    """What repeats a run exactly, from its folder or from the published records, into a store of its own.

    A guest is its samples: from its folder it can be measured again, else whoever has them can bring them again.
    """
    if record.is_guest:
        own = [f"run={folder}"]
        if published:
            own = ["samples=FILES", f"source={record.config['source']['name']}", f"name={record.family}"]
        return shlex.join(["genfam-judge" if published else "genfam-evaluate", *own])
    words = [f"records={folder}/{PUBLISHED}", f"id={record.run_id}"] if published else [f"run={folder}"]
    words += ["output_dir=repeated"]
    words += ["data_dir=FOLDER"] if published and record.config.get("data_dir") else []
    plugins = record.config.get("plugins") or []
    words += [f"plugins={','.join(map(str, plugins))}"] if plugins else []
    return shlex.join(["genfam-repeat", *words])
