"""A feature space of token sequences: counts of neighbouring pairs.

Reference:
    D. Achlioptas (2003). Database-friendly random projections. Journal of Computer and System Sciences 66 (random signs
    keep distances).
"""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.metrics.base import Extractor, blocks
from genfam.metrics.ngrams import is_sequence, ngram_codes
from genfam.ranges import Count
from genfam.types import Data

BLOCK = 2000  # sequences at once


class Bigrams(Extractor):
    """How often a sequence has each pair of neighbouring tokens: the counts, or a fixed random projection of them.

    The numbers of tokens have no order, so that moments of the numbers themselves would mean nothing.

    Args:
        name: of the feature space.
        data: the source, of sequences.
        cache_dir: not used; every extractor accepts it.
        features: with more pairs than these the counts are multiplied by a matrix of random signs over √features.

    Raises:
        ValueError: events are no sequences.
    """

    def __init__(self, name: str, data: Data, cache_dir: object = None, features: Count = 64) -> None:
        if not is_sequence(data.event):
            raise ValueError(f"extractor {name}: expected sequences of tokens, got events {data.event}")
        self.name, self.levels = name, data.event.levels or 0
        pairs = self.levels**2
        self.projection = torch.eye(pairs, dtype=torch.float64)
        if pairs > features:
            signs = torch.randint(2, (pairs, features), generator=torch.Generator().manual_seed(0))
            self.projection = (2.0 * signs.double() - 1.0) * features**-0.5

    @property
    def fingerprint(self) -> str:
        """The name and the sizes say it all."""
        pairs, size = self.projection.shape
        return f"{self.name}, {pairs} counts" + (f" projected to {size}" if size < pairs else "")

    def features(self, x: Tensor) -> Tensor:
        """(N, L) tokens -> (N, d) float64."""
        codes = ngram_codes(x.cpu(), 2, self.levels)
        parts = [self.projection[codes[rows]].sum(dim=1) for rows in blocks(len(codes), BLOCK)]
        return torch.cat(parts) if parts else torch.zeros(0, self.projection.shape[1], dtype=torch.float64)
