"""Failures planted in real data move the numbers that they must, in the right direction, and leave the others.

Against 8 oracle draws of 1,000 points of the grid, seeds fixed. "Moves" is five standard deviations of the oracle;
for a number that must not move that is passed by chance once in 500 cells.
"""

import math
from types import SimpleNamespace

import graded_failures as graded
import pandas as pd
import planted_failures as module
import pytest
import torch

from genfam.comparing.metric_trial import leading_ruler, planted_verdicts

EXPECTED = {
    "drops 1 mode in 5": {
        "modes_covered": -1, "mode_reverse_kl": 1, "recall": -1, "coverage": -1, "fd_identity": 1,
        "fd_infinity": 1, "sliced_wasserstein": 1, "cell_total_variation": 1,
    },
    "collapses within modes": {"recall": -1, "coverage": -1, "cell_total_variation": 1},
    "over-concentrates": {"recall": -1, "coverage": -1, "density": 1, "data_copying": -1, "mode_width_ratio": -1},
    "adds noise": {
        "precision": -1, "density": -1, "high_quality_share": -1, "data_copying": 1, "mode_width_ratio": 1,
    },
    "copies the training set": {"data_copying": -1, "authenticity": -1},
    "mirrors": {},
    "5 % junk": {"precision": -1, "high_quality_share": -1},
}  # fmt: skip
UNMOVED = {
    "drops 1 mode in 5": ("precision", "high_quality_share"),
    "collapses within modes": ("fd_identity", "fd_infinity", "modes_covered", "mode_reverse_kl", "sliced_wasserstein"),
    "over-concentrates": ("fd_identity", "fd_infinity", "modes_covered", "mode_reverse_kl", "sliced_wasserstein"),
    "adds noise": ("fd_identity", "modes_covered", "mode_reverse_kl"),
    "copies the training set": ("fd_identity", "modes_covered", "precision", "high_quality_share"),
    "mirrors": (
        "fd_identity", "fd_infinity", "precision", "recall", "density", "coverage", "modes_covered",
        "high_quality_share", "mode_reverse_kl", "sliced_wasserstein", "data_copying", "authenticity",
        "cell_total_variation", "mode_width_ratio",
    ),
    "5 % junk": ("fd_identity", "modes_covered", "mode_reverse_kl"),
}  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    return module.matrix(*module.points(1000), draws=8)


@pytest.mark.parametrize("failure", list(EXPECTED))
def test_what_must_move_moves_and_what_must_not_does_not(planted, failure):
    row = planted[failure]
    for metric, sign in EXPECTED[failure].items():
        assert sign * row[metric] >= module.MOVED, (metric, row[metric])
    for metric in UNMOVED[failure]:
        assert abs(row[metric]) < module.MOVED, (metric, row[metric])


def test_every_failure_is_on_trial(planted):
    assert set(planted) == set(module.FAILURES) == set(EXPECTED)


def test_scores():
    assert module.score(3.0, 1.5) == 2.0
    assert module.score(-1.0, 0.0) == -math.inf
    assert module.score(0.0, 0.0) == 0.0
    assert module.cell(-7.0) == "**−7**" and module.cell(2.0) == "+2"


@pytest.mark.parametrize("failure", list(graded.FAILURES))
def test_grades_of_failures_in_images_grow(failure):
    """The share of images that are changed, or how far they are, grows with the grade."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 10
    x, train = ((torch.rand(300, 1, 28, 28, generator=generator) * 255).byte() for _ in range(2))
    x = x * (torch.rand(300, 1, 28, 28, generator=generator) < 0.3)
    pool, pool_labels = (torch.rand(1800, 1, 28, 28, generator=generator) * 255).byte(), torch.arange(1800) % 10
    label_of = {image.numpy().tobytes(): int(label) for image, label in zip(pool, pool_labels, strict=True)}
    sizes = []
    for plant in graded.FAILURES[failure]:
        source = SimpleNamespace(train=train, pool=lambda generator: (pool, pool_labels))
        planted = plant(x, y, source, torch.Generator().manual_seed(1))
        assert planted.shape == x.shape and planted.dtype == torch.uint8
        if failure in ("missing classes", "wrong class frequencies"):
            labels = [label_of[image.numpy().tobytes()] for image in planted]
            assert len({image.numpy().tobytes() for image in planted}) == len(x)  # no image twice
            sizes.append(sum(labels) / len(labels))  # the first classes are the rare ones
        elif failure == "fewer variants within class":
            sizes.append(-len({image.numpy().tobytes() for image in planted}))
        else:
            sizes.append(float((planted.double() - x.double()).abs().mean()))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_a_ruler_that_falls_is_told_from_one_that_only_sees_and_one_that_is_blind():
    rows = pd.DataFrame(
        [("mnist", ruler, "noise", grade, 0.0, worse) for ruler, all_three in
         {"orders": (2.0, 6.0, 20.0), "sees": (9.0, 4.0, 8.0), "blind": (0.1, -0.3, 1.0)}.items()
         for grade, worse in enumerate(all_three, start=1)],
        columns=["source", "ruler", "failure", "grade", "value", "worse"],
    )  # fmt: skip
    said = planted_verdicts(rows)
    assert said["noise"].to_dict() == {"orders": "orders", "sees": "sees", "blind": ""}
    assert said["grade"].to_dict() == {"orders": 2, "sees": 3, "blind": 4}


def test_the_leading_ruler_orders_most_and_of_equals_sees_the_lowest_grade():
    def of(rulers):
        return pd.DataFrame(
            [(ruler, failure, grade, z) for ruler, failures in rulers.items() for failure, all_three in failures.items()
             for grade, z in enumerate(all_three, start=1)],
            columns=["ruler", "failure", "grade", "worse"],
        )  # fmt: skip

    sees, early, blind = (0.0, 2.0, 9.0), (6.0, 7.0, 9.0), (0.0, 0.0, 0.0)
    first = of({"fd": {"a": sees, "b": blind}, "kd": {"a": early, "b": sees}, "pixel fd": {"a": sees, "b": sees},
                "coverage": {"a": early, "b": early}, "fld": {"a": early, "b": early}})  # fmt: skip
    second = of({"fd": {"a": early, "b": early}, "kd": {"a": sees, "b": sees}, "pixel fd": {"a": sees, "b": sees},
                 "coverage": {"a": early, "b": early}})  # fmt: skip
    found = leading_ruler([first, second])
    assert list(found.index) == ["kd", "pixel fd", "fd"]  # a share has an upper bound; fld is not in both
    assert found["orders"].tolist() == [4, 4, 3]
    assert found["grade"].tolist() == [2.5, 3.0, (3 + 4 + 1 + 1) / 4]
