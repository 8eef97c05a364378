"""Solvers of dx/dt = v(t, x) in a given number of steps, by torchdiffeq."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchdiffeq import odeint

from genfam.ranges import Count

# our name -> torchdiffeq's name, network evaluations per step (its order)
METHODS = {"euler": ("euler", 1), "midpoint": ("midpoint", 2), "heun": ("heun2", 2), "rk4": ("rk4", 4)}


@dataclass(frozen=True)
class Solver:
    """A Runge–Kutta method with equal steps.

    Attributes:
        method: `euler`, `midpoint`, `heun` or `rk4`.
        steps: how many.
    """

    method: Literal["euler", "midpoint", "heun", "rk4"] = "heun"
    steps: Count = 25

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"solver: expected one of {', '.join(METHODS)}, got {self.method!r}")
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1, got {self.steps}")

    @property
    def order(self) -> int:
        """Evaluations per step."""
        return METHODS[self.method][1]

    def integrate(self, velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, end: float, steps: int) -> Tensor:
        """(n, *shape) at t = 0 -> (n, *shape) at t = `end`, in `steps` steps; none leaves x as it is."""
        if not steps:
            return x
        times = torch.linspace(0.0, end, steps + 1, device=x.device)
        out: Tensor = odeint(velocity, x, times, method=METHODS[self.method][0])[-1]
        return out
