"""What a generator is given: numbers without a structure of their own, and ways from some to others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from genfam.ranges import CountOrNone
from genfam.seeds import integers, normal


@dataclass(frozen=True)
class Latent:
    """Standard normal numbers, then fair coin flips of ±1.

    A continuous generator of a connected latent must cross the gaps between modes; from one corner of the flips' cube
    to another it can jump.

    Attributes:
        normals, bits: how many of each.
    """

    normals: CountOrNone = 16
    bits: CountOrNone = 0

    def __post_init__(self) -> None:
        if self.normals < 0 or self.bits < 0 or self.size == 0:
            raise ValueError(f"latent: expected at least one number, got normals={self.normals} and bits={self.bits}")

    @property
    def size(self) -> int:
        """All of them."""
        return self.normals + self.bits

    def draw(self, n: int, device: torch.device, generator: Generator | None = None) -> Tensor:
        """-> (n, size); without a generator from torch's global one on the CPU."""
        gaussian = normal((n, self.normals), device, generator)
        if not self.bits:
            return gaussian
        flips = integers(2, (n, self.bits), device, generator)
        return torch.cat([gaussian, flips * 2.0 - 1.0], dim=1)

    def between(self, first: Tensor, last: Tensor, t: float) -> Tensor:
        """(n, size), (n, size) -> (n, size): on the way; a flip is that of the nearer end."""
        nearer = first if t < 0.5 else last
        turned = turn(first, last, t)
        return torch.cat([turned[:, : self.normals], nearer[:, self.normals :]], dim=1)


def turn(first: Tensor, last: Tensor, t: float) -> Tensor:
    """cos(πt/2) a + sin(πt/2) b: between independent standard normal numbers standard normal at every t."""
    return math.cos(0.5 * math.pi * t) * first + math.sin(0.5 * math.pi * t) * last


def line(first: Tensor, last: Tensor, times: Sequence[float]) -> Tensor:
    """(n, …), (n, …) -> (len(times), n, …) float32: (1 − t) a + t b."""
    return torch.stack([(1.0 - t) * first.float() + t * last.float() for t in times])
