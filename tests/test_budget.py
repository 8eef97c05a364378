"""Budgets are shares of what a source says that it takes (`reference` in conf/source)."""

from __future__ import annotations

import pytest

from genfam.build import ConfigurationError
from helpers import composed

REFERENCES = {"die": (6e10, 8000), "ring": (1.0e12, 70_000), "mnist": (3.0e12, 350_000)}


@pytest.mark.parametrize(("budget", "share"), [("smoke", 0.01), ("quick", 0.1), ("standard", 1.0)])
def test_a_budget_is_a_share_of_the_sources_reference(configure, budget: str, share: float) -> None:
    for source, (flops, parameters) in REFERENCES.items():
        assert composed(f"source={source}")["reference"] == {"train_flops": flops, "parameters": parameters}
        found = configure(f"source={source}", f"budget={budget}").budget
        assert found.train_flops == pytest.approx(share * flops) and found.parameters == parameters


def test_a_share_or_either_number_may_be_given(configure) -> None:
    given = configure("source=die", "budget.scale=0.5").budget
    assert given.train_flops == pytest.approx(3e10) and given.parameters == 8000
    given = configure("source=die", "budget.train_flops=1e9", "budget.parameters=1e4").budget
    assert (given.train_flops, given.parameters) == (1e9, 10_000)


@pytest.mark.parametrize("wrong", ["budget.train_flops=0", "budget.train_flops=.inf", "budget.parameters=0.5"])
def test_what_is_no_budget_is_refused_by_its_key(configure, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong.partition("=")[0]):
        configure("source=die", wrong)
