"""Labels and clusters: what they find, what a saved run holds of them, and that they hang on nothing else."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_info, threadpool_limits

from genfam.conditions.clusters import Clusters
from genfam.conditions.labels import Labels
from genfam.conditions.nothing import Nothing
from genfam.seeds import derived_generator
from genfam.sources.images import Digits, StackedDigits
from genfam.sources.known import Die, Grid, Ring, TinyImages
from genfam.sources.validation import ValidationSplit
from genfam.types import Event


def small(source: Any, size: int = 2000) -> Any:
    source.train_size, source.test_size = size, size // 4
    return source


@pytest.mark.parametrize("source", [Digits(), small(Die()), small(Ring()), small(Grid())], ids=lambda s: s.name)
def test_labels_are_those_of_the_source_with_their_shares_and_names(source: Any) -> None:
    condition = Labels()
    assert condition.classes == condition.codes == 0 and condition.names == ()
    assert condition.expected(source) == len(source.label_names)
    condition.fit(source)
    assert condition.names == source.label_names and condition.classes == len(source.label_names)
    counts = np.bincount(source.train_labels.numpy(), minlength=condition.classes)
    np.testing.assert_allclose(condition.shares.numpy(), counts / len(source.train), rtol=1e-6)
    assert torch.equal(condition.of_training, source.train_labels)
    assert torch.equal(condition.of_test(source), source.test_labels)
    assert float(condition.log_prob(torch.arange(condition.classes)).exp().sum()) == pytest.approx(1.0)
    with pytest.raises(NotImplementedError, match="an event alone does not say"):
        condition.of(source.train[:1])


def test_labels_of_known_sources_are_their_modes() -> None:
    die, ring = small(Die(weights=(1, 2, 3, 4, 5, 6))), small(Ring())
    assert torch.equal(die.train_labels, die.train[:, 0].long())
    angle = torch.atan2(ring.train[:, 1], ring.train[:, 0]) / (2 * math.pi) * 8
    assert torch.equal(ring.train_labels, angle.round().long() % 8)
    assert ring.label_names[2] == "(6.1e-17, 1)" or ring.label_names[2].endswith(", 1)")


def test_labels_of_the_validation_split_are_of_its_own_events() -> None:
    digits = Digits()
    split = ValidationSplit(digits)
    key = {image.numpy().tobytes(): int(label) for image, label in zip(digits.train, digits.train_labels, strict=True)}
    for images, labels in ((split.train, split.train_labels), (split.test, split.test_labels)):
        assert [key[image.numpy().tobytes()] for image in images] == labels.tolist()
    ring = ValidationSplit(small(Ring()))
    assert torch.equal(ring.test_labels, ring.source.label_of(ring.test))


@pytest.mark.parametrize("source", [TinyImages(), StackedDigits(train_size=10)], ids=lambda s: s.name)
def test_a_source_without_labels_is_named(source: Any) -> None:
    with pytest.raises(ValueError, match=f"condition=labels: expected a source with labels, got {source.name}"):
        Labels().fit(source)


def test_a_class_without_a_training_event_is_named() -> None:
    data: Any = SimpleNamespace(name="s", label_names=("a", "b"), train_labels=torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="training events of every class of s, got none of b"):
        Labels().fit(data)


def blobs(n: int = 900) -> Any:
    """Three tight round groups in ten dimensions, of shares 1/2, 1/3, 1/6, and which is which."""
    generator = derived_generator(0, "blobs")
    truth = torch.tensor([0, 0, 0, 1, 1, 2]).repeat(n // 6)
    centres = 5.0 * torch.randn(3, 10, generator=generator)
    x = centres[truth] + 0.1 * torch.randn(n, 10, generator=generator)
    return SimpleNamespace(name="blobs", event=Event((10,)), train=x, truth=truth)


def test_clusters_find_groups_that_are_there() -> None:
    data = blobs()
    condition = Clusters(3)
    condition.fit(data)
    assert adjusted_rand_score(data.truth.numpy(), condition.of_training.numpy()) == 1.0
    assert sorted(condition.shares.tolist()) == pytest.approx([1 / 6, 1 / 3, 1 / 2])
    assert condition.names == ("cluster 0", "cluster 1", "cluster 2")
    assert torch.equal(condition.of(data.train), condition.of_training)


def test_clusters_of_digits_are_about_as_tight_as_k_means_own() -> None:
    """Within a tenth of the sum of squares that scikit-learn's full k-means reaches from ten starts."""
    digits = Digits()
    condition = Clusters(10)
    condition.fit(digits)
    x = digits.train.flatten(1).float()
    means = torch.stack([x[condition.of_training == c].mean(dim=0) for c in range(condition.classes)])
    ours = float((x - means[condition.of_training]).square().sum())
    theirs = KMeans(10, n_init=10, random_state=0).fit(x.numpy()).inertia_
    assert ours < 1.1 * theirs


def test_clusters_are_no_others_with_other_threads_around() -> None:
    """One run id gave two results with one core and with two, since k-means took what it found."""
    digits = Digits()
    found = []
    for around in (1, 2):
        with threadpool_limits(around):
            torch.set_num_threads(1)
            condition = Clusters(10, threads=1)
            condition.fit(digits)
            found.append(condition.means)
            assert all(pool["num_threads"] <= around for pool in threadpool_info() if pool["user_api"] == "blas")
    assert torch.equal(*found)


def test_clusters_without_events_are_left_out_and_too_many_are_refused() -> None:
    die = small(Die(), 300)
    condition = Clusters(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        condition.fit(die)
    assert condition.classes == 6 and bool((condition.shares > 0).all())
    assert len({(int(face), int(value)) for face, value in zip(die.train, condition.of_training, strict=True)}) == 6
    with pytest.raises(ValueError, match=r"condition.count: expected at most 300 \(the training events\), got 301"):
        Clusters(301).fit(die)
    with pytest.raises(ValueError, match=r"condition.count: expected at least 1, got 0"):
        Clusters(0)


@pytest.mark.parametrize("make", [Nothing, Labels, lambda: Clusters(4)], ids=["nothing", "labels", "clusters"])
def test_a_saved_state_is_all_that_a_condition_needs(make: Any) -> None:
    digits = Digits()
    condition, again = make(), make()
    condition.fit(digits)
    again.load_state_dict(condition.state_dict())
    assert (again.classes, again.names, again.codes) == (condition.classes, condition.names, condition.codes)
    if isinstance(condition, Clusters):
        assert torch.equal(again.of(digits.test), condition.of(digits.test))
    assert again.of_training is None
    again.attend(digits)
    if condition.of_training is not None:
        assert torch.equal(again.of_training, condition.of_training)
