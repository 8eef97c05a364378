"""Real digits and their stacks."""

import torch
from scipy import stats

from genfam.seeds import derived_generator
from genfam.sources.images import Digits, StackedDigits


def test_digits_are_the_real_ones_split_by_class():
    digits = Digits()
    train, train_labels, test, test_labels = digits.classifier_images()
    assert train.shape == (1297, 1, 8, 8) and test.shape == (500, 1, 8, 8)
    assert train.dtype == torch.uint8 and int(train.max()) == 16
    shares = [labels.bincount() / len(labels) for labels in (train_labels, test_labels)]
    assert float((shares[0] - shares[1]).abs().max()) < 0.01  # stratified
    both = {tuple(x.tolist()) for x in train.flatten(1)} & {tuple(x.tolist()) for x in test.flatten(1)}
    assert not both  # nothing of the test split can be learnt by heart


def test_oracle_digits_do_not_repeat_before_they_must():
    digits = Digits()
    draws = digits.sample(1297, generator=derived_generator(0, "x")).flatten(1)
    assert torch.equal(draws.long().sum(0), digits.train.flatten(1).long().sum(0))


def test_stacks_have_uniform_modes_and_keep_the_splits_apart():
    stacked = StackedDigits(train_size=20_000, test_size=5_000)
    assert stacked.event.shape == (3, 8, 8) and len(stacked.mode_masses) == 1000
    train, labels, test, _ = stacked.classifier_images()
    known = {tuple(x.tolist()): int(y) for x, y in zip(train.flatten(1), labels, strict=True)}
    digits = [known[tuple(x.tolist())] for x in stacked.train.reshape(-1, 64)]
    counts = torch.tensor(digits).reshape(-1, 3) @ torch.tensor([100, 10, 1])
    # false alarm rate 1e-3, seed fixed
    assert stats.chisquare(counts.bincount(minlength=1000).numpy()).pvalue > 1e-3
    held_out = {tuple(x.tolist()) for x in test.flatten(1)}
    assert all(tuple(x.tolist()) in held_out for x in stacked.test[:200].reshape(-1, 64))
