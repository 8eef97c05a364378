"""Two interlocked half circles with Gaussian noise: a known density without separate Gaussians.

The circles have radius 3; the first is centred on (−1, −1), the second on (2, 0.5) and turned over. That is
scikit-learn's `make_moons` times 3, less 1, as Tong et al. 2024 take it; their noise is not Gaussian.

References:
    Tong, A. et al. 2024. https://arxiv.org/abs/2302.00482 (section 5.1; the code of torchcfm has the scales)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor

from genfam.ranges import Positive
from genfam.sources.base import KnownSource
from genfam.sources.known import monte_carlo_entropy
from genfam.types import Estimate, Event

RADIUS = 3.0
NODES = 256  # of the integral along each moon
BLOCK = 20_000  # events that are compared with all nodes at once


def moon(angle: Tensor, which: int) -> Tensor:
    """(…) angles from 0 to π, 0 or 1 -> (…, 2)."""
    x, y = RADIUS * angle.cos(), RADIUS * angle.sin()
    return torch.stack([x - 1.0, y - 1.0] if which == 0 else [2.0 - x, 0.5 - y], dim=-1)


class Moons(KnownSource):
    """Two moons, equally likely, with points evenly along each.

    Args:
        sigma: standard deviation of the noise.
        name: of the source.
    """

    def __init__(self, sigma: Positive = 0.2, name: str = "moons") -> None:
        if sigma <= 0:
            raise ValueError(f"sigma: expected a positive number, got {sigma}")
        self.name, self.sigma = name, sigma
        self.event = Event((2,))
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        angle = torch.from_numpy(0.5 * math.pi * (nodes + 1.0))
        self._log_weights = torch.from_numpy(weights / 2.0).log()
        self._nodes = torch.stack([moon(angle, which) for which in (0, 1)])

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, 2) float32."""
        angle = math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        which = torch.randint(2, (n,), generator=generator)
        noise = self.sigma * torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return (torch.where((which == 0)[:, None], moon(angle, 0), moon(angle, 1)) + noise).float()

    def _moon_log_prob(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B, 2) nats of each moon: Gauss–Legendre quadrature along it."""
        square = (torch.cdist(x.double()[None], self._nodes) / self.sigma).square()
        kernel = -0.5 * square - math.log(2 * math.pi * self.sigma**2)
        return torch.logsumexp(kernel + self._log_weights, dim=-1).T

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B,) nats per volume."""
        parts = [torch.logsumexp(self._moon_log_prob(part), dim=1) for part in torch.split(x, BLOCK)]
        return torch.cat(parts) - math.log(2.0)

    def entropy(self) -> Estimate:
        """By Monte Carlo; nats."""
        return monte_carlo_entropy(self)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The moons."""
        return ("upper", "lower")

    def label_of(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B,): the moon under which it is more probable."""
        return torch.cat([self._moon_log_prob(part).argmax(dim=1) for part in torch.split(x, BLOCK)])
