"""Write README's results block from what is published: no number there is typed in by hand.

    .venv/bin/python benchmarks/readme_results.py [--check]

`--check` changes nothing and fails if the block is not what the published scorecard says.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from pages import ROOT, keep_block

from genfam.published import three_digits

SUITES = ("standard", "quick")  # the first that is published
FULL_SIZE = ("images", "modes", "stacked_digits", "likelihood")  # and each of these that is
STABILITY = ("diverged", "seed_spread", "regret")  # the third headline: docs/stability.md
# what the README shows; the rest stands in results/*/scorecard.md
METRICS = (
    "fd_",
    "coverage",
    "recall",
    "modes_covered",
    "high_quality_share",
    "mode_reverse_kl",
    "total_variation",
    "bits_per_dim",
)


def number(value: float) -> str:
    """Three significant digits, without needless exponents."""
    return three_digits(value) if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def cell(row: pd.Series | None) -> str:
    """Mean with its interval, bold where the rank is 1."""
    if row is None or math.isnan(row["mean"]):
        return "–"
    text = number(row["mean"])
    if not math.isnan(row["ci_low"]):
        text += f" [{number(row['ci_low'])}, {number(row['ci_high'])}]"
    return f"**{text}**" if row["rank"] == 1 else text


def bracketed(row: dict[Any, Any]) -> str:
    """Value with its interval."""
    if math.isnan(row["ci_low"]):
        return number(row["value"])
    return f"{number(row['value'])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def says_nothing(rows: pd.DataFrame) -> bool:
    """Whether every family has one and the same value, as six faces of a die are found by all."""
    return rows["mean"].nunique() == 1


def classifiers(provenance: dict[str, Any]) -> str:
    """How many test images the classifiers that measured have right, where it was written down."""
    said = [f"`{name.split('|')[0]}` has {share:.2%} of" for name, share in provenance.get("classifiers", {}).items()]
    return f", classifier {', '.join(said)} test images right" if said else ""


def block(results: Path) -> str:
    """The Markdown between the markers, from a folder of `results`."""
    card = pd.read_csv(results / "scorecard.csv")
    provenance = json.loads((results / "provenance.json").read_text())
    families = sorted(card["family"].unique(), key=lambda f: (f in ("gaussian", "oracle"), f))
    lines = [
        f"`results/{results.name}`: {sum(provenance['runs'].values())} runs, seeds {min(provenance['seeds'])} to "
        f"{max(provenance['seeds'])}, code `{', '.join(provenance['code_versions'])}`, "
        f"{'; '.join(provenance['devices'])}, command `{provenance['command']}`{classifiers(provenance)}.",
        "",
        f"![Fréchet distance of every family, relative to the oracle](results/{results.name}/figures/headline.png)",
        "",
        "| source | metric | " + " | ".join(families) + " |",
        "|---|---|" + "---|" * len(families),
    ]
    stability = pd.read_csv(results / "stability.csv")
    for source, own in card.groupby("source", sort=False):
        for metric, rows in own.groupby("metric", sort=False):
            if not metric.startswith(METRICS) or metric == "fd_infinity" or says_nothing(rows):
                continue
            by_family = {row["family"]: row for _, row in rows.iterrows()}
            arrow = "↑" if bool(rows["higher_is_better"].iloc[0]) else "↓"
            cells = [cell(by_family.get(family)) for family in families]
            lines.append(f"| {source} | {metric} {arrow} | " + " | ".join(cells) + " |")
        for entry, rows in stability[stability["source"] == source].groupby("entry", sort=False):
            if entry in STABILITY:
                found = {row["family"]: bracketed(row) for row in rows.to_dict("records") if row["family"] != "oracle"}
                cells = [found.get(family, "–") for family in families]
                lines.append(f"| {source} | *{entry}* ({rows['unit'].iloc[0]}) ↓ | " + " | ".join(cells) + " |")
    together = pd.read_csv(results / "aggregate.csv").sort_values("value", ascending=False)
    if len(together):  # skill is counted from the oracle, which a suite need not have
        left_out = [name for name in families if name not in {"gaussian", "oracle", *together["family"]}]
        lines += [
            "",
            "All sources together, interquartile mean of skill (0 as the fitted Gaussian, 1 as the oracle): "
            + ", ".join(f"{row['family']} {bracketed(row)}" for row in together.to_dict("records"))
            + "."
            + (f" Left out, as not run as often on every source: {', '.join(left_out)}." if left_out else ""),
        ]
    return "\n".join(lines)


def published() -> str:
    """The blocks of the full-size suites, and of the first suite of `SUITES`, as far as they are published."""
    there = [suite for suite in (*FULL_SIZE, *SUITES) if (ROOT / "results" / suite / "scorecard.csv").exists()]
    first = next(suite for suite in SUITES if suite in there)
    return "\n\n".join(block(ROOT / "results" / suite) for suite in there if suite not in SUITES or suite == first)


if __name__ == "__main__":
    sys.exit(keep_block(ROOT / "README.md", "results", published, __doc__))
