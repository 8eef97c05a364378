"""The one stated way in and out for families that work on real vectors.

Discrete events: dequantisation (Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative models",
section 3.1; Ho et al. 2019, Flow++, equation 6, for noise that is not uniform on the whole cell):
z = 2 (x + ½ + w (u − ½)) / L − 1 with u ~ U[0, 1), so that log P(x) ≥ E_u[log p(z)] + D log(2 w / L); out by
rounding down. With w < 1 a margin is left between cells, so that a smooth model need not draw their walls exactly
for its samples to round to the right level; with many levels, whose neighbours are alike, w = 1: there narrow noise
would only cost likelihood. Continuous events: z = (x − mean) / scale with
the training split's mean and its overall standard deviation.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from genfam.seeds import uniform
from genfam.types import Data, Event

FEW_LEVELS = 8
NARROW = 0.25


def noise_width(levels: int) -> float:
    """w: the share of the cell that the noise fills."""
    return NARROW if levels <= FEW_LEVELS else 1.0


class Codec(nn.Module):
    """Events as the source gives them <-> float tensors of unit scale."""

    mean: Tensor
    scale: Tensor

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event
        self.register_buffer("mean", torch.zeros(event.shape))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, data: Data) -> None:
        """Take mean and scale from the training split (continuous events only)."""
        if not self.event.is_discrete:
            self.mean.copy_(data.train.mean(dim=0))
            self.scale.copy_((data.train - self.mean).square().mean().sqrt())

    def encode(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """(B, *event) -> (B, *event) float32; discrete events with fresh uniform noise."""
        if self.event.levels is None:
            return (x - self.mean) / self.scale
        u = uniform(x.shape, x.device, generator)
        return 2.0 * (x.float() + 0.5 + noise_width(self.event.levels) * (u - 0.5)) / self.event.levels - 1.0

    @staticmethod
    def centre(x: Tensor, levels: int) -> Tensor:
        """(…) levels -> the middles of their cells in [−1, 1]: `encode` without its noise."""
        return 2.0 * (x.float() + 0.5) / levels - 1.0

    def decode(self, z: Tensor) -> Tensor:
        """(B, *event) float -> events: float32, or uint8 levels by rounding down to the cell."""
        if self.event.levels is None:
            return z * self.scale + self.mean
        cell = torch.floor((z + 1.0) * 0.5 * self.event.levels)
        return cell.clamp(0, self.event.levels - 1).to(torch.uint8)

    def in_units(self, z: Tensor) -> Tensor:
        """(B, *event) float -> the data's units: of discrete events levels, neither rounded nor kept in range."""
        if self.event.levels is None:
            return z * self.scale + self.mean
        return (z + 1.0) * (0.5 * self.event.levels) - 0.5  # the middle of level k's cell is k

    @property
    def unit(self) -> float:
        """How long an encoded vector of length 1 is: in the data's units, of levels in shares of their range."""
        return float(self.scale) if self.event.levels is None else 0.5

    @property
    def log_volume(self) -> float:
        """Log |dz/dx| summed over dimensions, in nats: add it to log p(z) to get log p(x)."""
        if self.event.levels is None:
            return -self.event.dimensions * math.log(float(self.scale))
        return self.event.dimensions * math.log(2.0 * noise_width(self.event.levels) / self.event.levels)
