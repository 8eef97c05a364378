"""An interval over seeds is the scorecard's, on whatever page it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from genfam.comparing.dimension import dimension_table
from genfam.comparing.scaling import scaling
from genfam.comparing.stability import judge_of, scale_of
from genfam.records.store import load_published
from genfam.report.findings import findings

RESULTS = Path(__file__).resolve().parents[1] / "results"


def test_skill_over_dimensions_has_the_scorecards_intervals() -> None:
    records = load_published(RESULTS / "dimension")
    card = findings(records).card.set_index(["source", "metric", "family"])
    table = dimension_table(records)
    assert len(table) > 20
    for row in table.to_dict("records"):
        own = [record for record in records if record.task == row["source"]]
        scale = scale_of(own, judge_of(own), final=True)
        said = card.loc[row["source"], row["metric"], row["family"]]
        assert scale is not None and row["ci_high"] > row["ci_low"]
        ends = sorted(scale.skill(said[end]) for end in ("ci_low", "ci_high"))
        assert [row["ci_low"], row["ci_high"]] == pytest.approx(ends, rel=1e-6)


def test_curves_over_compute_end_in_the_scorecards_intervals() -> None:
    records = load_published(RESULTS / "scaling")
    card = findings(records).card.set_index(["source", "metric", "family"])
    points = scaling(records).points
    ends = points[points["share"] == "C"]
    assert len(ends) == 8
    for row in ends.to_dict("records"):
        said = card.loc[row["source"], row["metric"], row["family"]]
        assert (row["mean"], row["ci_low"], row["ci_high"]) == pytest.approx(
            (said["mean"], said["ci_low"], said["ci_high"]), rel=1e-6
        )
