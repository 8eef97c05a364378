"""Skill over dimensions: a chart and a table for each number of modes."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from genfam.report.charts import Chart, chart
from genfam.report.interactive import family_key, finished, marker, plain
from genfam.report.sections import Part, Section, SectionTable
from genfam.report.style import Look
from genfam.report.tables import bracketed

TEXT = (
    "The judge as skill, 0 as the fitted Gaussian and 1 as the oracle on the same source, over the number of "
    "dimensions. The budget and the number of parameters are the same everywhere. Means over seeds with their 95 % "
    "interval."
)


def section(table: pd.DataFrame, families: Mapping[str, Look]) -> Section | None:
    """The page's section; None where a suite has no sources that differ in dimensions or modes.

    Args:
        table: as `genfam.comparing.dimension.dimension_table` gives it.
        families: looks by name.
    """
    parts = [
        Part("", f"{modes} modes", [_chart(own, modes, families)], [_table(own, modes, families)])
        for modes, own in ((int(size), table[table["modes"] == size]) for size in sorted(set(table["modes"])))
    ]
    return Section("dimension", "Dimensions", "Skill over dimensions", TEXT, parts) if parts else None


def _chart(own: pd.DataFrame, modes: int, families: Mapping[str, Look]) -> Chart:
    figure = go.Figure()
    said = []
    for family in [family for family in families if family in set(own["family"])]:
        rows, look = own[own["family"] == family].sort_values("dimensions"), families[family]
        figure.add_scatter(
            x=rows["dimensions"].tolist(), y=rows["skill"].tolist(), mode="lines+markers", marker=marker(look, 9),
            line={"color": look.colour, "width": 2}, name=plain(family), legendgroup=family_key(family),
            hoverinfo="text", hovertext=[f"{plain(family)}: {_cell(row)}" for row in rows.to_dict("records")],
            error_y={
                "array": (rows["ci_high"] - rows["skill"]).tolist(), "color": look.colour, "thickness": 2, "width": 0,
                "arrayminus": (rows["skill"] - rows["ci_low"]).tolist(), "symmetric": False,
            },
        )  # fmt: skip
        ends = ", ".join(f"{row['skill']:.2f} at {row['dimensions']}" for row in rows.to_dict("records"))
        said.append(f"{family} {ends}")
    sizes = sorted(int(size) for size in own["dimensions"].unique())
    figure.update_xaxes(title="dimensions", type="log", tickvals=sizes, ticktext=[str(size) for size in sizes])
    figure.update_yaxes(title="skill", nticks=6)
    label = f"Skill over dimensions with {modes} modes: {'; '.join(said)}."
    return chart(f"dimension-{modes}", finished(figure, 380), f"{modes} modes: skill over dimensions", label)


def _table(own: pd.DataFrame, modes: int, families: Mapping[str, Look]) -> SectionTable:
    sizes = sorted(int(size) for size in own["dimensions"].unique())
    cells = {(row["family"], row["dimensions"]): _cell(row) for row in own.to_dict("records")}
    rows = [
        (family, [cells.get((family, size), "–") for size in sizes])
        for family in families
        if family in set(own["family"])
    ]
    return SectionTable(f"Skill with {modes} modes", "family", [f"{size} dimensions" for size in sizes], rows)


def _cell(row: Mapping[object, object]) -> str:
    return bracketed({"value": row["skill"], "ci_low": row["ci_low"], "ci_high": row["ci_high"]})
