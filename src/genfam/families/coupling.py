"""Which noise goes to which data, within a batch.

References:
    Tong, A. et al. 2024. Improving and generalizing flow-based generative models with minibatch optimal
        transport. https://arxiv.org/abs/2302.00482 (section 3.2)
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Coupling(ABC):
    """A joint distribution of noise and data."""

    @abstractmethod
    def __call__(self, x0: Tensor, x1: Tensor) -> Tensor:
        """(B, *shape) independent noise, (B, *shape) data -> the noise in the order in which it is paired."""


class Independent(Coupling):
    """As they come."""

    def __call__(self, x0: Tensor, x1: Tensor) -> Tensor:
        """-> (B, *shape)."""
        return x0


class OptimalTransport(Coupling):
    """At least squared cost within the batch, exactly (POT, extra `ot`).

    Its work on the CPU is no matrix multiplication, and so is not in the counted FLOPs.

    Raises:
        ImportError: POT is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("ot") is None:
            raise ImportError("coupling: OptimalTransport needs POT: pip install 'genfam[ot]'")

    def __call__(self, x0: Tensor, x1: Tensor) -> Tensor:
        """-> (B, *shape)."""
        import ot  # here: a module cannot be copied with the family

        cost = torch.cdist(x1.flatten(1), x0.flatten(1)).square().double().cpu().numpy()
        plan = ot.emd(ot.unif(len(x1)), ot.unif(len(x0)), cost)
        return x0[torch.from_numpy(plan).argmax(dim=1).to(x0.device)]
