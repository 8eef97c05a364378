"""The events of one class of another source."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor

from genfam.ranges import CountOrNone
from genfam.sources.base import Source
from genfam.sources.images import draw


class OneClass(Source):
    """One class of a source that has labels.

    Args:
        of: the source.
        label: number of the class.
        name: of the source.
    """

    def __init__(self, of: Source, label: CountOrNone, name: str) -> None:
        if label >= len(of.label_names):
            raise ValueError(f"label: expected 0 to {len(of.label_names) - 1}, got {label}")
        self.of, self.label, self.name = of, label, name
        self.event = of.event

    def require(self) -> None:
        """Whether the whole source's files are there."""
        self.of.require()

    def count(self) -> int:
        """Of its training events."""
        return len(self.train)

    def contents(self) -> str | None:
        """Of the whole source."""
        return self.of.contents()

    @property
    def train(self) -> Tensor:
        """(N, *event)."""
        return self.of.train[self.of.train_labels == self.label]

    @property
    def test(self) -> Tensor:
        """(M, *event)."""
        return self.of.test[self.of.test_labels == self.label]

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, *event) of the training split, without repetition as long as they last."""
        return draw(self.train, n, generator)

    def classifier_images(self) -> Any:
        """The whole source's, so that the ruler is the same."""
        source: Any = self.of
        return source.classifier_images()
