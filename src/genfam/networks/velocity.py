"""Networks of a state and a time, (x_t, t) -> a vector of the state's shape: bodies for flow matching."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genfam.networks.convolutional import ResidualBlock
from genfam.networks.embeddings import FourierFeatures, TimeFeatures
from genfam.networks.mlp import ResidualMLP


class VelocityMLP(nn.Module):
    """Residual MLP on the flattened state, its Fourier features (optional) and the time's.

    Args:
        shape: of one state.
        width, depth, dropout: of the residual MLP.
        frequencies: number of Fourier features of the state; 0 = none. Tight modes need them: without, a 5×5 grid
            reaches a third of the high-quality samples.
        frequency_scale: their standard deviation, in cycles per unit.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        depth: int = 4,
        frequencies: int = 0,
        frequency_scale: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size = 1
        for length in shape:
            size *= length
        self.features = FourierFeatures(size, frequencies, frequency_scale) if frequencies else None
        self.time = TimeFeatures()
        inputs = (self.features.outputs if self.features else size) + self.time.outputs
        self.body = ResidualMLP(inputs, size, width, depth, dropout=dropout, zero_exit=True)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, *shape), (B,) -> (B, *shape)."""
        flat = x.flatten(1)
        state = self.features(flat) if self.features is not None else flat
        out: Tensor = self.body(torch.cat([state, self.time(t)], dim=-1))
        return out.view_as(x)


class VelocityUNet(nn.Module):
    """A two-resolution U-Net for small images: the coarse level carries most channels and most blocks.

    Args:
        shape: (C, H, W), H and W even.
        width: channels at full resolution; twice as many below.
        depth: residual blocks at the lower resolution; one before and one after it at full resolution.
    """

    def __init__(self, shape: tuple[int, ...], width: int, depth: int = 2) -> None:
        super().__init__()
        channels, height, across = shape
        if height % 2 or across % 2:
            raise ValueError(f"expected an even height and width, got {height} × {across}")
        self.time = TimeFeatures()
        condition = 4 * width
        self.condition = nn.Sequential(nn.Linear(self.time.outputs, condition), nn.SiLU())
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.before = ResidualBlock(width, "silu", condition)
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.below = nn.ModuleList(ResidualBlock(2 * width, "silu", condition) for _ in range(depth))
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.after = ResidualBlock(width, "silu", condition)
        self.exit = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed as optional

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W), (B,) -> (B, C, H, W)."""
        condition = self.condition(self.time(t))
        skip = self.before(self.enter(x), condition)
        h = self.down(skip)
        for block in self.below:
            h = block(h, condition)
        out: Tensor = self.exit(self.after(skip + self.up(h), condition))
        return out
