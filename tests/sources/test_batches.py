"""Batches are a pure function of (seed, index)."""

import pytest
import torch

from genfam.sources.batches import BatchStream

EVENTS = torch.arange(10)[:, None]


def test_each_epoch_is_a_permutation_without_its_remainder():
    batches = [batch.event for batch in BatchStream(EVENTS, 3, seed=0, start=0, stop=6)]
    for epoch in (batches[:3], batches[3:]):
        assert len(torch.cat(epoch).unique()) == 9
    assert not torch.equal(torch.cat(batches[:3]), torch.cat(batches[3:]))


def test_resuming_yields_what_would_have_come():
    whole = list(BatchStream(EVENTS, 3, seed=5, start=0, stop=8))
    rest = list(BatchStream(EVENTS, 3, seed=5, start=4, stop=8))
    assert all(torch.equal(a.event, b.event) for a, b in zip(whole[4:], rest, strict=True))
    assert len(BatchStream(EVENTS, 3, seed=5, start=4, stop=8)) == 4


def test_another_seed_is_another_order():
    one, two = (BatchStream(EVENTS, 10, seed=s, start=0, stop=1).batch(0).event for s in (0, 1))
    assert not torch.equal(one, two)


def test_every_event_keeps_its_condition():
    conditions = EVENTS[:, 0] % 3
    for batch in BatchStream(EVENTS, 4, seed=0, start=0, stop=5, conditions=conditions):
        assert torch.equal(batch.condition, batch.event[:, 0] % 3)
    assert BatchStream(EVENTS, 4, seed=0, start=0, stop=5).batch(0).condition is None


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch_size: expected 1 to 10"):
        BatchStream(EVENTS, 11, 0, 0, 1)
