"""README says what results/ says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not list((ROOT / "results").glob("*/scorecard.csv")), reason="nothing is published yet")
def test_the_results_in_the_readme_are_the_published_ones():
    assert subprocess.run([sys.executable, "benchmarks/readme_results.py", "--check"], cwd=ROOT).returncode == 0
