"""What tests of families share: a condition that events show, and the training loop alone."""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.conditions.base import Condition
from genfam.families.base import Family
from genfam.types import Batch, Data
from stand_ins import look_at


class Slices(Condition):
    """In which of `count` slices, about equally full, an event's first number lies."""

    edges: Tensor

    def __init__(self, count: int = 2, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.count = count
        self.shares = torch.full((count,), 1.0 / count)
        self.register_buffer("edges", torch.zeros(count - 1))

    def expected(self, data: Data) -> int:
        return self.count

    def fit(self, data: Data) -> None:
        shares = torch.arange(1, self.count) / self.count
        self.edges.copy_(torch.quantile(data.train.flatten(1)[:, 0].float(), shares))
        self.settle(self.of(data.train), tuple(map(str, range(self.count))))

    def attend(self, data: Data) -> None:
        self.of_training = self.of(data.train)

    def of(self, x: Tensor) -> Tensor:
        return torch.bucketize(x.flatten(1)[:, 0].float().contiguous(), self.edges, right=True)


def train(family: Family, x: Tensor, updates: int, condition: Tensor | None = None) -> None:
    """Look at (N, *event), then learn from random batches of it."""
    look_at(family, x)
    family.train()
    family.total_updates = updates
    optimisers = family.configure_optimizers()
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        rows = torch.randint(len(x), (family.batch_size,), generator=generator)
        batch = Batch(x[rows], None if condition is None else condition[rows])
        family.update(batch, optimisers, torch.autograd.backward)
    family.eval()
