"""The tables in the terminal, cut into blocks of columns where it is narrow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import rich.table
from rich.console import Console
from rich.text import Text

from genfam.comparing.scorecard import Agreement
from genfam.report.tables import Row, Summary, Table, clean


def print_summary(console: Console, summary: Summary) -> None:
    """Every source's table, the legend, and how the runs ended. No markup is read from names."""
    for table in summary.tables:
        for block in blocks(table, console.width):
            console.print(_render(block))
        for row in table.rows:
            if row.role == "guest":
                console.print(Text(f"{clean(table.source)}: {clean(row.family)} is a {row.note}"))
        for line in table.choice:
            console.print(Text(f"{clean(table.source)}: {clean(line)}"))
        if table.stability is not None:
            for block in blocks(table.stability, console.width):
                console.print(_render(block, f"{table.source}: stability by {table.judge}"))
        console.print()
    for line in summary.aggregate:
        console.print(Text(f"All sources, mean skill: {clean(line)}"))
    for line in summary.legend:
        console.print(Text(line, style="dim"))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    console.print(Text(f"Runs: {counts}"))


def print_agreement(console: Console, found: Agreement | None, published: Path, suite: str) -> None:
    """Whether the published numbers came out again; None where nothing is published."""
    if found is None:
        console.print(Text(f"Nothing is published yet for suite {clean(suite)} (make publish SUITE={clean(suite)})."))
        return
    parts = [f"{found.agree} of {found.compared} cells agree with {published} within their intervals"]
    if found.undecided:
        parts.append(f"{found.undecided} cannot be decided (one run on both sides, or no number)")
    if found.skipped:
        parts.append(f"{found.skipped} were skipped: measured by another protocol")
    console.print(Text("; ".join(parts) + "."))
    for row in found.disagree.head(10).to_dict("records"):
        line = f"  {row['metric']} of {row['family']} on {row['source']}: {row['mean']:.4g} against "
        console.print(Text(clean(line) + f" {row['published_mean']:.4g} published"))
    if len(found.disagree) > 10:
        console.print(Text(f"  … and {len(found.disagree) - 10} more"))


def blocks(table: Table, width: int) -> list[Table]:
    """The table cut into as many as it takes for each to fit `width` characters; none repeats a column."""
    family_width = max([len("family"), *(len(_name(row)) for row in table.rows)]) + 4
    found: list[list[int]] = [[]]
    used = family_width
    for index, column in enumerate(table.columns):
        needed = max([max(map(len, _head(column))), *(len(row.cells[index].text) for row in table.rows)]) + 3
        if found[-1] and used + needed > width:
            found.append([])
            used = family_width
        found[-1].append(index)
        used += needed
    return [
        Table(
            table.source,
            [table.columns[i] for i in part],
            [replace(row, cells=[row.cells[i] for i in part]) for row in table.rows],
        )
        for part in found
    ]


def _name(row: Row) -> str:
    return clean(row.family) + (" (guest)" if row.role == "guest" else "")


def _head(column: str) -> list[str]:
    """A long metric name on two lines, broken at the underscore nearest its middle."""
    column = clean(column)
    breaks = [i + 1 for i, character in enumerate(column) if character == "_" and 2 < i < len(column) - 3]
    if len(column) < 13 or not breaks:
        return [column]
    middle = min(breaks, key=lambda i: abs(i - len(column) // 2))
    return [column[:middle], column[middle:]]


def _render(table: Table, title: str = "") -> rich.table.Table:
    shown = rich.table.Table(title=Text(clean(title or table.source), style="bold"), title_justify="left")
    shown.add_column("family", no_wrap=True)
    for column in table.columns:
        shown.add_column(Text("\n".join(_head(column))), justify="right", no_wrap=True)
    for position, row in enumerate(table.rows):
        yardstick = row.role != "contestant"
        following = table.rows[position + 1].role if position + 1 < len(table.rows) else row.role
        cells = [Text(cell.text, style="bold" if cell.leads else "") for cell in row.cells]
        shown.add_row(
            Text(_name(row)), *cells, style="dim" if yardstick else "",
            end_section=not yardstick and following != "contestant",
        )  # fmt: skip
    return shown
