"""Fixed features of positions and times, and learnt codes of conditions.

References:
    Tancik, M. et al. 2020. Fourier features let networks learn high frequency functions in low dimensional
    domains. https://arxiv.org/abs/2006.10739
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genfam.ranges import Count, Positive

CODE = 32  # numbers that stand for one value of a condition


class FourierFeatures(nn.Module):
    """x -> [x, sin(2π B x), cos(2π B x)] with B ~ N(0, scale²) fixed (Tancik et al. 2020, equation 5).

    The frequencies come from a seed of their own: they are architecture, and the same for all runs.
    """

    frequencies: Tensor

    def __init__(self, inputs: int, count: int, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        device = torch.get_default_device()
        draws = torch.randn(inputs, count, generator=generator, device="cpu") * scale
        self.register_buffer("frequencies", draws.to(device))
        self.outputs = inputs + 2 * count

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, inputs + 2 count)."""
        angles = 2.0 * math.pi * (x @ self.frequencies)
        return torch.cat([x, angles.sin(), angles.cos()], dim=-1)


@dataclass(frozen=True)
class Fourier:
    """Fourier features as a network's setting.

    Attributes:
        count: of frequencies.
        scale: their standard deviation, in cycles per unit of the input. Modes far tighter than their distance ask for
            steep functions.
    """

    count: Count
    scale: Positive

    def of(self, inputs: int) -> FourierFeatures:
        """For that many inputs."""
        return FourierFeatures(inputs, self.count, self.scale)


class TimeFeatures(nn.Module):
    """t in [0, 1] -> sines and cosines at `count` frequencies spaced evenly in the logarithm, from ½ to `fastest`."""

    frequencies: Tensor

    def __init__(self, count: int = 8, fastest: float = 32.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1.0, math.log2(fastest), count, base=2.0))
        self.outputs = 2 * count

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, 2 count)."""
        angles = math.pi * t[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Codes(nn.Module):
    """A learnt code for each value of a condition, and a layer that makes features of it.

    Args:
        classes: number of values.
        features: size of what comes out.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.codes, self.exit = nn.Embedding(classes, CODE), nn.Linear(CODE, features)

    def forward(self, condition: Tensor) -> Tensor:
        """(B,) int64 -> (B, features)."""
        out: Tensor = self.exit(self.codes(condition))
        return out
