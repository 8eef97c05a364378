"""README and docs say what results/ says."""

import math
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


def test_only_what_was_checked_is_called_the_same_measurement():
    def said(fingerprint, samples=2500.0, source="grid"):
        row = pd.Series({"samples": samples, "source": source})
        return compare.same_measurement(row, pd.Series({"fingerprint": fingerprint}))

    assert said("grid|n=2500|ref=test:10000") == "yes"
    assert said("grid|n=4000|ref=test:10000") == "no: 4000 samples for 2500"
    assert said("cifar10|n=50000|ref=test:10000", 50_000.0, "cifar10") == "not checked"
    assert said("binarised_mnist|n=10000", math.nan, "binarised_mnist") == "not checked"
