"""What corrupted training data cost: each family beside its own clean runs, and what became of a rare class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from genfam.report.charts import Chart, chart
from genfam.report.interactive import across, family_key, finished, marker, plain
from genfam.report.sections import Part, Section, SectionTable
from genfam.report.style import TRUTH, Look, slug

TEXT = (
    "The same runs on a corrupted training split; what they are measured against is clean, and so is what the oracle "
    "draws. In brackets: the 95 % interval of the difference from the family's own clean runs. The corruption itself "
    "is one draw, the same for all seeds."
)
SPREAD = 0.5  # of a category's width, over which families stand side by side


def section(table: pd.DataFrame, families: Mapping[str, Look]) -> Section | None:
    """The page's section; None where no run had a corrupted training split.

    Args:
        table: as `genfam.comparing.corruption.corruption_table` gives it.
        families: looks by name.
    """
    parts = []
    for source in table["source"].unique():
        own = table[table["source"] == source]
        tables = [_beside(own[own["metric"] == metric], families) for metric in own["metric"].unique()]
        parts.append(Part("", str(source), [_chart(own[own["judges"]], str(source), families)], tables))
    return Section("corruption", "Corrupted data", "Corrupted training data", TEXT, parts) if parts else None


def _beside(own: pd.DataFrame, families: Mapping[str, Look]) -> SectionTable:
    """A row per family: the clean mean, then a column per corruption."""
    names = list(own["corruption"].unique())
    metric = str(own["metric"].iloc[0])
    rows = []
    for family in [family for family in families if family in set(own["family"])]:
        cells = {row["corruption"]: row for row in own[own["family"] == family].to_dict("records")}
        clean = next(iter(cells.values()))["clean"]
        said = ["–" if math.isnan(clean) else f"{clean:.3g}"]
        rows.append((family, said + [cell(cells[name]) if name in cells else "–" for name in names]))
    return SectionTable(f"{metric}: clean, and with each corruption", "family", ["clean", *map(str, names)], rows)


def cell(row: Mapping[Any, Any]) -> str:
    """The mean, and how much that is above or below the clean one."""
    if math.isnan(row["corrupted"]):
        return "no run ended well"
    said = f"{row['corrupted']:.3g}"
    if not math.isnan(row["difference"]):
        said += f", {row['difference']:+.2g}"
    if not math.isnan(row["ci_low"]):
        said += f" [{row['ci_low']:+.2g}, {row['ci_high']:+.2g}]"
    return said


def _chart(own: pd.DataFrame, source: str, families: Mapping[str, Look]) -> Chart:
    """The judge over its clean mean, by corruption: families side by side."""
    names = [str(name) for name in own["corruption"].unique()]
    shown = [family for family in families if family in set(own.loc[own["role"] == "contestant", "family"])]
    metric = str(own["metric"].iloc[0])
    figure = go.Figure()
    for place, family in enumerate(shown):
        rows = own[(own["family"] == family) & (own["clean"] > 0.0)].to_dict("records")
        shift = SPREAD * ((place + 0.5) / len(shown) - 0.5)
        times = [1.0 + row["difference"] / row["clean"] for row in rows]
        error = {"array": [(row["ci_high"] - row["difference"]) / row["clean"] for row in rows], "symmetric": False}
        error |= {"arrayminus": [(row["difference"] - row["ci_low"]) / row["clean"] for row in rows]}
        look = families[family]
        figure.add_scatter(
            x=[names.index(str(row["corruption"])) + shift for row in rows], y=times, mode="markers",
            marker=marker(look, 9), name=plain(family), legendgroup=family_key(family), hoverinfo="text",
            error_y=error | {"color": look.colour, "thickness": 2, "width": 0},
            hovertext=[f"{plain(family)}, {plain(str(row['corruption']))}: {cell(row)}" for row in rows],
        )  # fmt: skip
    across(figure, [-0.5, len(names) - 0.5], [1.0, 1.0], "as its clean runs", TRUTH, "dash")
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=[plain(name) for name in names])
    figure.update_yaxes(title=f"{plain(metric)} / its clean mean", nticks=6)
    said = "; ".join(
        f"{row['family']} with {row['corruption']}: {cell(row)}"
        for row in own.to_dict("records")
        if row["family"] in shown
    )
    return chart(
        f"corruption-{slug(source)}", finished(figure, 380), f"{source}: {metric} relative to clean training data",
        f"{metric} on {source} with corrupted training data, relative to each family's clean runs. {said}.",
    )  # fmt: skip
