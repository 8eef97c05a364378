"""README and docs say what results/ says."""

import subprocess
import sys
from pathlib import Path

import compare
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not list((ROOT / "results").glob("*/scorecard.csv")), reason="nothing is published yet")
def test_the_results_in_the_readme_are_the_published_ones():
    assert subprocess.run([sys.executable, "benchmarks/readme_results.py", "--check"], cwd=ROOT).returncode == 0


def test_the_table_of_published_numbers_is_the_one_that_make_compare_writes():
    assert compare.table() in (ROOT / "docs" / "published.md").read_text()


def test_published_numbers_name_their_protocol_and_a_metric_of_ours():
    for file in compare.PUBLISHED.glob("*.csv"):
        rows = pd.read_csv(file)
        assert (
            not rows[["source", "model", "family", "metric", "value", "unit", "protocol", "paper"]].isna().any().any()
        )
        assert set(rows["family"]) <= {"gan", "vae", "autoregressive", "flow_matching"}
        assert not rows.duplicated(["source", "model", "metric"]).any()


def test_another_number_of_samples_is_another_protocol():
    row = pd.Series({"samples": 2500.0})
    assert "2500 samples" not in compare.differences(row, pd.Series({"fingerprint": "grid|n=2500|ref=test:10000"}))
    assert "4000 samples for 2500" in compare.differences(row, pd.Series({"fingerprint": "grid|n=4000|ref=test:10000"}))
