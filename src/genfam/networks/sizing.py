"""Choose a network's width so that its parameters meet the budget."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

TOLERANCE = 0.10


def count_parameters(network: nn.Module) -> int:
    """Number of scalars in all parameters."""
    return sum(p.numel() for p in network.parameters())


def fit_width(build: Callable[[int], nn.Module], parameters: int, *, multiple: int = 1, largest: int = 4096) -> int:
    """The width (a multiple of `multiple`) whose network comes closest to the budget.

    Args:
        build: width -> network; called on the meta device, so it allocates nothing.
        parameters: budget of the network.
        multiple: widths tried are multiples of this (attention heads, grouped channels).
        largest: upper end of the search.

    Raises:
        ValueError: the closest width misses the budget by more than 10 %.
    """

    def size(width: int) -> int:
        with torch.device("meta"):
            return count_parameters(build(width))

    low, high = 1, max(1, largest // multiple)
    while low < high:  # the first width at or above the budget
        middle = (low + high) // 2
        if size(middle * multiple) < parameters:
            low = middle + 1
        else:
            high = middle
    best = min((w * multiple for w in (low - 1, low) if w >= 1), key=lambda w: abs(size(w) - parameters))
    found = size(best)
    if abs(found - parameters) > TOLERANCE * parameters:
        raise ValueError(
            f"expected a network within 10 % of {parameters} parameters; the closest has {found} (width {best}): "
            f"give the budget another number of parameters (budget.parameters=…) or the family another depth"
        )
    return best
