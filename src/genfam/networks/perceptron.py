"""Residual multilayer perceptrons: the network for points, tables and flattened small images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Network, Shape
from genfam.networks.embeddings import CODE, Codes, Fourier, TimeFeatures
from genfam.ranges import Count, Positive, ShareBelowOne

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "gelu": F.gelu,
}


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of that name.

    Raises:
        ValueError: unknown name; says which exist.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {sorted(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


class ResidualMLP(nn.Module):
    """h ← act(enter(x)); h ← h + act(layer(h)) `depth` times; exit(h). No normalisation.

    Args:
        inputs, outputs: flat sizes.
        width: hidden size.
        depth: number of residual layers.
        activation: `silu`, `leaky_relu` (slope 0.2) or `gelu`.
        dropout: applied to each residual branch.
        zero_exit: start with an output of exactly zero.
        random_biases: start with normal biases, not with zeros. Where the inputs are a few plain coordinates, zeros
            let every kink of a piecewise linear network pass through the origin, and a GAN with a 2-D latent draws
            rays.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int = 4,
        activation: str = "silu",
        dropout: float = 0.0,
        zero_exit: bool = False,
        random_biases: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.enter = nn.Linear(inputs, width)
        layers = [nn.Linear(width, width) for _ in range(depth)]
        self.layers = nn.ModuleList(layers)
        self.exit = nn.Linear(width, outputs)
        self.dropout = dropout
        for layer in [self.enter, *layers]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
            if random_biases:
                nn.init.normal_(layer.bias, std=1.0 if layer is self.enter else 0.2)
        for layer in layers:  # a sum of `depth` branches keeps the variance of one
            with torch.no_grad():
                layer.weight.mul_(depth**-0.5)
        if zero_exit:
            nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        h = self.activation(self.enter(x))
        for layer in self.layers:
            branch = self.activation(layer(h))
            h = h + (F.dropout(branch, self.dropout, self.training) if self.dropout else branch)
        out: Tensor = self.exit(h)
        return out


class FlatNetwork(nn.Module):
    """A perceptron between tensors of any shapes, which sees a time and a condition beside its input.

    Args:
        perceptron: sizes -> the perceptron.
        inputs: numbers that come in.
        shape: of what goes out.
        features: of the input; None = the numbers as they are.
        timed: whether it is called with a time.
        classes: values of the condition; 0 = it is called without one.
        scale_in, scale_out: factors on what comes in and on what goes out.
    """

    def __init__(
        self,
        perceptron: Callable[[int, int], ResidualMLP],
        inputs: int,
        shape: Shape,
        features: Fourier | None = None,
        *,
        timed: bool = False,
        classes: int = 0,
        scale_in: float = 1.0,
        scale_out: float = 1.0,
    ) -> None:
        super().__init__()
        self.shape, self.scale_in, self.scale_out = shape, scale_in, scale_out
        self.features = features.of(inputs) if features is not None else None
        self.time = TimeFeatures() if timed else None
        self.codes = Codes(classes, CODE) if classes else None
        seen = self.features.outputs if self.features is not None else inputs
        seen += (self.time.outputs if self.time is not None else 0) + (CODE if classes else 0)
        self.body = perceptron(seen, math.prod(shape))

    def forward(self, x: Tensor, *more: Tensor | None) -> Tensor:
        """(B, …), (B,) times if it is called with them, (B,) condition if there is one -> (B, *shape)."""
        flat = self.scale_in * x.flatten(1)
        seen = [flat if self.features is None else self.features(flat)]
        given = list(more)
        if self.time is not None:
            seen.append(self.time(given.pop(0)))
        if self.codes is not None:
            seen.append(self.codes(given[0]))
        out: Tensor = self.scale_out * self.body(torch.cat(seen, dim=-1))
        return out.view(-1, *self.shape)


class Perceptron(Network):
    """A residual perceptron, for events of any kind: they are flattened.

    Args:
        depth: residual layers.
        activation: `silu`, `leaky_relu` (slope 0.2) or `gelu`.
        dropout: on residual branches.
        random_biases: see `ResidualMLP`.
        features: Fourier features of events and states; None = none.
        latent_features: of what a decoder takes in; None = none.
        scale: inputs are seen times this, and outputs divided by it. With the biases' spread fixed, larger events let a
            piecewise linear network bend more often within them, which tight modes need.
    """

    def __init__(
        self,
        depth: Count = 4,
        activation: Literal["silu", "leaky_relu", "gelu"] = "silu",
        dropout: ShareBelowOne = 0.0,
        random_biases: bool = False,
        features: Fourier | None = None,
        latent_features: Fourier | None = None,
        scale: Positive = 1.0,
    ) -> None:
        activation_named(activation)
        self.depth, self.activation, self.dropout, self.random_biases = depth, activation, dropout, random_biases
        self.features, self.latent_features, self.scale = features, latent_features, scale

    def _perceptron(self, width: int, *, zero_exit: bool = False) -> Callable[[int, int], ResidualMLP]:
        def build(inputs: int, outputs: int) -> ResidualMLP:
            settings = self.depth, self.activation, self.dropout, zero_exit, self.random_biases
            return ResidualMLP(inputs, outputs, width, *settings)

        return build

    def encoder(self, shape: Shape, outputs: int, width: int, classes: int = 0) -> nn.Module:
        """See `Network.encoder`."""
        size, features = math.prod(shape), self.features
        return FlatNetwork(self._perceptron(width), size, (outputs,), features, classes=classes, scale_in=self.scale)

    def decoder(self, inputs: int, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """See `Network.decoder`."""
        features = self.latent_features
        return FlatNetwork(
            self._perceptron(width), inputs, shape, features, classes=classes, scale_out=1.0 / self.scale
        )

    def field(self, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """See `Network.field`."""
        perceptron, size = self._perceptron(width, zero_exit=True), math.prod(shape)
        scales = {"scale_in": self.scale, "scale_out": 1.0 / self.scale}
        return FlatNetwork(perceptron, size, shape, self.features, timed=True, classes=classes, **scales)
