"""Other networks, on tokens: numbers without an order go in one-hot, and come out as logits or probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genfam.build import NotModelled
from genfam.networks.base import Network, Shape
from genfam.networks.bijections import Bijection, InvertibleNetwork


class Tokens(Network):
    """A network that is given tokens one-hot, and refuses their numbers.

    Args:
        network: that encodes and decodes.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.multiples = network, network.multiples

    def encoder(self, shape: Shape, outputs: int, width: int, classes: int = 0) -> nn.Module:
        """The network's own.

        Raises:
            NotModelled: the shape is of numbers, one per token.
        """
        if len(shape) < 2:
            raise NotModelled(
                "expected tokens one-hot, got their numbers: with more than 32 of them this family takes levels for "
                "grey values, and tokens have no order; give the source fewer (source.characters=32)"
            )
        return self.network.encoder(shape, outputs, width, classes)

    def decoder(self, inputs: int, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """The network's own."""
        return self.network.decoder(inputs, shape, width, classes)


class NoBijection(InvertibleNetwork):
    """In the place of a bijection of tokens."""

    multiples = (1,)

    def bijection(self, shape: Shape, width: int, classes: int = 0) -> Bijection:
        """There is none.

        Raises:
            NotModelled: always.
        """
        raise NotModelled("a bijection of real numbers would take tokens for grey values, and they have no order")


class Softmax(nn.Module):
    """A module's outputs as probabilities over their first axis."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, inputs), (B,) condition -> (B, levels, …), sums of one over the levels."""
        return torch.softmax(self.body(x, condition), dim=1)


class Simplex(Tokens):
    """`Tokens` whose decoder gives a probability to each level, (B, levels, …), in place of a logit."""

    def decoder(self, inputs: int, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """The network's own, before a softmax over the first axis."""
        return Softmax(super().decoder(inputs, shape, width, classes))
