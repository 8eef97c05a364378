"""The optimal map between the Gaussians of two sources: the floor of transport.

Between N(m_0, Σ_0) and N(m_1, Σ_1) the map of least squared displacement is affine,

    T(x) = m_1 + A (x − m_0),   A = Σ_0^(−1/2) (Σ_0^(1/2) Σ_1 Σ_0^(1/2))^(1/2) Σ_0^(−1/2).

It moves mean and covariance to where they should be, and whatever else the first source has stays as it was.

References:
    Peyré, G. & Cuturi, M. 2019. Computational optimal transport. https://arxiv.org/abs/1803.00567 (remark 2.31)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from genfam.families.codec import Codec
from genfam.families.gaussian import MOST_EVENTS
from genfam.families.latents import line
from genfam.families.untrained import Untrained
from genfam.ranges import NotNegative
from genfam.types import Data, Event, Likelihood


class AffineMap(Untrained):
    """The map in closed form; no updates.

    Args:
        event: shape and levels.
        ridge: added to a covariance's diagonal, as a share of its mean diagonal.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    dequantises: ClassVar[bool] = True
    needs_init: ClassVar[bool] = True
    trajectory: ClassVar[str] = "straight lines to where events are carried"

    def __init__(self, event: Event, ridge: NotNegative = 1e-6) -> None:
        super().__init__(event)
        self.ridge, self.codec = ridge, Codec(event)
        self.map = nn.Linear(event.dimensions, event.dimensions).requires_grad_(False)

    @property
    def sampling_network(self) -> nn.Module:
        """The map."""
        return self.map

    @property
    def evaluations_per_sample(self) -> float:
        """One product."""
        return 1.0

    def begin_at(self, init: Data) -> None:
        """Where the map begins."""
        self.init = init

    def prepare(self, data: Data) -> None:
        """Fit both Gaussians to the first training events, and the map between them."""
        assert self.init is not None
        self.codec.fit(data)
        (m0, s0), (m1, s1) = self._fitted(self.init), self._fitted(data)
        matrix = optimal_matrix(s0, s1)
        self.map.weight.copy_(matrix.float())
        self.map.bias.copy_((m1 - matrix @ m0).float())

    def _fitted(self, data: Data) -> tuple[Tensor, Tensor]:
        z = self.codec.encode(data.train[:MOST_EVENTS], torch.Generator().manual_seed(0)).flatten(1).double()
        covariance = torch.cov(z.T).reshape(z.shape[1], z.shape[1])
        ridge = self.ridge * covariance.diagonal().mean()
        return z.mean(dim=0), covariance + ridge * torch.eye(len(covariance), dtype=torch.float64)

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): where events of `init` go."""
        return self.carry(self.begun(n, generator), generator)

    def carry(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n, *event)."""
        z = self.map(self.codec.encode(x, generator).flatten(1))
        return self.codec.decode(z.view(len(x), *self.event.shape))

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """Events of `init`, straight to where they go."""
        x = self.begun(n, generator)
        return line(x, self.carry(x, generator), times)


def optimal_matrix(first: Tensor, second: Tensor) -> Tensor:
    """(D, D), (D, D) positive definite covariances -> (D, D) A with A Σ_0 Aᵀ = Σ_1, symmetric."""
    values, axes = torch.linalg.eigh(first)
    root, inverse = (axes * values.sqrt()) @ axes.T, (axes * values.rsqrt()) @ axes.T
    inner, frame = torch.linalg.eigh(root @ second @ root)
    middle: Tensor = (frame * inner.clamp_min(0.0).sqrt()) @ frame.T
    found: Tensor = inverse @ middle @ inverse
    return found
