"""A seeded, resumable stream of training batches from a tensor in memory: no loader workers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from genfam.seeds import derived_generator
from genfam.types import Batch


class BatchStream:
    """Batch number i is a pure function of (seed, i), so a resumed run sees what an uninterrupted one would.

    Each epoch is a fresh permutation; the remainder that does not fill a batch is left out of that epoch.

    Args:
        events: (N, *event).
        batch_size: events per batch, at most N.
        seed: of the order.
        start, stop: batch numbers to yield.
        conditions: (N,) int64, what each event is conditioned on; None = nothing.

    Raises:
        ValueError: a batch larger than the data.
    """

    def __init__(
        self, events: Tensor, batch_size: int, seed: int, start: int, stop: int, conditions: Tensor | None = None
    ) -> None:
        if not 0 < batch_size <= len(events):
            raise ValueError(f"batch_size: expected 1 to {len(events)} (the training events), got {batch_size}")
        self.events, self.batch_size, self.seed = events, batch_size, seed
        self.start, self.stop, self.conditions = start, stop, conditions
        self.per_epoch = len(events) // batch_size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Number of batches left."""
        return max(0, self.stop - self.start)

    def batch(self, index: int) -> Batch:
        """Batch number `index`."""
        epoch, within = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            generator = derived_generator(self.seed, "epoch", epoch)
            self._order = torch.randperm(len(self.events), generator=generator)
            self._epoch = epoch
        chosen = self._order[within * self.batch_size : (within + 1) * self.batch_size]
        return Batch(self.events[chosen], None if self.conditions is None else self.conditions[chosen])

    def __iter__(self) -> Iterator[Batch]:
        """Batches start to stop − 1."""
        for index in range(self.start, self.stop):
            yield self.batch(index)
