"""What a condition is: one of a few values for each event, drawn by its share when a model samples.

p(x) = Σ_c p(c) p(x | c): the condition owns p(c), a family models p(x | c), and `Family.log_prob` puts them together.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from genfam.ranges import ShareBelowOne
from genfam.seeds import choices, uniform
from genfam.types import Data


class Condition(nn.Module, ABC):
    """A discrete condition.

    What `fit` finds stands in buffers, so that saved runs hold it and need no data. Before `fit` (or before a saved
    state is loaded) there are no classes.

    Args:
        dropout: share of training events that are given the null label `classes` in place of their own, as
            classifier-free guidance needs it (Ho & Salimans 2022, algorithm 1); 0 = there is no null label.

    Attributes:
        are_labels: whether the values are the source's own labels.
        shares: (classes,) p(c), of the training split.
        of_training: (N,) int64 value of each training event once fitted; None without.
    """

    are_labels = False
    shares: Tensor
    spelled: Tensor

    def __init__(self, dropout: ShareBelowOne = 0.0) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"condition.dropout: expected a share of at least 0 and below 1, got {dropout}")
        self.dropout = dropout
        self.register_buffer("shares", torch.zeros(0))
        self.register_buffer("spelled", torch.zeros(0, dtype=torch.uint8))  # the names, as a saved run keeps them
        self.of_training: Tensor | None = None

    @abstractmethod
    def fit(self, data: Data) -> None:
        """Look once at the training split: finds what `of` needs, and calls `settle`."""

    @abstractmethod
    def attend(self, data: Data) -> None:
        """Find `of_training` anew by what was fitted before, for a saved model that draws real events."""

    @abstractmethod
    def expected(self, data: Data) -> int:
        """Number of values that `fit` will find at most; looks at no event."""

    @abstractmethod
    def of(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) int64.

        Raises:
            NotImplementedError: an event alone does not say.
        """

    def of_test(self, data: Data) -> Tensor:
        """(M,) int64 value of each event of the reference split."""
        return self.of(data.test)

    def settle(self, values: Tensor, names: tuple[str, ...]) -> None:
        """Keep (N,) int64 values of the training events, their shares, and the values' names."""
        self.of_training = values
        self.shares = values.bincount(minlength=len(names)).float() / len(values)
        self.spelled = torch.tensor(list(json.dumps(names).encode()), dtype=torch.uint8)

    @property
    def classes(self) -> int:
        """Number of values; 0 = none, and then a family is called without a condition."""
        return len(self.shares)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values, for people."""
        return tuple(json.loads(bytes(self.spelled.tolist()))) if len(self.spelled) else ()

    @property
    def codes(self) -> int:
        """Number of values that a network must know: the null label is one more."""
        return self.classes + (self.classes > 0 and self.dropout > 0.0)

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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        """As torch's, but buffers take the size of what is loaded: it says how many classes there are."""
        for name, value in self._buffers.items():
            there = state_dict.get(prefix + name)
            if value is not None and there is not None and there.shape != value.shape:
                setattr(self, name, torch.zeros_like(there, device=value.device))
        super()._load_from_state_dict(state_dict, prefix, *more)
