"""A mixture of normals, seen through every path in closed form, and networks that know it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from genfam.families import schedules
from genfam.families.schedules import Ends, NoiseScales, over


class Mixture:
    """Σ_j w_j N(m_j, s_j² I) in D dimensions, float64."""

    def __init__(self, weights: list[float], means: list[list[float]], widths: list[float]) -> None:
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.means, self.widths = torch.tensor(means, dtype=torch.float64), torch.tensor(widths, dtype=torch.float64)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """-> (n, D) float64."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[chosen] + self.widths[chosen, None] * noise

    def _parts(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of α x + σ ε: differences (B, K, D), variances and log-densities with weights (B, K)."""
        a, s = alpha.reshape(-1, 1), sigma.reshape(-1, 1)
        difference = x[:, None] - a[..., None] * self.means
        variance = ((a * self.widths) ** 2 + s**2).expand(len(x), -1)
        exponent = -0.5 * difference.square().sum(dim=2) / variance
        log = self.weights.log() + exponent - 0.5 * x.shape[1] * torch.log(2 * torch.pi * variance)
        return difference, variance, log

    def log_prob(self, x: Tensor, alpha: Any = 1.0, sigma: Any = 0.0) -> Tensor:
        """(B, D) -> (B,) nats of α x + σ ε."""
        return torch.logsumexp(self._parts(x.double(), *map(_tensor, (alpha, sigma)))[2], dim=1)

    def score(self, x: Tensor, alpha: Any = 1.0, sigma: Any = 0.0) -> Tensor:
        """(B, D) -> (B, D): the gradient of `log_prob`, in closed form."""
        difference, variance, log = self._parts(x.double(), *map(_tensor, (alpha, sigma)))
        return -(torch.softmax(log, dim=1)[..., None] * difference / variance[..., None]).sum(dim=1)

    def ends(self, x: Tensor, alpha: Any, sigma: Any) -> Ends:
        """E[data | x] and E[noise | x] by Tweedie's formula; of the type of x."""
        a, s = over(_tensor(alpha), x), over(_tensor(sigma), x)
        noise = -s * self.score(x, alpha, sigma)
        return Ends(((x.double() - s * noise) / a).to(x.dtype), noise.to(x.dtype))


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


class OfDiffusion(nn.Module):
    """What a perfectly trained network of `Diffusion` says."""

    def __init__(self, truth: Mixture, family: Any) -> None:
        super().__init__()
        self.truth, self.prediction, self.path = truth, family.prediction, family.path

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        alpha, sigma = self.path[(t * (len(self.path) - 1)).round().long()].unbind(dim=1)
        ends = self.truth.ends(x, alpha, sigma)
        return schedules.target(self.prediction, alpha.to(x.dtype), sigma.to(x.dtype), ends)


class OfScore(nn.Module):
    """What a perfectly trained network of `Score` says: F of EDM's equation 7, of its inputs."""

    def __init__(self, truth: Mixture, family: Any) -> None:
        super().__init__()
        self.truth, self.noise, self.spread = truth, family.scales, float(family.spread)

    def forward(self, scaled: Tensor, position: Tensor, condition: Tensor | None = None) -> Tensor:
        sigma = scale_at(self.noise, position.double())
        norm = (sigma**2 + self.spread**2).sqrt()[:, None]
        x = scaled.double() * norm
        denoised = self.truth.ends(x, torch.ones_like(sigma), sigma).data
        skip = self.spread**2 / norm**2
        out = sigma[:, None] * self.spread / norm
        return ((denoised - skip * x) / out).to(scaled.dtype)


def scale_at(noise: NoiseScales, position: Tensor) -> Tensor:
    """The inverse of `NoiseScales.position`."""
    return noise.smallest * (noise.largest / noise.smallest) ** position


class OfFlow(nn.Module):
    """What a perfectly trained network of `FlowMatching` says: the velocity."""

    def __init__(self, truth: Mixture) -> None:
        super().__init__()
        self.truth = truth

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        ends = self.truth.ends(x, t.clamp(min=1e-9), 1 - t)
        return ends.data - ends.noise


TWO = Mixture([0.3, 0.7], [[-1.0], [0.8]], [0.2, 0.1])
PLANE = Mixture([0.3, 0.5, 0.2], [[-1.0, 0.5], [1.0, 0.0], [0.2, -1.2]], [0.3, 0.2, 0.4])
