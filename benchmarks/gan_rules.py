"""Which rule of a GAN does what: the published runs of `suite=gan_rules`, written into docs/gan_rules.md.

Run it: `.venv/bin/python benchmarks/gan_rules.py [--check]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from pages import ROOT, keep_block

from genfam.records import load_published, to_frame
from genfam.statistics import t_interval

RULES = ("loss", "penalty", "packing")
# source, metric as in the records, as in the table, whether more is better
QUANTITIES = (
    ("ring", "modes_covered", "modes", True),
    ("ring", "high_quality_share", "HQ, %", True),
    ("ring", "mode_reverse_kl", "KL", False),
    ("ring", "coverage", "coverage", True),
    ("grid", "modes_covered", "modes", True),
    ("grid", "high_quality_share", "HQ, %", True),
    ("grid", "mode_reverse_kl", "KL", False),
    ("grid", "coverage", "coverage", True),
    ("stacked_digits", "modes_covered", "modes", True),
    ("stacked_digits", "mode_reverse_kl", "KL", False),
)
# rule, to, from: all else equal, the seed too
CHANGES = (
    ("packing", "2", "1"),
    ("penalty", "r1", "none"),
    ("penalty", "r1_r2", "none"),
    ("penalty", "r1_r2", "r1"),
    ("loss", "relativistic", "non_saturating"),
    ("loss", "hinge", "non_saturating"),
    ("loss", "hinge", "relativistic"),
)
NAMES = {"none": "no penalty", "r1": "R1", "r1_r2": "R1 + R2", "non_saturating": "non-saturating"}


def values(results: Path) -> pd.DataFrame:
    """A row per run, by loss, penalty, packing and seed; a column per source and metric (NaN: no value)."""
    records = load_published(results)
    rules = pd.DataFrame(
        [(r.run_id, *(str(r.config["family"][rule]) for rule in RULES)) for r in records], columns=["run_id", *RULES]
    )
    rows = to_frame(records).merge(rules, on="run_id")
    index = [*RULES, "seed"]
    return rows.pivot_table(index=index, columns=["source", "metric"], values="value", dropna=False, observed=True)


def number(metric: str, value: float) -> str:
    """Quality in percent, modes whole where they are, all else to a thousandth."""
    if metric == "modes_covered":
        return f"{value:z.1f}".removesuffix(".0")
    return f"{100 * value:z.1f}" if metric == "high_quality_share" else f"{value:z.3f}"


def every_rule(runs: pd.DataFrame) -> list[str]:
    """A row per rule: the mean over the seeds, and the least and the greatest."""
    lines = [
        "| loss | penalty | packing | " + " | ".join(f"{s}: {name}" for s, _, name, _ in QUANTITIES) + " |",
        "|---|---|--:|" + "--:|" * len(QUANTITIES),
    ]
    for rule, own in runs.groupby(level=list(RULES), sort=False):
        cells = []
        for source, metric, _, _ in QUANTITIES:
            found = own[source, metric].dropna()
            ends = [number(metric, end) for end in (found.min(), found.max())]
            text = number(metric, found.mean()) if len(found) else "–"
            cells.append(text if ends[0] == ends[1] else f"{text} ({' to '.join(ends)})")
        lines.append("| " + " | ".join([*(NAMES.get(part, part) for part in rule), *cells]) + " |")
    return lines


def every_change(runs: pd.DataFrame) -> list[str]:
    """A row per change of one rule: the mean difference over all pairs of runs that differ in nothing else."""
    lines = [
        "| change | pairs | " + " | ".join(f"{s}: {name}" for s, _, name, _ in QUANTITIES) + " |",
        "|---|--:|" + "--:|" * len(QUANTITIES),
    ]
    for rule, to, of in CHANGES:
        difference = runs.xs(to, level=rule) - runs.xs(of, level=rule)
        cells = []
        for source, metric, _, more_is_better in QUANTITIES:
            found = difference[source, metric].dropna()
            low, high = t_interval(found.tolist())
            better = int(((found > 0) if more_is_better else (found < 0)).sum())
            text = f"{number(metric, found.mean())} [{number(metric, low)}, {number(metric, high)}]"
            text = f"**{text}**" if low > 0 or high < 0 else text
            cells.append(f"{text}, better in {better}" if found.any() else "0")
        name = f"{NAMES.get(of, of)} → {NAMES.get(to, to)}" if rule != "packing" else "a critic of one → of two"
        lines.append(f"| {name} | {len(difference)} | " + " | ".join(cells) + " |")
    return lines


def tables(results: Path = ROOT / "results" / "gan_rules") -> str:
    """Both tables, in Markdown."""
    runs = values(results)
    return "\n".join(["", *every_change(runs), "", "Every rule:", "", *every_rule(runs), ""])


if __name__ == "__main__":
    sys.exit(keep_block(ROOT / "docs" / "gan_rules.md", "gan_rules", tables, __doc__))
