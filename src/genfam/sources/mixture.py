"""Known mixtures of random, rotated Gaussians in any dimension.

Centres are drawn from a round normal one after another, and drawn again while they lie nearer to an earlier one than
`separation` times the largest standard deviation; after every `PATIENCE` refusals in a row the normal is widened by a
twentieth. Its first width makes two centres typically just so far apart. So of two modes of equal covariance at most
Φ(−separation / 2) of the events are more probable under the other: 0.13 % at 6, whatever the dimension.

Each mode has axes of its own (a rotation from the Haar measure, by the QR decomposition of a normal matrix) and
standard deviations along them that are log-uniform between 1 / anisotropy and 1. All of it is drawn once, by the number
of dimensions and modes: every run sees the same mixture.

An event lies on its most probable mode, and is of high quality within the Mahalanobis radius that holds `QUALITY` of
the mode: in the plane that is PacGAN's circle of three standard deviations, in 64 dimensions a radius of 9.6. Three
standard deviations would hold next to nothing there.

References:
    Lin, Z., Khetan, A., Fanti, G. & Oh, S. 2018. PacGAN. https://arxiv.org/abs/1712.04086 (section 4.1: high quality)
    Mezzadri, F. 2007. How to generate random matrices from the classical compact groups.
    https://arxiv.org/abs/math-ph/0609050 (section 5: the signs of R)
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated

import torch
from annotated_types import Ge
from scipy import stats
from torch import Generator, Tensor

from genfam.ranges import Count, Positive
from genfam.seeds import derived_generator
from genfam.sources.base import KnownSource
from genfam.sources.known import checked_weights, monte_carlo_entropy
from genfam.types import Estimate, Event

PATIENCE = 100
QUALITY = 1.0 - math.exp(-4.5)  # of a mode, that its high-quality events hold
BLOCK = 20_000  # events that are compared with all modes at once


def separated_centres(modes: int, dimensions: int, least: float, generator: Generator) -> Tensor:
    """(modes, dimensions) float64, no two nearer than `least`; see the module."""
    spread, refused = least / math.sqrt(2.0 * dimensions), 0
    found = torch.zeros(0, dimensions, dtype=torch.float64)
    while len(found) < modes:
        centre = spread * torch.randn(1, dimensions, generator=generator, dtype=torch.float64)
        if len(found) and float(torch.cdist(found, centre).min()) < least:
            refused += 1
            spread *= 1.05 if refused % PATIENCE == 0 else 1.0
            continue
        found, refused = torch.cat([found, centre]), 0
    return found


def rotations(count: int, dimensions: int, generator: Generator) -> Tensor:
    """(count, D, D) float64 orthogonal matrices from the Haar measure; columns are the axes."""
    normal = torch.randn(count, dimensions, dimensions, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    found: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
    return found


@lru_cache(maxsize=16)  # a suite's runs ask for the same few: 64 modes take a tenth of a second
def shape_of(modes: int, dimensions: int, least: float, anisotropy: float) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (K, D), axes (K, D, D) and spreads (K, D) of the one mixture of its kind, float64: never written to."""
    generator = derived_generator(0, "mixture", dimensions, modes)
    centres = separated_centres(modes, dimensions, least, generator)
    axes = rotations(modes, dimensions, generator)
    shares = torch.rand(modes, dimensions, generator=generator, dtype=torch.float64)
    return centres, axes, anisotropy ** -shares.sort(dim=1).values


class Mixture(KnownSource):
    """A mixture of equally likely Gaussians, each with a covariance of its own.

    Args:
        dimensions: D.
        modes: K.
        separation: least distance between two centres, in largest standard deviations.
        anisotropy: ratio of the largest standard deviation, which is 1, to the smallest that can be.
        name: of the source.

    Attributes:
        centres: (K, D).
        axes: (K, D, D), columns are the axes of a mode.
        spreads: (K, D) standard deviations along them, the largest first.
    """

    train_size = 200_000  # in 64 dimensions 51 MB

    def __init__(
        self,
        dimensions: Count = 2,
        modes: Count = 16,
        separation: Positive = 6.0,
        anisotropy: Annotated[float, Ge(1)] = 4.0,
        name: str = "mixture",
    ) -> None:
        if anisotropy < 1:
            raise ValueError(f"anisotropy: expected at least 1, got {anisotropy}")
        self.name = name
        self.event = Event((dimensions,))
        self.mode_masses = checked_weights(None, modes, "mode")
        self.centres, self.axes, self.spreads = shape_of(modes, dimensions, separation, anisotropy)
        self._radius = float(stats.chi2.ppf(QUALITY, dimensions))

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, D) float32."""
        mode = torch.multinomial(self.mode_masses, n, replacement=True, generator=generator)
        found = torch.randn(n, self.event.dimensions, generator=generator, dtype=torch.float64)
        for k in range(len(self.centres)):
            rows = mode == k
            found[rows] = self.centres[k] + (found[rows] * self.spreads[k]) @ self.axes[k].T
        return found.float()

    def whiten(self, x: Tensor, k: int) -> Tensor:
        """(B, D) -> (B, D) float64: standard normal where the events come from mode k."""
        return ((x.double() - self.centres[k]) @ self.axes[k]) / self.spreads[k]

    def _mode_log_prob(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, K) nats of each mode times its mass."""
        squares = torch.stack([self.whiten(x, k).square().sum(dim=1) for k in range(len(self.centres))], dim=1)
        volume = self.spreads.log().sum(dim=1) + 0.5 * self.event.dimensions * math.log(2 * math.pi)
        return self.mode_masses.log() - volume - 0.5 * squares

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, D) -> (B,) nats per volume."""
        return torch.cat([torch.logsumexp(self._mode_log_prob(part), dim=1) for part in torch.split(x, BLOCK)])

    def entropy(self) -> Estimate:
        """By Monte Carlo; for separated modes close to log K + the mean entropy of a mode. Nats."""
        return monte_carlo_entropy(self)

    def modes(self) -> Tensor:
        """(K, D) centres."""
        return self.centres

    def label_of(self, x: Tensor) -> Tensor:
        """(B, D) -> (B,): the most probable mode, however improbable."""
        return torch.cat([self._mode_log_prob(part).argmax(dim=1) for part in torch.split(x, BLOCK)])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Modes by their number."""
        return tuple(str(k) for k in range(len(self.centres)))

    def placed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> (B,) most probable mode, and (B, D) the event in the whitened axes of that mode."""
        mode = self.label_of(x)
        found = torch.empty(x.shape, dtype=torch.float64)
        for k in mode.unique().tolist():
            found[mode == k] = self.whiten(x[mode == k], k)
        return mode, found

    def assign(self, x: Tensor) -> Tensor:
        """(B, D) -> (B,): the most probable mode; −1 beyond the radius that holds `QUALITY` of it."""
        mode, white = self.placed(x)
        return torch.where(white.square().sum(dim=1) <= self._radius, mode, -1)
