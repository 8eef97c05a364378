"""Known distributions: here p_data is a table or a density that we can write down, so even metrics can be judged.

References:
    Lin, Z., Khetan, A., Fanti, G. & Oh, S. 2018. PacGAN: the power of two samples in generative adversarial
    networks. https://arxiv.org/abs/1712.04086 (section 4.1: the ring and the grid, high-quality samples)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from genfam.ranges import Count, Positive
from genfam.seeds import derived_generator
from genfam.sources.base import KnownSource
from genfam.types import Estimate, Event


def table_entropy(table: Tensor) -> Estimate:
    """Entropy of a probability table in nats; exact."""
    return Estimate(float(-torch.special.xlogy(table, table).sum()), 0.0, len(table))


def monte_carlo_entropy(source: KnownSource, n: int = 200_000) -> Estimate:
    """−E log p over seeded fresh draws, in nats."""
    log_prob = source.log_prob(source.sample(n, generator=derived_generator(0, source.name, "entropy")))
    return Estimate(float(-log_prob.mean()), float(log_prob.std()) / math.sqrt(n), n)


def checked_weights(weights: Sequence[float] | None, count: int, what: str) -> Tensor:
    """(count,) float64 probabilities; equal where None.

    Raises:
        ValueError: wrong number, negative, or all zero.
    """
    if weights is None:
        return torch.full((count,), 1.0 / count, dtype=torch.float64)
    table = torch.tensor(list(weights), dtype=torch.float64)
    if len(table) != count or bool((table < 0).any()) or float(table.sum()) <= 0:
        raise ValueError(f"weights: expected {count} non-negative numbers, one per {what}, got {list(weights)}")
    return table / table.sum()


class Die(KnownSource):
    """One of k faces; the smallest world with a known table. Each face is a mode.

    Args:
        faces: k, from 2 to 256.
        weights: relative weight of each face; None = fair.
    """

    def __init__(
        self, faces: Annotated[int, Ge(2), Le(256)] = 6, weights: Sequence[float] | None = None, name: str = "die"
    ) -> None:
        if not 2 <= faces <= 256:
            raise ValueError(f"faces: expected 2 to 256, got {faces}")
        self.name = name
        self.event = Event((1,), faces)
        self.mode_masses = checked_weights(weights, faces, "face")

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, 1) uint8 faces."""
        faces = torch.multinomial(self.mode_masses, n, replacement=True, generator=generator)
        return faces.to(torch.uint8)[:, None]

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, 1) -> (B,) nats per counting measure."""
        return self.mode_masses.log()[x[:, 0].long()]

    def entropy(self) -> Estimate:
        """Exact entropy, nats."""
        return table_entropy(self.mode_masses)

    def support(self) -> Tensor:
        """(k, 1): every face."""
        return torch.arange(len(self.mode_masses), dtype=torch.uint8)[:, None]

    def table(self) -> Tensor:
        """(k,) float64."""
        return self.mode_masses

    def assign(self, x: Tensor) -> Tensor:
        """(B, 1) -> (B,): the face itself; no event is off every mode."""
        return x[:, 0].long()

    @property
    def label_names(self) -> tuple[str, ...]:
        """Faces, from 0."""
        return tuple(str(face) for face in range(len(self.mode_masses)))

    def label_of(self, x: Tensor) -> Tensor:
        """(B, 1) -> (B,): the face."""
        return self.assign(x)


TINY_PATTERNS = ((1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (0, 1, 1, 0), (1 / 3, 1 / 3, 1 / 3, 1 / 3), (2 / 3,) * 4)
TINY_WEIGHTS = (0.25, 0.20, 0.15, 0.15, 0.15, 0.10)


class TinyImages(KnownSource):
    """2×2 grey images with L levels: a mixture of six patterns, each pixel a rounded Gaussian around its pattern.

    P(pixel = l | pattern with brightness b) = Φ((l + ½ − μ)/s) − Φ((l − ½ − μ)/s), μ = b (L − 1),
    s = sigma (L − 1), the outermost levels taking the tails. Two edges, two diagonals, dark and bright: the
    pixels are dependent in pairs and triples, so a model of single pixels fails. With L = 4 all 256 states can
    be listed; with L = 256 the log-probability is as exact, the table is not made.

    Args:
        levels: L, from 2 to 256.
        sigma: pixel noise as a share of the brightness range.
    """

    def __init__(
        self, levels: Annotated[int, Ge(2), Le(256)] = 4, sigma: Positive = 0.15, name: str = "tiny_images"
    ) -> None:
        if not 2 <= levels <= 256:
            raise ValueError(f"levels: expected 2 to 256, got {levels}")
        if sigma <= 0:
            raise ValueError(f"sigma: expected a positive number, got {sigma}")
        self.name = name
        self.event = Event((1, 2, 2), levels)
        self.mode_masses = checked_weights(TINY_WEIGHTS, len(TINY_PATTERNS), "pattern")
        self.centres = torch.tensor(TINY_PATTERNS, dtype=torch.float64) * (levels - 1)
        self.spread = sigma * (levels - 1)
        upper = torch.arange(levels, dtype=torch.float64) + 0.5
        cdf = torch.special.ndtr((upper - self.centres[..., None]) / self.spread)
        cdf[..., -1] = 1.0
        self.pixel_table = torch.diff(cdf, prepend=torch.zeros_like(cdf[..., :1]))  # (patterns, 4, levels)

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, 1, 2, 2) uint8 levels."""
        pattern = torch.multinomial(self.mode_masses, n, replacement=True, generator=generator)
        noise = torch.randn(n, 4, generator=generator, dtype=torch.float64)
        assert self.event.levels is not None
        pixels = (self.centres[pattern] + self.spread * noise).round().clamp(0, self.event.levels - 1)
        return pixels.to(torch.uint8).reshape(n, 1, 2, 2)

    def _pattern_log_prob(self, x: Tensor) -> Tensor:
        levels = x.reshape(len(x), 4).long()
        pixels = torch.arange(4)
        return self.pixel_table.clamp_min(1e-300).log()[:, pixels, levels].sum(dim=-1).T

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, 1, 2, 2) -> (B,) nats per counting measure."""
        return torch.logsumexp(self._pattern_log_prob(x) + self.mode_masses.log(), dim=-1)

    def entropy(self) -> Estimate:
        """Exact where the states can be listed, else by Monte Carlo; nats."""
        if self.event.levels is not None and self.event.levels**4 <= 10**6:
            return table_entropy(self.table())
        return monte_carlo_entropy(self)

    def support(self) -> Tensor:
        """(L⁴, 1, 2, 2): every image.

        Raises:
            ValueError: more than a million states.
        """
        levels = self.event.levels or 0
        if levels**4 > 10**6:
            raise ValueError(f"support: expected at most 10^6 states, {levels} levels make {levels**4}")
        axis = torch.arange(levels, dtype=torch.uint8)
        return torch.cartesian_prod(axis, axis, axis, axis).reshape(-1, 1, 2, 2)

    def table(self) -> Tensor:
        """(L⁴,) float64."""
        return self.log_prob(self.support()).exp()

    def assign(self, x: Tensor) -> Tensor:
        """(B, 1, 2, 2) -> (B,): the nearest pattern; −1 beyond 3 s of it in Euclidean distance."""
        distance = torch.cdist(x.reshape(len(x), 4).double(), self.centres)
        nearest, pattern = distance.min(dim=-1)
        return torch.where(nearest <= 3 * self.spread, pattern, -1)


class GaussianMixture(KnownSource):
    """Equal round Gaussians in the plane.

    Args:
        centres: (K, 2).
        sigma: standard deviation of every mode.
    """

    def __init__(self, centres: Tensor, sigma: float, name: str) -> None:
        if sigma <= 0:
            raise ValueError(f"sigma: expected a positive number, got {sigma}")
        self.name = name
        self.event = Event((2,))
        self.centres = centres.double()
        self.sigma = sigma
        self.mode_masses = checked_weights(None, len(centres), "mode")

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, 2) float32."""
        mode = torch.multinomial(self.mode_masses, n, replacement=True, generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return (self.centres[mode] + self.sigma * noise).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B,) nats per volume."""
        square = (torch.cdist(x.double(), self.centres) / self.sigma).square()
        kernel = -0.5 * square - math.log(2 * math.pi * self.sigma**2)
        return torch.logsumexp(kernel + self.mode_masses.log(), dim=-1)

    def entropy(self) -> Estimate:
        """By Monte Carlo; for separated modes close to log K + log(2πeσ²). Nats."""
        return monte_carlo_entropy(self)

    def modes(self) -> Tensor:
        """(K, 2) centres."""
        return self.centres

    def assign(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B,): the nearest mode; −1 beyond 3σ of it (PacGAN's high-quality rule)."""
        nearest, mode = torch.cdist(x.double(), self.centres).min(dim=-1)
        return torch.where(nearest <= 3 * self.sigma, mode, -1)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Modes by their centres."""
        return tuple(f"({x:.2g}, {y:.2g})" for x, y in self.centres.tolist())

    def label_of(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B,): the nearest mode, however far."""
        parts = torch.split(x, 100_000)  # a million distances to each mode at once would hold gigabytes
        return torch.cat([torch.cdist(part.double(), self.centres).argmin(dim=-1) for part in parts])


class Ring(GaussianMixture):
    """Modes evenly spaced on a circle (PacGAN section 4.1: 8 modes, radius 1, σ 0.01).

    Args:
        modes: how many.
        radius: of the circle.
        sigma: standard deviation of every mode.
        name: of the source.
    """

    def __init__(self, modes: Count = 8, radius: Positive = 1.0, sigma: Positive = 0.01, name: str = "ring") -> None:
        angle = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
        super().__init__(radius * torch.stack([angle.cos(), angle.sin()], dim=-1), sigma, name)


class Grid(GaussianMixture):
    """Side × side modes (PacGAN section 4.1: 5 × 5 at {−4, −2, 0, 2, 4}², σ 0.05).

    Args:
        side: modes per side.
        spacing: between neighbours.
        sigma: standard deviation of every mode.
        name: of the source.
    """

    def __init__(self, side: Count = 5, spacing: Positive = 2.0, sigma: Positive = 0.05, name: str = "grid") -> None:
        axis = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * spacing
        super().__init__(torch.cartesian_prod(axis, axis), sigma, name)
