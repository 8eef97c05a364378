"""Seeds derived from named dimensions, so that two families with one seed see the same data and reference."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator


def derive_seed(seed: int, *dimensions: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(3, "grid", "batches")`."""
    text = "|".join([str(seed), *map(str, dimensions)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derived_generator(seed: int, *dimensions: str | int) -> Generator:
    """A CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *dimensions))
