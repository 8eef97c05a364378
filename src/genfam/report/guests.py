"""What judging a guest says: its numbers beside fresh real data's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from genfam.comparing.stability import judge_of
from genfam.comparing.statistics import CONFIDENCE, t_interval
from genfam.report.tables import number
from genfam.types import Outcome, Record

COLUMNS = (
    "metric", "kind", "mean", "ci_low", "ci_high", "oracle", "unit", "higher_is_better", "files", "reason",
)  # fmt: skip
SHOWN = ("coverage", "data_copying")  # in a line, beside the judge


@dataclass(frozen=True)
class Judgement:
    """A guest's measurements.

    Attributes:
        records: one per file.
        oracles: records of fresh real data, measured in the same way.
        folder: the store that holds the guest's runs.
    """

    records: Sequence[Record]
    oracles: Sequence[Record] = field(repr=False)
    folder: Path

    @property
    def name(self) -> str:
        """The guest's."""
        return self.records[0].family

    @property
    def intervals(self) -> str:
        """Where the intervals of `table` come from."""
        n = len(self.records)
        return f"over {n} files, Student's t" if n > 1 else "one file, the metric's own standard error"

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per metric, columns `COLUMNS`.

        The 95 % interval is over files (Student's t); of one file it is the value ± 1.96 of the metric's own standard
        errors, and NaN where the metric has none. `oracle` is the mean of fresh real data, NaN where it was measured
        otherwise or not at all. What does not apply has NaN for its number, and a `reason`.
        """
        names = dict.fromkeys(m.name for record in self.records for m in record.metrics)
        return pd.DataFrame([self._row(name) for name in names], columns=list(COLUMNS))

    def _row(self, name: str) -> list[Any]:
        own = [m for record in self.records for m in record.metrics if m.name == name]
        known = [m for m in own if m.estimate is not None]
        about = known[0] if known else own[0]
        values = [m.estimate.value for m in known if m.estimate is not None]
        mean, (low, high) = float(pd.Series(values, dtype=float).mean()), t_interval(values)
        if len(values) == 1 and known[0].estimate is not None and known[0].estimate.stderr is not None:
            half = float(stats.norm.ppf((1.0 + CONFIDENCE) / 2.0)) * known[0].estimate.stderr
            low, high = mean - half, mean + half
        real = [
            m.estimate.value
            for record in self.oracles
            for m in record.metrics
            if m.estimate is not None and (m.name, m.fingerprint) == (name, about.fingerprint)
        ]
        reason = next((m.reason for m in own if m.estimate is None), "")
        truth = float(pd.Series(real, dtype=float).mean())
        return [
            name, about.kind.value, mean, low, high, truth, about.unit, about.higher_is_better, len(values), reason
        ]  # fmt: skip

    def __repr__(self) -> str:
        first, n = self.records[0], len(self.records)
        judge = judge_of(self.records)
        known = self.table.set_index("metric")
        shown = [name for name in (judge, *SHOWN) if name in known.index and known.loc[name, "files"]]
        lines = [f"{self.name} on {first.task}: {', '.join(first.marks)}; {'1 file' if n == 1 else f'{n} files'}"]
        lines += [f"  {name} {_told(known.loc[name].to_dict())}" for name in shown]
        missing = int((self.table["files"] == 0).sum())
        lines.append(
            f"  .table has {len(self.table) - missing} numbers ({missing} do not apply); 95 % {self.intervals}"
        )
        return "\n".join(lines)

    def lines(self) -> list[str]:
        """All numbers as text, a line each; then what does not apply, and why."""
        rows: list[dict[Any, Any]] = self.table.to_dict("records")
        arrows = {True: "↑", False: "↓", None: " "}
        found = [f"{row['metric']:32} {arrows[row['higher_is_better']]} {_told(row)}" for row in rows if row["files"]]
        return found + [f"{row['metric']:32}   does not apply: {row['reason']}" for row in rows if not row["files"]]


def _told(row: dict[Any, Any]) -> str:
    half = None if math.isnan(row["ci_low"]) else (row["ci_high"] - row["ci_low"]) / 2.0
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    real = "" if math.isnan(row["oracle"]) else f"   (fresh real data {row['oracle']:.4g})"
    return f"{number(row['mean'], half)}{unit}{real}"


def oracles_of(records: Sequence[Record], task: str) -> list[Record]:
    """Those of fresh real data on a task that ended well."""
    return [r for r in records if r.role == "oracle" and r.task == task and r.outcome is Outcome.OK]
