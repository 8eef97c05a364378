"""Bijections: networks that can be run backwards, and whose change of volume is known."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from genfam.networks.base import Network, Shape


class Bijection(nn.Module, ABC):
    """z = f(x | c), one to one."""

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, *shape), (B,) condition if there is one -> z (B, *shape), log |det ∂z/∂x| (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, *shape), (B,) condition if there is one -> x (B, *shape)."""


class InvertibleNetwork(Network, ABC):
    """A backbone that can be a bijection."""

    @abstractmethod
    def bijection(self, shape: Shape, width: int, classes: int = 0) -> Bijection:
        """A bijection of (B, *shape), the identity at first or close to it."""
