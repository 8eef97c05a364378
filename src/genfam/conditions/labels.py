"""The source's own labels."""

from __future__ import annotations

from torch import Tensor

from genfam.conditions.base import Condition
from genfam.types import Data


class Labels(Condition):
    """What the source says an event is: a digit, a piece of clothing, the folder of an image.

    Args:
        dropout: see `Condition`.
    """

    are_labels = True

    def fit(self, data: Data) -> None:
        """Raises ValueError: the source has no labels, or a class without a training event."""
        self.expected(data)
        self.settle(data.train_labels, data.label_names)
        if not bool((self.shares > 0).all()):
            lacking = data.label_names[int(self.shares.argmin())]
            raise ValueError(
                f"condition=labels: expected training events of every class of {data.name}, got none of {lacking}"
            )

    def attend(self, data: Data) -> None:
        """See `Condition.attend`."""
        self.of_training = data.train_labels

    def expected(self, data: Data) -> int:
        """Raises ValueError: the source has no labels."""
        if not data.label_names:
            raise ValueError(f"condition=labels: expected a source with labels, got {data.name}, which has none")
        return len(data.label_names)

    def of(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError: a label stands beside an event, not in it."""
        raise NotImplementedError("condition=labels: an event alone does not say its label")

    def of_test(self, data: Data) -> Tensor:
        """(M,) int64 labels of the reference split."""
        return data.test_labels
