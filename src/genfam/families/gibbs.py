"""Gibbs with gradients: the gradient says which number should change to which level, and one changes at a time.

Reference:
    Grathwohl, W. et al. 2021. Oops I took a gradient: scalable sampling for discrete distributions.
        https://arxiv.org/abs/2102.04509 (equations 3 to 5 and section 3.2; algorithm 1)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from genfam.families.moves import Moves, Potential, taken, value_and_gradient
from genfam.seeds import integers, uniform
from genfam.types import Event


@dataclass(frozen=True)
class GibbsWithGradients(Moves):
    """Number i changes to level j with probability ∝ e^(d_ij / 2), d_ij being the change of −U to first order.

    A move is always to another state; p_0 is uniform over all.
    """

    between_levels: ClassVar[bool] = True

    def start(self, n: int, event: Event, device: torch.device | str, generator: Generator | None = None) -> Tensor:
        """See `Moves.start`."""
        assert event.levels is not None
        return F.one_hot(integers(event.levels, (n, *event.shape), device, generator), event.levels).float()

    def log_start(self, x: Tensor) -> Tensor:
        """See `Moves.log_start`."""
        return -math.log(x.shape[-1]) * x.flatten(1).sum(dim=1)  # as many ones as there are numbers

    def run(self, potential: Potential, x: Tensor, steps: int, generator: Generator | None = None) -> Tensor:
        """See `Moves.run`."""
        shape, levels, rows = x.shape, x.shape[-1], torch.arange(len(x), device=x.device)

        def at(state: Tensor) -> tuple[Tensor, Tensor]:
            """U, and the log-probabilities of all moves (B, D · levels) from there."""
            value, gradient = value_and_gradient(potential, state.view(shape))
            change = (gradient * state.view(shape)).sum(dim=-1, keepdim=True) - gradient  # of −U
            return value, (0.5 * change).flatten(1).masked_fill(state > 0.5, -math.inf).log_softmax(dim=1)

        x = x.flatten(1)
        value, moves = at(x)
        for _ in range(steps):
            # the largest of log-probabilities with Gumbel noise is a draw by them
            noise = -torch.log(-torch.log(uniform(moves.shape, x.device, generator)))
            chosen = (moves + noise).argmax(dim=1)
            number = chosen // levels
            before = number * levels + x.unflatten(1, (-1, levels))[rows, number].argmax(dim=1)
            y = x.clone()
            y[rows, before], y[rows, chosen] = 0.0, 1.0
            other, other_moves = at(y)
            move = taken(value - other + other_moves[rows, before] - moves[rows, chosen], generator)
            x, value = torch.where(move[:, None], y, x), torch.where(move, other, value)
            moves = torch.where(move[:, None], other_moves, moves)
        return x.view(shape)
