"""What a condition is: one of a few values for each event, drawn by its share when a model samples.

p(x) = Σ_c p(c) p(x | c): the condition owns p(c), a family models p(x | c), and `Family.log_prob` puts them together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from genfam.seeds import choices, uniform
from genfam.types import Data


class Condition(nn.Module, ABC):
    """A discrete condition. What `fit` finds stands in buffers, so that saved runs hold it.

    Attributes:
        classes: number of values; 0 = none, and then a family is called without a condition.
        dropout: share of training events that are given the null label `classes` in place of their own, as
            classifier-free guidance needs it (Ho & Salimans 2022, algorithm 1); 0 = there is no null label.
        names: of the values, for people.
        shares: (classes,) p(c), of the training split.
        of_training: (N,) int64 value of each training event once fitted; None without.
    """

    shares: Tensor

    def __init__(self, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"condition.dropout: expected a share of at least 0 and below 1, got {dropout}")
        self.classes, self.dropout = classes, dropout
        self.names: tuple[str, ...] = tuple(str(index) for index in range(classes))
        self.register_buffer("shares", torch.full((classes,), 1.0 / max(1, classes)))
        self.of_training: Tensor | None = None

    @abstractmethod
    def fit(self, data: Data) -> None:
        """Look once at the training split: sets `shares` and `of_training`."""

    @abstractmethod
    def of(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) int64.

        Raises:
            NotImplementedError: an event alone does not say.
        """

    @property
    def codes(self) -> int:
        """Number of values that a network must know: the null label is one more."""
        return self.classes + (self.dropout > 0.0)

    def draw(self, n: int, generator: Generator) -> Tensor:
        """-> (n,) int64, by the shares."""
        return choices(self.shares.expand(n, -1), generator).squeeze(1)

    def log_prob(self, condition: Tensor) -> Tensor:
        """(B,) int64 -> (B,) nats."""
        return self.shares.log()[condition]

    def dropped(self, condition: Tensor | None) -> Tensor | None:
        """(B,) int64 as training sees it: some are the null label. Draws from torch's global generator."""
        if condition is None or self.dropout == 0.0:
            return condition
        hidden = uniform((len(condition),), condition.device) < self.dropout
        return torch.where(hidden, self.classes, condition)

    def null(self, condition: Tensor) -> Tensor:
        """(B,) -> (B,): the null label.

        Raises:
            ValueError: there is none.
        """
        if self.dropout == 0.0:
            raise ValueError(
                "condition.dropout: expected a share above 0 for a model that was trained without labels too"
            )
        return torch.full_like(condition, self.classes)
