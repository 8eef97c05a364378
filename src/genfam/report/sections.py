"""Sections of the page that only some suites have: charts and tables about what such a suite varies."""

from __future__ import annotations

from dataclasses import dataclass, field

from genfam.report.charts import Chart


@dataclass(frozen=True)
class SectionTable:
    """A table.

    Attributes:
        caption: above it.
        first: what heads the first column, the rows' names.
        columns: of the others.
        rows: (name, a cell per column); a family's name brings its colour.
    """

    caption: str
    first: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Part:
    """What is said of one source; `source` is empty where a part is about several."""

    source: str
    title: str
    charts: list[Chart] = field(default_factory=list)
    tables: list[SectionTable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """One section; `key` is its anchor, `name` stands in the navigation."""

    key: str
    name: str
    title: str
    text: str
    parts: list[Part]
