"""A fitted full-covariance Gaussian: the floor. A family that loses to it is broken."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.seeds import normal
from genfam.types import Data, Event, Likelihood


class Fitted(nn.Module):
    """Mean and Cholesky factor, as parameters so that they are counted and saved."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.lower = nn.Parameter(torch.eye(size)[torch.tril_indices(size, size).unbind()], requires_grad=False)
        self.size = size

    def cholesky(self) -> Tensor:
        """(D, D) lower triangular."""
        device = self.lower.device
        full = torch.zeros(self.size, self.size, device=device)
        full[torch.tril_indices(self.size, self.size, device=device).unbind()] = self.lower
        return full


class Gaussian(Family):
    """Maximum likelihood in closed form on the training split (dequantised where discrete); no updates.

    Args:
        event: shape and levels.
        ridge: added to the covariance's diagonal, as a share of its mean diagonal.
    """

    players: ClassVar[tuple[str, ...]] = ()
    likelihood: ClassVar[Likelihood] = Likelihood.EXACT
    dequantises: ClassVar[bool] = True
    trains: ClassVar[bool] = False
    samples_only: ClassVar[bool] = True  # its log_prob is of the dequantised event, not a table of levels

    def __init__(self, event: Event, ridge: float = 1e-6) -> None:
        super().__init__(event, Optimisation(), batch_size=1)
        self.ridge = ridge
        self.codec = Codec(event)
        self.fitted = Fitted(event.dimensions)

    @property
    def sampling_network(self) -> nn.Module:
        """Mean and covariance."""
        return self.fitted

    def prepare(self, data: Data) -> None:
        """Fit mean and covariance to at most 100,000 training events."""
        self.codec.fit(data)
        z = self.codec.encode(data.train[:100_000], torch.Generator().manual_seed(0)).flatten(1).double()
        covariance = torch.cov(z.T).reshape(z.shape[1], z.shape[1])
        ridge = self.ridge * covariance.diagonal().mean()
        lower = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
        self.fitted.mean.copy_(z.mean(dim=0))
        self.fitted.lower.copy_(lower[torch.tril_indices(len(lower), len(lower)).unbind()])

    def loss(self, x: Tensor, player: str) -> Tensor:
        """Never minimised: the fit is in closed form. The negative log-likelihood, for completeness."""
        return -self.log_prob(x).mean()

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event)."""
        noise = normal((n, self.event.dimensions), self.device, generator)
        z = self.fitted.mean + noise @ self.fitted.cholesky().T
        return self.codec.decode(z.view(n, *self.event.shape))

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats; for discrete events a lower bound by one draw of the noise."""
        z = self.codec.encode(x.to(self.device), torch.Generator().manual_seed(0)).flatten(1)
        lower = self.fitted.cholesky()
        white = torch.linalg.solve_triangular(lower, (z - self.fitted.mean).T, upper=False)
        log_det = lower.diagonal().log().sum()
        log_prob = -0.5 * white.square().sum(dim=0) - log_det - 0.5 * z.shape[1] * math.log(2 * math.pi)
        total: Tensor = log_prob + self.codec.log_volume
        return total
