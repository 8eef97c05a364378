"""Events that are none of the source's."""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.corruptions.base import Corruption
from genfam.ranges import Share
from genfam.seeds import derived_generator
from genfam.sources.base import Source


class Outliers(Corruption):
    """Noise in the place of a random share of the training events.

    Uniform over the data's bounding box: of points over the range of the training events in each dimension, of discrete
    events over all levels, each pixel by itself.

    Args:
        share: of the training events that are replaced.
    """

    def __init__(self, share: Share = 0.05) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"corruption.share: expected a share from 0 to 1, got {share}")
        self.share = share

    def rows(self, source: Source) -> Tensor:
        """All places, those of outliers among them."""
        return torch.arange(len(source.train))

    def intruders(self, source: Source) -> tuple[Tensor, Tensor]:
        """See `Corruption.intruders`."""
        size = len(source.train)
        generator = derived_generator(0, source.name, "outliers")
        places = torch.randperm(size, generator=generator)[: round(self.share * size)]
        shape = (len(places), *source.event.shape)
        if source.event.levels is not None:
            levels = torch.randint(source.event.levels, shape, generator=generator)
            return places, levels.to(torch.uint8)
        events = source.train[:]
        low, high = events.amin(dim=0), events.amax(dim=0)
        return places, low + (high - low) * torch.rand(shape, generator=generator)
