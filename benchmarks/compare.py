"""Published numbers beside ours, and whether the protocol is the same.

    .venv/bin/python benchmarks/compare.py [--check]      (or: make compare)

Prints the table, and writes it into docs/published.md. Ours come from `results/`; a source that no published suite of
ours has shows a dash. `published/*.csv` hold what papers say, with their protocol.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from pathlib import Path

import pandas as pd
from pages import ROOT, keep_block

SUITES = ("likelihood", "images", "modes", "standard")  # the first that has the cell
# sources whose measurement was held to the paper's text: number of samples, what is a mode, what is of high quality
CHECKED = ("ring", "grid")
PUBLISHED = Path(__file__).parent / "published"


@cache
def cards() -> tuple[pd.DataFrame, ...]:
    """Our published scorecards, in the order in which they are asked."""
    files = [ROOT / "results" / suite / "scorecard.csv" for suite in SUITES]
    return tuple(pd.read_csv(file) for file in files if file.exists())


def ours(source: str, family: str, metric: str) -> pd.Series | None:
    """Our cell, None where no suite has it."""
    for card in cards():
        found = card[(card["source"] == source) & (card["family"] == family) & (card["metric"] == metric)]
        if len(found) and not math.isnan(found.iloc[0]["mean"]):
            return found.iloc[0]
    return None


def same_measurement(published: pd.Series, cell: pd.Series) -> str:
    """`yes`, or what is known to differ, or that nobody has checked; networks and compute differ always."""
    parts = str(cell["fingerprint"]).split("|")
    drawn = next((part[2:] for part in parts if part.startswith("n=")), "")
    if published["source"] not in CHECKED or not drawn or math.isnan(published["samples"]):
        return "not checked"
    if int(drawn) != int(published["samples"]):
        return f"no: {drawn} samples for {int(published['samples'])}"
    return "yes"


def table() -> str:
    """One row per published number, with ours and their interval where there is one."""
    lines = [
        "", "| source | metric | published model | published | ours (family) | same measurement? | paper |",
        "|---|---|---|--:|--:|---|---|",
    ]  # fmt: skip
    for file in sorted(PUBLISHED.glob("*.csv")):
        for _, row in pd.read_csv(file).iterrows():
            cell = ours(row["source"], row["family"], row["metric"])
            number, same = "–", "no run of ours"
            if cell is not None:
                number = f"{cell['mean']:.3g} [{cell['ci_low']:.3g}, {cell['ci_high']:.3g}] ({row['family']})"
                same = same_measurement(row, cell)
            lines.append(
                f"| {row['source']} | {row['metric']} | {row['model']} | {row['value']:.4g} | {number} | {same} | "
                f"{row['paper']} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    if "--check" not in sys.argv:
        print(table())
    sys.exit(keep_block(ROOT / "docs" / "published.md", "published", table, __doc__))
