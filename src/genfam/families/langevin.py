"""Langevin moves: down the gradient, with the noise that makes p ∝ e^(−U) stationary.

References:
    Roberts, G. O. & Tweedie, R. L. 1996. Exponential convergence of Langevin distributions and their discrete
        approximations. Bernoulli 2 (section 1.4: the proposal and its correction, MALA)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from genfam.families.moves import Moves, Potential, taken, value_and_gradient
from genfam.ranges import Positive
from genfam.seeds import normal, uniform
from genfam.types import Event


@dataclass(frozen=True)
class Langevin(Moves):
    """y = x − (s² / 2) ∇U(x) + s ξ with ξ ~ N(0, I), corrected; p_0 is the standard normal.

    Attributes:
        smallest, largest: the size s of a step is drawn between them for each move, evenly in its logarithm. A chain
            that begins in noise has far to go, and one in a tight mode has little room; neither has to be known before.
    """

    smallest: Positive = 0.01
    largest: Positive = 0.1
    between_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.smallest <= self.largest:
            raise ValueError(f"moves: expected 0 < smallest ≤ largest, got {self.smallest} and {self.largest}")

    def start(self, n: int, event: Event, device: torch.device | str, generator: Generator | None = None) -> Tensor:
        """See `Moves.start`."""
        return normal((n, *event.shape), device, generator)

    def log_start(self, x: Tensor) -> Tensor:
        """See `Moves.log_start`."""
        flat = x.flatten(1)
        return -0.5 * flat.square().sum(dim=1) - 0.5 * flat.shape[1] * math.log(2.0 * math.pi)

    def run(self, potential: Potential, x: Tensor, steps: int, generator: Generator | None = None) -> Tensor:
        """See `Moves.run`."""
        value, gradient = value_and_gradient(potential, x)
        for _ in range(steps):
            size = self._sizes(x, generator)
            noise = normal(x.shape, x.device, generator).to(x)
            y = x - 0.5 * size.square() * gradient + size * noise
            other, other_gradient = value_and_gradient(potential, y)
            back = (x - y + 0.5 * size.square() * other_gradient) / size  # the noise that would lead back
            ratio = 0.5 * (noise.square() - back.square()).flatten(1).sum(dim=1)
            move = taken(value - other + ratio, generator)
            there = over(move, x)
            x, gradient = torch.where(there, y, x), torch.where(there, other_gradient, gradient)
            value = torch.where(move, other, value)
        return x

    def _sizes(self, x: Tensor, generator: Generator | None) -> Tensor:
        """(B, 1, …), one for each chain."""
        u = over(uniform((len(x),), x.device, generator).to(x), x)
        return self.smallest * (self.largest / self.smallest) ** u


def over(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, …) as many dimensions as x has."""
    return values.view(-1, *[1] * (x.dim() - 1))
