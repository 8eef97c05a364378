"""Skill over the number of dimensions and modes, where a suite has sources that differ in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from genfam.comparing.stability import judge_of, runs_at_end, scale_of
from genfam.comparing.statistics import Runs
from genfam.records.store import as_tuned
from genfam.types import Record

COLUMNS = (
    "suite", "family", "dimensions", "modes", "source", "metric", "n_runs", "n_ok", "value", "skill", "ci_low",
    "ci_high",
)  # fmt: skip


def size_of(record: Record) -> tuple[int, int] | None:
    """(dimensions, modes) by the settings of the record's source; None where it has no such settings."""
    source = record.config.get("source")
    sizes = [source.get(key) if isinstance(source, dict) else None for key in ("dimensions", "modes")]
    whole = [size for size in sizes if isinstance(size, int) and not isinstance(size, bool)]
    return (whole[0], whole[1]) if len(whole) == 2 else None


def dimension_table(records: Iterable[Record]) -> pd.DataFrame:
    """One row per contestant and source with known dimensions and modes; empty unless there are several such.

    Returns:
        Columns `COLUMNS`. `skill` is the mean over seeds of the judge's skill, 0 as the fitted Gaussian and 1 as the
        oracle on the same source, with its 95 % interval over seeds (`genfam.comparing.statistics`); NaN without both
        yardsticks.
    """
    by_source: dict[tuple[str, str], list[Record]] = {}
    for record in as_tuned(records):
        if record.outcome.finished and size_of(record) is not None:
            by_source.setdefault((record.suite, record.task), []).append(record)
    rows: list[dict[str, Any]] = []
    for (suite, source), own in by_source.items():
        judge = judge_of(own)
        scale = scale_of(own, judge, final=True)
        size = size_of(own[0])
        assert size is not None
        contestants = [record for record in own if record.role == "contestant"]
        ended = runs_at_end(contestants, judge)
        for family in sorted({record.family for record in contestants}):
            runs = ended.get(family, Runs(np.empty(0)))
            ends = (runs.mean, *runs.interval())
            mean, *interval = [scale.skill(end) for end in ends] if scale is not None else [math.nan] * 3
            rows.append(
                {"suite": suite, "family": family, "dimensions": size[0], "modes": size[1], "source": source}
                | {"metric": judge, "n_runs": sum(record.family == family for record in own), "n_ok": runs.n}
                | {"value": runs.mean, "skill": mean, "ci_low": min(interval), "ci_high": max(interval)}
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if len(set(zip(table["dimensions"], table["modes"], strict=True))) < 2:
        return table.iloc[:0]
    return table.sort_values(["suite", "family", "modes", "dimensions"]).reset_index(drop=True)
