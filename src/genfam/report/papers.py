"""The scorecard's tables for papers and issues: LaTeX and Markdown, nothing but the tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from genfam.report.markdown import escape
from genfam.report.tables import Cell, Row, Summary, Table, clean

FORMATS = ("latex", "markdown")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$",
    "∞": r"$\infty$", "−": "$-$", "–": "--",
}  # fmt: skip


def tables(summary: Summary, form: str, metrics: Sequence[str] = ()) -> str:
    """Every source's table as text, with the same cells as in the terminal.

    Args:
        summary: of the suite.
        form: one of `FORMATS`. LaTeX needs the package booktabs.
        metrics: patterns (`fd_*`) of the columns to keep, in the table's order; empty keeps all.

    Raises:
        ValueError: an unknown form, or patterns that fit no column of any source.
    """
    if form not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {form!r}")
    chosen = [selected(table, metrics) for table in summary.tables]
    if metrics and not any(table.columns for table in chosen):
        there = sorted({_name(column) for table in summary.tables for column in table.columns})
        raise ValueError(f"metrics: expected names or patterns of {', '.join(there)}, got {', '.join(metrics)}")
    draw = _latex if form == "latex" else _markdown
    notes = [f"% {line}" if form == "latex" else f"- {escape(line)}" for line in summary.legend]
    return "\n\n".join([*(draw(table) for table in chosen if table.columns), "\n".join(notes)]) + "\n"


def selected(table: Table, metrics: Sequence[str]) -> Table:
    """The table with those columns only whose metric fits a pattern; all where there is no pattern."""
    if not metrics:
        return table
    kept = [i for i, name in enumerate(table.columns) if any(fnmatchcase(_name(name), p) for p in metrics)]
    rows = [replace(row, cells=[row.cells[i] for i in kept]) for row in table.rows]
    return replace(table, columns=[table.columns[i] for i in kept], rows=rows)


def tex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in clean(text))


def _name(column: str) -> str:
    return re.sub(r" [↑↓]$", "", column)


def _named(row: Row) -> str:
    return f"{row.family} ({row.note})" if row.role == "guest" else row.family


def _latex(table: Table) -> str:
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        rf"{tex(table.source)} & {' & '.join(tex(column) for column in table.columns)} \\",
        r"\midrule",
    ]
    for place, row in enumerate(table.rows):
        if place and row.role != "contestant" and table.rows[place - 1].role == "contestant":
            lines.append(r"\midrule")
        cells = [rf"\textbf{{{tex(cell.text)}}}" if cell.leads else tex(cell.text) for cell in row.cells]
        lines.append(rf"{tex(_named(row))} & {' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _markdown(table: Table) -> str:
    def shown(cell: Cell) -> str:
        return f"**{escape(cell.text)}**" if cell.leads else escape(cell.text)

    lines = [
        f"| {escape(table.source)} | {' | '.join(escape(column) for column in table.columns)} |",
        f"|---|{'--:|' * len(table.columns)}",
    ]
    lines += [f"| {escape(_named(row))} | {' | '.join(shown(cell) for cell in row.cells)} |" for row in table.rows]
    return "\n".join(lines)
