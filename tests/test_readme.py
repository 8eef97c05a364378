"""README and docs say what results/ says."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import compare
import gan_rules
import pandas as pd
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


def test_the_tables_of_rules_are_those_of_the_published_runs():
    assert gan_rules.tables() in (ROOT / "docs" / "gan_rules.md").read_text()


def test_a_change_of_rule_is_measured_between_runs_that_differ_in_nothing_else():
    """Pairs are worth 0.1 of high quality here, R1 costs 0.02, and losses and seeds scatter more than either."""
    index = pd.MultiIndex.from_tuples(
        [*product(("hinge", "relativistic", "non_saturating"), ("none", "r1", "r1_r2"), ("1", "2"), (0, 1, 2))],
        names=[*gan_rules.RULES, "seed"],
    )
    runs = pd.DataFrame(1.0, index, pd.MultiIndex.from_tuples([quantity[:2] for quantity in gan_rules.QUANTITIES]))
    loss, penalty, packing, seed = (index.get_level_values(level) for level in index.names)
    quality = (loss == "hinge") * 0.3 + seed * 0.2 + (packing == "2") * 0.1 - (penalty == "r1") * 0.02
    runs["ring", "high_quality_share"] = quality
    rows = {line.split(" | ")[0]: line.split(" | ")[1:4] for line in gan_rules.every_change(runs)}
    assert rows["| a critic of one → of two"] == ["27", "0", "**10.0 [10.0, 10.0]**, better in 27"]
    assert rows["| no penalty → R1"] == ["18", "0", "**-2.0 [-2.0, -2.0]**, better in 0"]
