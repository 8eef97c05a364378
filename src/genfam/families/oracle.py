"""Fresh real data in the place of a model: the best that any metric can say."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from genfam.families.untrained import WithoutNetwork
from genfam.types import Data, Event, KnownDensity, Likelihood


class Oracle(WithoutNetwork):
    """Draws from the source itself; where p_data is known, its log-likelihood is the truth.

    With a condition, real training events that have its value.

    Args:
        event: of the source.
        classes: values of the condition; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    needs_data: ClassVar[bool] = True

    def __init__(self, event: Event, classes: int = 0) -> None:
        super().__init__(event)
        self.data: Data | None = None

    @property
    def density_kind(self) -> Likelihood:
        """Exact where p_data is known."""
        return Likelihood.EXACT if isinstance(self.data, KnownDensity) else Likelihood.NONE

    def prepare(self, data: Data) -> None:
        """Remember where real data come from."""
        self.data = data

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event) fresh real data."""
        if self.data is None:
            raise ValueError("expected prepare(data) before sample: the oracle draws from a source")
        if condition is None:
            return self.data.sample(n, generator=generator)
        of_training = self.condition.of_training
        assert of_training is not None
        chosen = torch.empty(n, dtype=torch.int64)
        for value in condition.unique().tolist():
            rows = (condition == value).nonzero()[:, 0]
            own = (of_training == value).nonzero()[:, 0]
            if not len(own):
                raise ValueError(f"condition: expected a value that training events have, got {value}")
            rounds = [torch.randperm(len(own), generator=generator) for _ in range(-(-len(rows) // len(own)))]
            chosen[rows] = own[torch.cat(rounds)[: len(rows)]]
        return self.data.train[chosen]

    def begin_at(self, init: Data) -> None:
        """Fresh real data still; where each event of `init` would go is the exact optimal plan's."""
        self.init = init

    def carry(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n, *event): fresh real data, each the partner of a start by the exact optimal plan."""
        ends = self.draw(len(x), None, generator)
        return ends[optimal_partners(x, ends)]

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event) -> (B,) nats, the truth: an event has one value, so p(x | c) = p(x) / p(c) or 0."""
        assert isinstance(self.data, KnownDensity)
        log_prob = self.data.log_prob(x.cpu()).float()
        if condition is None:
            return log_prob
        label_of: Any = getattr(self.data, "label_of", None)
        own = label_of(x.cpu()) if self.condition.are_labels else self.condition.of(x)
        return torch.where(own == condition, log_prob - self.condition.log_prob(condition), -torch.inf)


def optimal_partners(starts: Tensor, ends: Tensor) -> Tensor:
    """(n, *event), (n, *event) -> (n,) int64: which end goes with each start at the least mean squared distance."""
    cost = torch.cdist(starts.flatten(1).double(), ends.flatten(1).double()).square()
    return torch.from_numpy(linear_sum_assignment(cost.cpu().numpy())[1])
