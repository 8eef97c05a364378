"""What corrupted training data cost each family: its numbers under corruption beside its own clean ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from genfam.comparing.stability import judge_of, runs_at_end
from genfam.comparing.statistics import Runs, half_width
from genfam.records.store import as_tuned
from genfam.types import Record

COLUMNS = (
    "suite", "source", "family", "role", "corruption", "metric", "judges", "n_runs", "n", "clean", "corrupted",
    "difference", "ci_low", "ci_high",
)  # fmt: skip
CLEAN = "nothing"
BESIDE = ("class_share", "class_share_ratio")  # metrics that are compared beside the judge, where they were measured


def corruption_of(record: Record) -> str:
    """The name of what was done to a run's training split."""
    part = record.config.get("corruption")
    return str(part.get("name", CLEAN)) if isinstance(part, dict) else CLEAN


def source_name(record: Record) -> str:
    """The name of a run's source without its corruption."""
    source = record.config.get("source")
    return str(source["name"]) if isinstance(source, dict) and "name" in source else record.source


def clean_task(record: Record) -> str:
    """The task without its corruption, as a table names it."""
    return replace(record, source=source_name(record)).task


def corruption_table(records: Iterable[Record]) -> pd.DataFrame:
    """One row per (source, family, corruption, metric), for corruptions that some run had.

    Returns:
        Columns `COLUMNS`. `difference` is the mean of the corrupted runs less that of the clean ones, with its 95 %
        interval by Welch's method; `n` counts the seeds of the one with fewer. `clean` is NaN where a metric was
        measured on corrupted runs only.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in as_tuned(records):
        if record.outcome.finished:
            groups.setdefault((record.suite, clean_task(record)), []).append(record)
    rows: list[dict[str, Any]] = []
    for (suite, source), own in sorted(groups.items()):
        names = sorted({corruption_of(record) for record in own} - {CLEAN})
        judge = judge_of(own)
        for name in names:
            for family, role in sorted({(record.family, record.role) for record in own}):
                runs = [r for r in own if r.family == family and corruption_of(r) == name]
                clean = [r for r in own if r.family == family and corruption_of(r) == CLEAN]
                for metric in (judge, *BESIDE) if runs else ():
                    found = _row(runs, clean, metric)
                    about = {"suite": suite, "source": source, "family": family, "role": role, "corruption": name}
                    if metric == judge or found["n_known"]:
                        rows.append(about | {"metric": metric, "judges": metric == judge, "n_runs": len(runs)} | found)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(runs: list[Record], clean: list[Record], metric: str) -> dict[str, Any]:
    corrupted, before = _values(runs, metric), _values(clean, metric)
    difference, half = corrupted.mean - before.mean, half_width(corrupted, before)
    return {
        "n": min(corrupted.n, before.n), "clean": before.mean, "corrupted": corrupted.mean, "difference": difference,
        "ci_low": difference - half, "ci_high": difference + half, "n_known": corrupted.n,
    }  # fmt: skip


def _values(runs: list[Record], metric: str) -> Runs:
    """Of one family's runs."""
    return next(iter(runs_at_end(runs, metric).values()), Runs(np.empty(0)))
