"""The matrix of rulers: a row per ruler, best first, and every grade where the table has it."""

from __future__ import annotations

import pandas as pd
from rulers_figure import MOST, RULERS, draw

from genfam.comparing.metric_trial import leading_ruler, planted_verdicts
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


def test_the_judge_of_images_is_the_ruler_that_leads_by_the_rule() -> None:
    leading = leading_ruler([pd.read_csv(path) for path in sorted(RULERS.glob("*.csv"))])
    assert leading.index[0] == "fd_depths"
    assert composed("source=mnist")["judge"] == "fd_mnist_resnet_depths"
