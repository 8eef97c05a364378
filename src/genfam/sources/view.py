"""Events that are made when they are looked at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class View:
    """Events that are made when they are looked at: `len` and indexing by slice or by (B,) int64, like a tensor.

    What an index gives depends on the index alone, so that a resumed run sees what an uninterrupted one would.
    """

    def __init__(self, length: int, make: Callable[[Tensor], Tensor]) -> None:
        self.length, self.make = length, make

    def __len__(self) -> int:
        """Number of events."""
        return self.length

    def __getitem__(self, key: slice | Tensor) -> Tensor:
        """(B, *event)."""
        chosen = torch.arange(self.length)[key] if isinstance(key, slice) else key
        return self.make(chosen)
