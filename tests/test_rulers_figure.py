"""The matrix of rulers: a row per ruler, best first, and every grade where the table has it."""

from __future__ import annotations

import pandas as pd
from rulers_figure import MOST, RULERS, draw

from genfam.comparing.metric_trial import leading_ruler, planted_verdicts, shares_of_lead
from helpers import composed


def test_every_cell_is_the_tables() -> None:
    for path in sorted(RULERS.glob("*.csv")):
        table = pd.read_csv(path)
        axes = draw(table).axes[0]
        rulers = [label.get_text() for label in axes.get_yticklabels()]
        assert rulers == list(planted_verdicts(table).index)
        shown = axes.images[0].get_array()
        failures = list(table["failure"].unique())
        for row in table.sample(40, random_state=0).to_dict("records"):
            cell = shown[rulers.index(row["ruler"]), 3 * failures.index(row["failure"]) + row["grade"] - 1]
            assert cell == min(max(row["worse"], -MOST), MOST)
        assert path.with_suffix(".png").is_file()


def test_the_judge_of_images_is_the_ruler_that_leads_most_often() -> None:
    tables = [pd.read_csv(path) for path in sorted(RULERS.glob("*.csv"))]
    assert shares_of_lead(tables).index[0] == "fd_depths"
    assert leading_ruler(tables).loc["fd_depths", "orders"] == leading_ruler(tables)["orders"].max()
    assert composed("source=mnist")["judge"] == "fd_mnist_resnet_depths"


def test_a_ruler_that_is_better_beyond_all_doubt_always_leads() -> None:
    columns = ["ruler", "failure", "grade", "worse", "scatter", "draws"]
    sure = {"fd_a": (20.0, 40.0, 80.0), "fd_b": (0.0, 0.0, 80.0), "c2st_event": (99.0, 99.0, 99.0)}
    rows = [(ruler, "blur", grade + 1, own[grade], 0.5, 5) for ruler, own in sure.items() for grade in range(3)]
    assert shares_of_lead([pd.DataFrame(rows, columns=columns)]).round(12).to_dict() == {"fd_a": 1.0}
    alike = [(ruler, "blur", grade + 1, 40.0 * grade, 0.5, 5) for ruler in ("fd_a", "kd_b") for grade in range(3)]
    assert abs(shares_of_lead([pd.DataFrame(alike, columns=columns)])["fd_a"] - 0.5) < 0.15
