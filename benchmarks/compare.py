"""Published numbers beside ours, and what differs in protocol.

    .venv/bin/python benchmarks/compare.py [--check]      (or: make compare)

Prints the table, and writes it into docs/published.md.
The logic is in `genfam.comparing.published_numbers`; ours come from `results/`.
"""

from __future__ import annotations

import sys
from functools import cache

import pandas as pd
from pages import ROOT, keep_block

from genfam.comparing import published_numbers as published
from genfam.records.store import load_published

SUITES = ("standard", "images", "quick", "modes", "likelihood", "gpu")  # the first that has the cell


@cache
def compared() -> pd.DataFrame:
    """Every published number beside our published scorecards."""
    folders = [folder for suite in SUITES if (folder := ROOT / "results" / suite).exists()]
    records = [record for folder in folders for record in load_published(folder)]
    cards = [pd.read_csv(folder / "scorecard.csv") for folder in folders]
    return published.compare(cards, published.settings_of(records))


def table() -> str:
    """What stands in docs/published.md."""
    return f"\n{published.markdown(compared())}\n"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        print(table())
    sys.exit(keep_block(ROOT / "docs" / "published.md", "published", table, __doc__))
