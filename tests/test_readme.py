"""README and docs say what results/ says."""

import subprocess
import sys
from pathlib import Path

import compare
import pytest
import readme_results
import tuning

from genfam.records import load_published

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not list((ROOT / "results").glob("*/scorecard.csv")), reason="nothing is published yet")
def test_the_results_in_the_readme_are_the_published_ones():
    assert subprocess.run([sys.executable, "benchmarks/readme_results.py", "--check"], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "results", sorted((ROOT / "results").glob("*/scorecard.csv")), ids=lambda path: path.parent.name
)
def test_the_machines_that_are_named_are_those_of_the_runs(results):
    named = readme_results.block(results.parent).splitlines()[0]
    assert all(f"{record.device}, {record.threads} threads" in named for record in load_published(results.parent))


def test_the_tables_of_published_numbers_are_those_that_make_compare_writes():
    assert compare.table() in (ROOT / "docs" / "published.md").read_text()
    assert compare.short() in (ROOT / "README.md").read_text()


def test_the_table_of_trials_is_that_of_the_published_ones():
    assert tuning.table() in (ROOT / "docs" / "experiments.md").read_text()
