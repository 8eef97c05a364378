"""Clean data."""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.corruptions.base import Corruption
from genfam.sources.base import Source


class Nothing(Corruption):
    """The default: the training split as it is."""

    def applied(self, source: Source) -> Source:
        """The source itself."""
        return source

    def rows(self, source: Source) -> Tensor:
        """All."""
        return torch.arange(len(source.train))
