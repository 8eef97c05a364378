"""Corruptions change the training split as they say, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from genfam.corruptions.base import Corruption
from genfam.corruptions.nothing import Nothing
from genfam.corruptions.outliers import Outliers
from genfam.corruptions.rare_class import RareClass
from genfam.corruptions.subsample import Subsample
from genfam.metrics.class_share import ClassShare
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.sources.images import Digits, StackedDigits
from genfam.sources.known import Grid
from genfam.sources.validation import seen_through
from genfam.sources.view import View
from genfam.types import Event, KnownDensity, KnownModes, Status

ALL = [Subsample(0.1), Subsample(0.01), RareClass(), Outliers()]


class SmallGrid(Grid):
    train_size = 20_000


@pytest.fixture(scope="module")
def digits():
    return Digits()


@pytest.fixture(scope="module")
def grid():
    return SmallGrid()


def rows(x):
    return [tuple(event) for event in x.flatten(1).tolist()]


@pytest.mark.parametrize("corruption", ALL, ids=lambda c: type(c).__name__)
def test_only_the_training_split_changes(corruption, digits, grid):
    for clean in (digits, grid):
        source = corruption.applied(clean)
        assert len(source.train) == len(source.train_labels) and source.train.dtype == clean.train.dtype
        assert not (len(source.train) == len(clean.train) and torch.equal(source.train, clean.train))
        assert torch.equal(source.test, clean.test) and torch.equal(source.test_labels, clean.test_labels)
        assert source.fingerprint == clean.fingerprint and source.name == clean.name and source.split == "test"
        draws = [it.sample(50, generator=derived_generator(0, "x")) for it in (source, clean)]
        assert torch.equal(*draws), "the oracle draws clean data"
        again = corruption.applied(clean)
        assert torch.equal(again.train, source.train), "one corruption for all seeds and families"
    assert isinstance(corruption.applied(grid), KnownDensity) and isinstance(corruption.applied(grid), KnownModes)
    images = corruption.applied(digits).classifier_images()
    assert torch.equal(images[0], digits.train), "the ruler is that of clean data"


def test_nothing_is_the_source_itself(grid):
    assert Nothing().applied(grid) is grid


def test_a_subsample_is_a_share_that_is_repeated(digits):
    tenth, hundredth = (Subsample(share).applied(digits) for share in (0.1, 0.01))
    distinct = [set(rows(source.train)) for source in (tenth, hundredth)]
    assert [len(one) for one in distinct] == [130, 13]
    assert distinct[1] < distinct[0] < set(rows(digits.train)), "smaller shares are parts of larger ones"
    assert len(tenth.train) == 9 * 130 and len(hundredth.train) == 99 * 13
    assert rows(tenth.train[:130]) == rows(tenth.train[130:260])
    whole = Subsample(1.0).applied(digits)
    assert sorted(rows(whole.train)) == sorted(rows(digits.train))


def test_labels_go_with_their_events(digits):
    known = dict(zip(rows(digits.train), digits.train_labels.tolist(), strict=True))
    for corruption in (Subsample(0.1), RareClass(3)):
        source = corruption.applied(digits)
        assert [known[event] for event in rows(source.train)] == source.train_labels.tolist()


def test_a_rare_class_keeps_a_hundredth_and_the_others_all(digits, grid):
    for clean, of_class in ((digits, 3), (grid, 12)):
        before = clean.train_labels.bincount()
        after = RareClass(of_class).applied(clean).train_labels.bincount(minlength=len(before))
        expected = before.clone()
        expected[of_class] = max(1, round(0.01 * int(before[of_class])))
        assert after.tolist() == expected.tolist()


def test_outliers_are_uniform_in_the_box_of_the_data(grid, digits):
    source = Outliers(0.05).applied(grid)
    strange = (source.train != grid.train).any(dim=1)
    assert int(strange.sum()) == 1000
    x = source.train[strange].double()
    low, high = grid.train.amin(dim=0), grid.train.amax(dim=0)
    unit = (x - low) / (high - low)
    assert float(unit.min()) >= 0.0 and float(unit.max()) <= 1.0
    # mean and variance of U(0, 1): four standard errors, a false alarm in 1e-3 for the four of them
    assert ((unit.mean(dim=0) - 0.5).abs() < 4 * (1 / 12 / 1000) ** 0.5).all()
    assert ((unit.var(dim=0) - 1 / 12).abs() < 4 * (1 / 180 / 1000) ** 0.5).all()
    assert float((grid.assign(source.train[strange]) < 0).double().mean()) > 0.9
    images = Outliers(0.05).applied(digits)
    noise = images.train[(images.train != digits.train).flatten(1).any(dim=1)]
    assert len(noise) == 65 and set(noise.unique().tolist()) == set(range(17))


@pytest.mark.parametrize("corruption", [Subsample(0.1), Outliers(0.2)], ids=lambda c: type(c).__name__)
def test_views_are_corrupted_as_tensors_are(corruption):
    """A source that makes its events when they are looked at, beside one that holds the same."""
    events = torch.randint(17, (500, 1, 4, 4), generator=derived_generator(0, "events")).to(torch.uint8)
    held: Any = SimpleNamespace(name="toy", event=Event((1, 4, 4), 17), split="test", train=events)
    made: Any = SimpleNamespace(**vars(held) | {"train": View(500, lambda chosen: events[chosen])})
    one, other = (corruption.applied(cast(Source, source)) for source in (held, made))
    assert len(one.train) == len(other.train) and torch.equal(one.train, other.train[:])
    some = torch.tensor([3, 3, 499 % len(one.train), 7])
    assert torch.equal(one.train[some], other.train[some])


def test_a_validation_split_stays_clean(digits):
    clean = seen_through("validation", digits)
    source = Outliers().applied(clean)
    assert source.split == "validation" and torch.equal(source.test, clean.test)
    assert len(source.train) == len(clean.train) < len(digits.train)


@pytest.mark.parametrize(
    ("corruption", "clean", "message"),
    [
        (RareClass(10), Digits(), "of_class: expected a class of digits, which has classes 0 to 9, got 10"),
        (RareClass(), StackedDigits(train_size=10, test_size=10), "stacked_digits, which has no labels, got 0"),
    ],
)
def test_what_cannot_be_applied_is_refused(corruption, clean, message):
    with pytest.raises(ValueError, match=message):
        corruption.applied(clean).require()


@pytest.mark.parametrize("make", [lambda: Subsample(0.0), lambda: RareClass(share=2.0), lambda: Outliers(-0.1)])
def test_shares_are_shares(make):
    with pytest.raises(ValueError, match=r"corruption.share: expected a share"):
        make()


def test_a_corruption_must_say_what_it_shows():
    with pytest.raises(TypeError, match="rows"):
        Corruption()  # type: ignore[abstract]


class Sampler:
    """A model that draws what it was trained on."""

    def __init__(self, events):
        self.events = events

    def sample(self, n, *, generator):
        return self.events[torch.randint(len(self.events), (n,), generator=generator)]


def test_a_class_is_drawn_as_often_as_it_was_seen(grid):
    """20,000 draws of the corrupted split: the ratio is 1 within four standard errors, the share that of training."""
    from genfam.metrics.base import Evaluation
    from genfam.metrics.extractors import Identity

    source = RareClass(12, share=0.1).applied(grid)
    evaluation = Evaluation(source, source.test[:100], source.test[:100], Identity(), cast(Any, Sampler(source.train)))
    share, ratio = (m.estimate for m in ClassShare(12).measure(evaluation))
    trained = float((source.train_labels == 12).double().mean())
    assert abs(share.value - 0.989 * trained) < 4 * share.stderr and share.n == 20_000
    assert ratio.value == pytest.approx(share.value / trained) and ratio.stderr == pytest.approx(share.stderr / trained)
    clean = Evaluation(source, source.test[:100], source.test[:100], Identity(), cast(Any, Sampler(grid.train)))
    assert ClassShare(12).measure(clean)[1].estimate.value > 5, "who draws clean data draws it ten times as often"
    refused = ClassShare(25).measure(evaluation)
    assert all(m.status is Status.NOT_APPLICABLE and "no class 25" in m.reason for m in refused)
