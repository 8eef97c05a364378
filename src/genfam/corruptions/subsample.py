"""Few training events."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from genfam.corruptions.base import Corruption
from genfam.seeds import derived_generator
from genfam.sources.base import Source


class Subsample(Corruption):
    """A random share of the training events; smaller shares are parts of larger ones.

    What is kept is repeated, each event equally often, until the split is about as long as before: batches keep their
    size, and an epoch its length. So `authenticity` (`genfam.metrics.memorisation`) finds exact copies only, since the
    nearest other training event is the same event again; `data_copying` does not mind.

    Args:
        share: of the training events.
    """

    def __init__(self, share: Annotated[float, Gt(0), Le(1)] = 0.1) -> None:
        if not 0.0 < share <= 1.0:
            raise ValueError(f"corruption.share: expected a share above 0 and at most 1, got {share}")
        self.share = share

    def rows(self, source: Source) -> Tensor:
        """See `Corruption.rows`."""
        size = len(source.train)
        order = torch.randperm(size, generator=derived_generator(0, source.name, "subsample"))
        kept = order[: max(1, round(self.share * size))]
        return kept.repeat(size // len(kept))
