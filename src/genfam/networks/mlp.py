"""Residual multilayer perceptrons: the body for points, tables and flattened small images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
            rays; behind Fourier features, random biases cost flow matching quality (docs/experiments.md).
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
