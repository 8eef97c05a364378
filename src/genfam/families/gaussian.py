"""A fitted full-covariance Gaussian: the floor. What is no better has learnt nothing more than mean and covariance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from genfam.families.codec import Codec
from genfam.families.untrained import Untrained
from genfam.ranges import NotNegative
from genfam.seeds import normal
from genfam.types import Data, Event, Likelihood

MOST_EVENTS = 100_000  # that it is fitted to, the first ones
OWN_COVARIANCE_UP_TO = 32  # values of a condition; of more, all share the covariance within them


class Fitted(nn.Module):
    """A mean per value of the condition and Cholesky factors, as parameters so that they are counted and saved."""

    def __init__(self, size: int, means: int, factors: int) -> None:
        super().__init__()
        corner = torch.tril_indices(size, size).unbind()
        self.mean = nn.Parameter(torch.zeros(means, size), requires_grad=False)
        self.lower = nn.Parameter(torch.eye(size)[corner].repeat(factors, 1), requires_grad=False)
        self.size = size

    def cholesky(self, value: int) -> Tensor:
        """(D, D) lower triangular, of this value of the condition."""
        device = self.lower.device
        full = torch.zeros(self.size, self.size, device=device)
        full[torch.tril_indices(self.size, self.size, device=device).unbind()] = self.lower[value % len(self.lower)]
        return full


class Gaussian(Untrained):
    """Maximum likelihood in closed form on the training split (dequantised where discrete); no updates.

    With a condition, one Gaussian per value.

    Args:
        event: shape and levels.
        ridge: added to a covariance's diagonal, as a share of its mean diagonal.
        classes: values of the condition; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.EXACT
    dequantises: ClassVar[bool] = True
    samples_only: ClassVar[bool] = True  # its density is of the dequantised event, not a table of levels

    def __init__(self, event: Event, ridge: NotNegative = 1e-6, classes: int = 0) -> None:
        super().__init__(event)
        self.ridge, means = ridge, max(1, classes)
        self.codec = Codec(event)
        self.fitted = Fitted(event.dimensions, means, means if means <= OWN_COVARIANCE_UP_TO else 1)

    @property
    def sampling_network(self) -> nn.Module:
        """Means and covariances."""
        return self.fitted

    def prepare(self, data: Data) -> None:
        """Fit means and covariances to the first training events."""
        self.codec.fit(data)
        z = self.codec.encode(data.train[:MOST_EVENTS], torch.Generator().manual_seed(0)).flatten(1).double()
        values = torch.zeros(len(z), dtype=torch.int64)
        if self.condition.of_training is not None:
            values = self.condition.of_training[:MOST_EVENTS]
        groups = [z[values == value] for value in range(len(self.fitted.mean))]
        means = torch.stack([(own if len(own) else z).mean(dim=0) for own in groups])
        within = z - means[values]
        self.fitted.mean.copy_(means)
        for value in range(len(self.fitted.lower)):
            own = within if len(self.fitted.lower) == 1 else within[values == value]
            self.fitted.lower[value] = self._factor(own if len(own) > 1 else within)

    def _factor(self, centred: Tensor) -> Tensor:
        """(N, D) -> the lower triangle of the covariance's Cholesky factor, row by row."""
        covariance = (centred.T @ centred / (len(centred) - 1)).reshape(centred.shape[1], centred.shape[1])
        ridge = self.ridge * covariance.diagonal().mean()
        lower = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
        packed: Tensor = lower[torch.tril_indices(len(lower), len(lower)).unbind()].float()
        return packed

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event)."""
        noise = normal((n, self.event.dimensions), self.device, generator)
        z = torch.empty_like(noise)
        for value, rows in groups(condition):
            z[rows] = self.fitted.mean[value] + noise[rows] @ self.fitted.cholesky(value).T
        return self.codec.decode(z.view(n, *self.event.shape))

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event) -> (B,) nats; for discrete events a lower bound by one draw of the noise."""
        z = self.codec.encode(x, torch.Generator().manual_seed(0)).flatten(1)
        found = torch.empty(len(x), device=x.device)
        for value, rows in groups(condition):
            lower = self.fitted.cholesky(value)
            white = torch.linalg.solve_triangular(lower, (z[rows] - self.fitted.mean[value]).T, upper=False)
            found[rows] = -0.5 * white.square().sum(dim=0) - lower.diagonal().log().sum()
        return found - 0.5 * z.shape[1] * math.log(2 * math.pi) + self.codec.log_volume


def groups(condition: Tensor | None) -> Iterator[tuple[int, Any]]:
    """Each value that occurs, and an index of its rows; without a condition all rows are of value 0."""
    if condition is None:
        yield 0, slice(None)
        return
    for value in condition.unique().tolist():
        yield value, condition == value
