"""README and docs say what results/ says."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import asked
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


def test_what_was_asked_is_held_against_the_published_runs():
    assert asked.tables() in asked.PAGE.read_text()


def test_a_seed_that_misses_what_was_asked_is_counted_as_missed():
    runs = pd.DataFrame(
        [("modes", "grid", family, seed, "mode_reverse_kl", value) for family, seed, value in (
            ("gan", 0, 0.004), ("gan", 1, 0.03), ("oracle", 0, 0.005), ("oracle", 1, 0.001)
        )],
        columns=["suite", "source", "family", "seed", "metric", "value"],
    )  # fmt: skip
    least = asked.Asked("modes", "grid", "gan", "mode_reverse_kl", 0.01, True, why="why.md")
    assert "**1 of 2 seeds** (by 0.02 at worst) | [why, and what was tried](why.md)" in asked.row(least, runs)
    of_oracle = asked.Asked("modes", "grid", "gan", "mode_reverse_kl", 3, True, times_oracle=True)
    assert "≤ 0.009 (3 times the oracle's 0.003)" in asked.row(of_oracle, runs)
    assert "(mean 5.7 times)" in asked.row(of_oracle, runs)
    more = asked.Asked("modes", "grid", "gan", "mode_reverse_kl", 0.03, False)
    assert "**1 of 2 seeds** (by 0.026 at worst)" in asked.row(more, runs)
    with pytest.raises(ValueError, match="found none"):
        asked.row(asked.Asked("modes", "ring", "gan", "mode_reverse_kl", 0.01, True), runs)


def test_the_order_names_the_pairs_that_are_not_told_apart():
    pairs = pd.DataFrame({"family_a": ["a", "a", "b"], "family_b": ["b", "c", "c"], "better": [None, "c", "c"]})
    said = asked.order({"a": [3.0, 3.0], "b": [2.0, 2.0], "c": [1.0, 1.0]}, pairs, less=True)
    assert said == "c 1 ± 0, b 2 ± 0, a 3 ± 0 | b – a"
    assert asked.order({"a": [3.0, 3.0], "c": [1.0, 1.0]}, pairs[1:2], less=False) == "a 3 ± 0, c 1 ± 0 | none"
