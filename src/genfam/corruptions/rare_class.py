"""A class that is nearly missing."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from genfam.corruptions.base import Corruption
from genfam.ranges import CountOrNone
from genfam.seeds import derived_generator
from genfam.sources.base import Source


class RareClass(Corruption):
    """Of one class a random share of its training events, at least one; all of the other classes.

    `genfam.metrics.class_share` measures how often the class is drawn.

    Args:
        of_class: index of the class: a label, or a mode of points.
        share: of its training events.
    """

    def __init__(self, of_class: CountOrNone = 0, share: Annotated[float, Gt(0), Le(1)] = 0.01) -> None:
        if not 0.0 < share <= 1.0:
            raise ValueError(f"corruption.share: expected a share above 0 and at most 1, got {share}")
        self.of_class, self.share = of_class, share

    def require(self, source: Source) -> None:
        """Raises ValueError: the source has no labels, or not that class."""
        count = len(source.label_names)
        if self.of_class >= count:
            there = f"classes 0 to {count - 1}" if count else "no labels"
            raise ValueError(
                f"corruption.of_class: expected a class of {source.name}, which has {there}, got {self.of_class}"
            )

    def rows(self, source: Source) -> Tensor:
        """See `Corruption.rows`."""
        labels = source.train_labels
        own = (labels == self.of_class).nonzero()[:, 0]
        if not len(own):
            raise ValueError(f"corruption.of_class: expected training events of class {self.of_class}, got none")
        order = torch.randperm(len(own), generator=derived_generator(0, source.name, "rare class", self.of_class))
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[own[order[max(1, round(self.share * len(own))) :]]] = False
        return kept.nonzero()[:, 0]
