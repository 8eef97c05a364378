"""`split=validation`: the test split is never looked at, and its numbers cannot be mistaken for test numbers."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from genfam.comparing.scorecard import check_fingerprints
from genfam.records.frame import to_frame
from genfam.records.run import Run
from genfam.running.experiment import execute
from genfam.running.parts import make_source
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.sources.images import Digits, StackedDigits
from genfam.sources.known import Die, Grid
from genfam.sources.validation import ValidationSplit, seen_through
from genfam.sources.view import View
from genfam.types import Enumerable, Event, KnownDensity, KnownModes, Outcome


class Forbidden(Source):
    """A hundred numbered points; whoever looks at the test split is caught."""

    def __init__(self, name: str = "forbidden", as_view: bool = False) -> None:
        self.name, self.event, self.as_view = name, Event((2,)), as_view

    @property
    def train(self) -> Tensor:
        points = torch.stack([torch.arange(100.0), torch.arange(100.0).flip(0)], dim=1)
        return View(100, lambda chosen: points[chosen]) if self.as_view else points

    @property
    def test(self) -> Tensor:
        raise AssertionError("the test split was looked at")

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        raise AssertionError("fresh data of the source may hold what is in the validation split")


@pytest.mark.parametrize("as_view", [False, True])
def test_parts_are_disjoint_cover_the_training_split_and_leave_the_test_split_alone(as_view: bool) -> None:
    split = ValidationSplit(Forbidden(as_view=as_view))
    fit, held_out = (set(part[:][:, 0].int().tolist()) for part in (split.train, split.test))
    assert len(split.train) == len(fit) == 90
    assert len(held_out) == 10
    assert fit | held_out == set(range(100))
    assert held_out != set(range(90, 100)), "permuted first"
    again = ValidationSplit(Forbidden(as_view=as_view))
    assert torch.equal(split.test, again.test)
    drawn = split.sample(90, generator=derived_generator(0, "x"))
    assert set(drawn[:, 0].int().tolist()) == fit
    assert torch.equal(split.train[torch.tensor([3, 5])], split.train[:6][torch.tensor([3, 5])])


def test_a_known_source_gives_a_second_draw_and_keeps_what_it_knows() -> None:
    source = Grid()
    split = ValidationSplit(source)
    assert split.train is source.train
    assert split.test.shape == source.test.shape
    assert not torch.equal(split.test, source.test)
    points, centres = split.test.double(), source.modes()
    assert float((torch.cdist(points, centres).min(dim=1).values <= 0.15).double().mean()) > 0.98
    assert isinstance(split, KnownModes) and isinstance(split, KnownDensity) and not isinstance(split, Enumerable)
    assert isinstance(ValidationSplit(Die()), Enumerable)
    assert not isinstance(ValidationSplit(Digits()), KnownModes)


def test_classifiers_are_the_tables_own() -> None:
    for source in (Digits(), StackedDigits(train_size=50, test_size=5)):
        split = ValidationSplit(source)
        assert all(map(torch.equal, split.classifier_images(), source.classifier_images()))
    assert float(split.mode_masses.sum()) == pytest.approx(1.0)


def test_unknown_splits_are_named() -> None:
    with pytest.raises(ValueError, match=r"split: expected one of \['test', 'validation'\], got 'train'"):
        seen_through("train", Die())


TINY = ["budget.train_flops=2e8", "budget.parameters=2000", "budget=smoke", "curve.points=2", "curve.samples=60",
        "trace.points=2", "trace.samples=20", "evaluation.samples=80", "metric=[frechet,neighbours]"]  # fmt: skip


@pytest.mark.parametrize("family", ["vae", "oracle"])
def test_a_whole_run_never_looks_at_the_test_split_and_says_so(
    configure, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    module = ModuleType("forbidden_source")
    module.Forbidden = Forbidden
    monkeypatch.setitem(sys.modules, "forbidden_source", module)
    monkeypatch.setattr(Forbidden, "__module__", "forbidden_source")
    batch = ["family.batch_size=32"] if family == "vae" else []
    run = configure("source=ring", f"family={family}", "split=test", "plugins=[forbidden_source]", *batch, *TINY)
    config = run.config | {"source": {"_target_": "forbidden_source.Forbidden", "name": "forbidden"}}
    looked = execute(Run.of(config))
    assert looked.outcome is Outcome.FAILED and "AssertionError" in looked.reason, "the guard bites"
    record = execute(Run.of(config | {"split": "validation"}))
    assert record.outcome is Outcome.OK, record.reason
    assert record.run_id != looked.run_id
    assert {m.protocol["reference"] for m in record.metrics if m.estimate} == {"validation:10"}


def test_validation_and_test_numbers_cannot_share_a_table(configure) -> None:
    settings = ["source=die", "family=oracle", *TINY]
    records = [execute(configure(*settings, "split=test")), execute(configure(*settings, "seed=1"))]
    assert [record.outcome for record in records] == [Outcome.OK, Outcome.OK]
    with pytest.raises(ValueError, match=r"expected one fingerprint.*reference=(test|validation)"):
        check_fingerprints(to_frame(records))


def test_runs_keep_the_ids_that_they_had_before_there_was_a_split(configure) -> None:
    run = configure("source=die", "family=oracle", "split=test")
    before = Run.of({key: value for key, value in run.config.items() if key != "split"})
    assert run.split == "test" and "split" not in run.identity
    assert before.id == run.id
    assert make_source(before).split == "test"
    assert configure("source=die", "family=oracle").id != run.id
