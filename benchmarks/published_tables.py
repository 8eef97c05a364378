"""Write the tables, the page, and the pictures that show tables, of published suites anew from their records.

    .venv/bin/python benchmarks/published_tables.py [SUITE ...]

For when a rule of the reports has changed: records, provenance and pictures of samples stay as they were published.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from pages import ROOT

from genfam.records.store import load_published
from genfam.report import facts_of, write_tables
from genfam.report.findings import findings
from genfam.report.markdown import Figure
from genfam.report.plots import headline_figure
from genfam.report.scaling import scaling_figure
from genfam.report.style import looks, slug

SECTION = re.compile(r"^## (.+)$|^!\[(.*)\]\(figures/(.+)\)$", re.M)


def figures(page: str) -> list[Figure]:
    """The pictures of a published page, with their captions and sources."""
    found, source = [], None
    for heading, caption, name in SECTION.findall(page):
        if heading:
            source = heading
        else:
            found.append(Figure(name, caption, None if name == "headline.png" else source))
    return found


def rewrite(folder: Path) -> None:
    """One suite."""
    records = load_published(folder)
    found = findings(records)
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    pictures = figures((folder / "scorecard.md").read_text(encoding="utf-8"))
    write_tables(folder, found, found.summary(facts_of(origin)), pictures)
    families = looks({record.family: record.role for record in records})
    for picture in pictures:
        path = folder / "figures" / picture.name
        if picture.name == "headline.png":
            headline_figure(found.card, found.frame, families, path)
        elif picture.source and picture.name == f"scaling_{slug(picture.source)}.png":
            scaling_figure(found.scaling, families, path, picture.source)


if __name__ == "__main__":
    for path in sorted((ROOT / "results").glob("*/provenance.json")):
        suite = path.parent.name  # studies write their own tables
        if (ROOT / "conf" / "suite" / f"{suite}.yaml").exists() and (suite in sys.argv[1:] or len(sys.argv) == 1):
            rewrite(path.parent)
