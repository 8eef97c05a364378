"""Against the fitted Gaussian: tests decide where there are several runs, and means where there are not."""

from __future__ import annotations

from genfam.comparing.verdicts import Standing
from genfam.report.findings import findings
from stores import make

ROLES = {"gauss": "floor", "truth": "oracle"}


def standings(values: dict[str, list[float]]) -> dict[str, Standing]:
    records = [
        make(name, "die", seed, value, ROLES.get(name, "contestant"))
        for name, own in values.items()
        for seed, value in enumerate(own)
    ]
    return {verdict.family: verdict.standing for verdict in findings(records).verdicts}


YARDSTICKS = {"gauss": [9.0, 9.1, 9.2], "truth": [1.0, 1.1, 1.2]}


def test_better_than_the_gaussian_by_chance_is_not_better():
    near = {"alpha": [8.0, 9.6, 9.3], "beta": [10.0, 8.2, 9.2]}
    assert set(standings(near | YARDSTICKS).values()) == {Standing.UNDERTRAINED}
    sure = {"alpha": [8.0, 8.1, 7.9], "beta": [20.0, 20.1, 19.9]}
    assert standings(sure | YARDSTICKS) == {"alpha": Standing.ONLY, "beta": Standing.BELOW}


def test_worse_than_the_gaussian_by_chance_is_not_called_worse_and_not_chosen():
    found = standings({"alpha": [2.0, 2.4, 2.2], "beta": [9.1, 9.5, 9.2]} | YARDSTICKS)
    assert found == {"alpha": Standing.ONLY, "beta": Standing.NO_BETTER}


def test_of_single_runs_the_mean_decides():
    yardsticks = {"gauss": [9.0], "truth": [1.0]}
    found = standings({"alpha": [8.9], "beta": [9.1]} | yardsticks)
    assert found == {"alpha": Standing.ONLY, "beta": Standing.BELOW}
    assert set(standings({"alpha": [9.2], "beta": [9.1]} | yardsticks).values()) == {Standing.UNDERTRAINED}


def test_without_an_oracle_the_tests_against_the_gaussian_hold():
    floor = {"gauss": [9.0, 9.1, 9.2]}
    assert set(standings({"alpha": [20.0, 20.1, 20.2], "beta": [30.0, 30.1, 30.2]} | floor).values()) == {
        Standing.UNDERTRAINED
    }
    found = standings({"alpha": [2.0, 2.1, 2.2], "beta": [30.0, 30.1, 30.2]} | floor)
    assert found == {"alpha": Standing.ONLY, "beta": Standing.BELOW}


def test_where_the_oracle_is_no_better_than_the_gaussian_only_the_worse_are_out_of_question():
    same = {"gauss": [1.1, 1.0, 1.2], "truth": [1.0, 1.2, 1.1]}
    found = standings({"alpha": [1.15, 1.25, 1.05], "beta": [1.2, 1.1, 1.3], "gamma": [30.0, 30.1, 30.2]} | same)
    assert found == {"alpha": Standing.OPEN, "beta": Standing.OPEN, "gamma": Standing.BELOW}


def test_a_family_without_a_number_is_not_called_worse():
    records = [
        make(name, "die", seed, value, ROLES.get(name, "contestant"))
        for name, own in ({"alpha": [2.0, 2.1, 2.2], "beta": [3.0, 3.1, 3.2]} | YARDSTICKS).items()
        for seed, value in enumerate(own)
    ]
    for record in records:
        if record.family == "beta":
            record.metrics = [m for m in record.metrics if m.name != "fd_net"]
    said = {verdict.family: verdict.standing for verdict in findings(records).verdicts}
    assert said == {"alpha": Standing.ONLY, "beta": Standing.NO_BETTER}
