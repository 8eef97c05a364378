"""Markov chains whose stationary density is p(x) ∝ e^(−U(x)), by moves that the gradient of U informs.

Every move is proposed and then taken with probability min(1, e^(U(x) − U(y)) q(x | y) / q(y | x)) (Hastings 1970), so
that a chain leaves p as it is, whatever the size of a step. Langevin moves are in `langevin.py`, those of levels in
`gibbs.py`.

Reference:
    Hastings, W. K. 1970. Monte Carlo sampling methods using Markov chains and their applications. Biometrika 57.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Generator, Tensor

from genfam.seeds import uniform
from genfam.types import Event

Potential = Callable[[Tensor], Tensor]
"""U: (B, *state) -> (B,) nats, differentiable in the state."""


class Moves(ABC):
    """A kind of move, the states that it moves between, and the density p_0 of those from which chains begin.

    Attributes:
        between_levels: whether states are levels, (B, *event, levels) one-hot; else they are real, (B, *event).
    """

    between_levels: ClassVar[bool]

    @abstractmethod
    def start(self, n: int, event: Event, device: torch.device | str, generator: Generator | None = None) -> Tensor:
        """-> (n, *state) independent draws of p_0."""

    @abstractmethod
    def log_start(self, x: Tensor) -> Tensor:
        """(B, *state) -> (B,) log p_0 in nats, per the states' own measure; normalised, and linear or smooth in x."""

    @abstractmethod
    def run(self, potential: Potential, x: Tensor, steps: int, generator: Generator | None = None) -> Tensor:
        """(B, *state) -> (B, *state) after `steps` moves of each chain."""


def value_and_gradient(potential: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    """U (B,) and ∂U/∂x (B, *state); no graph is kept, and the parameters of U get no gradient."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = potential(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def taken(log_ratio: Tensor, generator: Generator | None) -> Tensor:
    """(B,) log of the ratio above -> (B,) whether the move is taken; one that is not a number is not."""
    return uniform(log_ratio.shape, log_ratio.device, generator).log() < log_ratio
