"""Write README's table from results/standard: no number there is typed in by hand.

    .venv/bin/python benchmarks/readme_results.py [--check]

`--check` changes nothing and fails if the table is not what the published scorecard says.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pandas as pd
from pages import ROOT, keep_block

from genfam.records.store import load_published
from genfam.report.findings import findings
from genfam.report.tables import number

SUITE = ROOT / "results" / "standard"
COLUMNS = (
    ("die", "total_variation", "die: total variation ↓"),
    ("grid", "cell_total_variation", "grid: total variation over cells ↓"),
    ("grid", "mode_width_ratio", "grid: width of modes, 1 is right"),
    ("digits", "fd_digits_cnn_depths", "digits: Fréchet distance over depths ↓"),
    ("digits", "coverage", "digits: coverage ↑"),
    ("digits", "evaluations_per_sample", "digits: network calls a sample ↓"),
)
YARDSTICKS = ("gaussian", "oracle")


def cell(row: pd.Series | None) -> str:
    """Mean ± half-width of the interval, bold where the family leads (`genfam.comparing.verdicts`)."""
    if row is None or math.isnan(row["mean"]):
        return "–"
    half = (row["ci_high"] - row["ci_low"]) / 2
    text = number(float(row["mean"]), half or None)
    return f"**{text}**" if row["leads"] else text


def table(results: Path = SUITE) -> str:
    """One row per family, and below it where the numbers come from."""
    found = findings(load_published(results))
    card = found.card
    origin = json.loads((results / "provenance.json").read_text())
    families = sorted(card["family"].unique(), key=lambda name: (name in YARDSTICKS, name))
    lines = [
        "| family | " + " | ".join(title for *_, title in COLUMNS) + " |",
        "|---|" + "--:|" * len(COLUMNS),
    ]
    for family in families:
        cells = []
        for source, metric, _ in COLUMNS:
            rows = card[(card["source"] == source) & (card["metric"] == metric) & (card["family"] == family)]
            cells.append(cell(rows.iloc[0] if len(rows) else None))
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    seeds = f"{min(origin['seeds'])} to {max(origin['seeds'])}"
    lines += [
        "",
        f"`{origin['command']}`: {sum(origin['runs'].values())} runs, seeds {seeds}, {'; '.join(origin['devices'])}, "
        f"{origin['date'][:10]}, code {', '.join(origin['code_versions'])}.",
    ]
    tuned: dict[str, bool] = {}
    for verdict in found.verdicts:
        if verdict.source not in {source for source, *_ in COLUMNS}:
            continue
        tuned[verdict.source] = tuned.get(verdict.source, True) and verdict.tuned
    told = {True: "tuned by `genfam-tune`", False: "untuned, by the recipes"}
    settings = "; ".join(
        f"{', '.join(source for source in sorted(tuned) if tuned[source] is kind)} {words}"
        for kind, words in told.items()
        if kind in tuned.values()
    )
    lines.append(f"Settings: {settings}.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(keep_block(ROOT / "README.md", "results", table, __doc__))
