"""Annealed importance sampling: a normalising constant between two bounds.

Chains go from p_0, whose constant is known, to p through densities p_β ∝ p_0 e^(−β V) with β from 0 to 1, and each
collects the weight w whose mean is Z = E_{p_0}[e^(−V)]. The logarithm of a mean of weights is below log Z in
expectation. Chains that begin as draws of p and go the other way collect weights whose mean is 1 / Z, and so a bound
from above. The two close in on log Z as the steps between densities become finer.

References:
    Neal, R. M. 2001. Annealed importance sampling. Statistics and Computing 11. https://arxiv.org/abs/physics/9803008
        (equations 5 and 11)
    Burda, Y., Grosse, R. & Salakhutdinov, R. 2015. Accurate and conservative estimates of MRF log-likelihood using
        reverse annealing. https://arxiv.org/abs/1412.8566 (section 3: the bound from above)
    Friel, N. & Pettitt, A. N. 2008. Marginal likelihood estimation via power posteriors. Journal of the Royal
        Statistical Society B 70 (section 3.2: the schedule)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

from genfam.families.moves import Moves, Potential
from genfam.types import Estimate

POWER = 4  # of the schedule: near β = 0, where p_0 is still wide, V differs most between chains


@dataclass(frozen=True)
class Bracket:
    """Of log Z, in nats.

    Attributes:
        below, above: stochastic bounds with their standard errors.
    """

    below: Estimate
    above: Estimate

    def interval(self, errors: float) -> tuple[float, float]:
        """From so many standard errors below the lower bound to as many above the upper one.

        Where chains that should be draws of p are not, the bounds may lie the wrong way round: it then holds both.
        """
        bounds = (self.below, self.above)
        return (
            min(each.value - errors * (each.stderr or 0.0) for each in bounds),
            max(each.value + errors * (each.stderr or 0.0) for each in bounds),
        )

    @property
    def gap(self) -> Estimate:
        """Between the two."""
        error = math.hypot(self.below.stderr or 0.0, self.above.stderr or 0.0)
        return Estimate(self.above.value - self.below.value, error, self.below.n)

    @property
    def middle(self) -> Estimate:
        """Half-way, with half of the gap as an error beside the bounds' own."""
        error = 0.5 * math.hypot(self.gap.value, self.gap.stderr or 0.0)
        return Estimate(0.5 * (self.below.value + self.above.value), error, self.below.n)


def log_mean(log_weights: Tensor) -> Estimate:
    """(N,) -> log of the mean of e^w, with its standard error by the delta method."""
    n = len(log_weights)
    weights = torch.exp(log_weights.double() - log_weights.max())
    value = float(weights.mean().log() + log_weights.max())
    return Estimate(value, float(weights.std() / weights.mean()) / math.sqrt(n), n)


def bracket(
    moves: Moves, tilt: Potential, begun: Tensor, drawn: Tensor, temperatures: int, generator: Generator
) -> Bracket:
    """Bounds of log Z, Z = E_{p_0}[e^(−V)], so that p = p_0 e^(−V) / Z.

    Args:
        moves: that chains make, one at each density; they know p_0.
        tilt: V.
        begun: (N, *state) draws of p_0.
        drawn: (M, *state) draws of p; where they are not quite, the bound from above need not be one.
        temperatures: K of the schedule β_k = (k / K)⁴.
        generator: of the moves.
    """
    up = [(index / temperatures) ** POWER for index in range(temperatures + 1)]
    forward = _log_weights(moves, tilt, begun, up, generator)
    backward = log_mean(_log_weights(moves, tilt, drawn, up[::-1], generator))
    return Bracket(log_mean(forward), Estimate(-backward.value, backward.stderr, backward.n))


def _log_weights(moves: Moves, tilt: Potential, x: Tensor, betas: list[float], generator: Generator) -> Tensor:
    """(N, *state) draws of the first density -> (N,) log-weights of a way through all of them (Neal 2001, 11)."""
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for last, beta in pairwise(betas):
        with torch.no_grad():
            total += (last - beta) * tilt(x).double()

        def potential(y: Tensor, beta: float = beta) -> Tensor:
            return beta * tilt(y) - moves.log_start(y)

        x = moves.run(potential, x, 1, generator)
    return total
