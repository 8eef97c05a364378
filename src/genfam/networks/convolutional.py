"""Residual convolutional networks for small images, without normalisation.

References:
    Huang, Y. et al. 2024. The GAN is dead; long live the GAN! A modern baseline GAN (R3GAN), section 3.
    https://arxiv.org/abs/2501.05441 (residual blocks, no normalisation, bilinear resampling)
    Shi, W. et al. 2016. Real-time single image and video super-resolution (sub-pixel convolution).
    https://arxiv.org/abs/1609.05158
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Network, Shape
from genfam.networks.embeddings import CODE, Codes
from genfam.networks.perceptron import activation_named
from genfam.ranges import Count, CountOrNone


def halvings(height: int, width: int, smallest: int = 4) -> int:
    """How often an image can be halved and still be at least `smallest` pixels on its shorter side."""
    count = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= smallest:
        height, width, count = height // 2, width // 2, count + 1
    return count


def patched(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """(H, W) in patches.

    Raises:
        ValueError: patches of that size do not tile the image.
    """
    if patch < 1 or size[0] % patch or size[1] % patch:
        raise ValueError(f"patch: expected a divisor of {size[0]} and {size[1]}, got {patch}")
    return size[0] // patch, size[1] // patch


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), optionally shifted by a condition between the convolutions."""

    def __init__(self, channels: int, activation: str, condition: int = 0) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift = nn.Linear(condition, channels) if condition else None
        nn.init.zeros_(self.second.weight)  # each block begins as the identity
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed as optional

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B, condition) -> (B, C, H, W)."""
        h = self.first(self.activation(x))
        if self.shift is not None and condition is not None:
            h = h + self.shift(condition)[:, :, None, None]
        out: Tensor = x + self.second(self.activation(h))
        return out


class ImageDecoder(nn.Module):
    """Latent -> image: a linear layer, then residual blocks between bilinear doublings.

    Args:
        latent: size of the flat input.
        outputs: channels of the output.
        size: (H, W) of the output.
        width: channels at the highest resolution; doubled at each halving, at most twice.
        blocks: residual blocks per resolution.
        patch: the highest resolution is the image's divided by this; patch × patch pixels come out of one position
            (Shi et al. 2016). Convolutions at full resolution cost most and hold fewest parameters.
        hidden: units of a fully connected layer between the input and the lowest resolution; 0 = none. It holds many
            parameters per FLOP.
        classes: values of the condition, whose code stands beside the input; 0 = none.
    """

    def __init__(
        self,
        latent: int,
        outputs: int,
        size: tuple[int, int],
        width: int,
        blocks: int = 1,
        activation: str = "leaky_relu",
        patch: int = 1,
        hidden: int = 0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.hidden = hidden
        self.codes = Codes(classes, CODE) if classes else None
        latent += CODE if classes else 0
        size = patched(size, patch)
        levels = halvings(*size)
        self.channels = [width * min(4, 2**level) for level in range(levels, -1, -1)]
        self.bottom = (size[0] >> levels, size[1] >> levels)
        if hidden:
            self.first = nn.Linear(latent, hidden)
        self.enter = nn.Linear(hidden or latent, self.channels[0] * self.bottom[0] * self.bottom[1])
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(channels, activation) for _ in range(blocks)) for channels in self.channels
        )
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(self.channels, self.channels[1:], strict=False))
        self.exit = nn.Conv2d(self.channels[-1], outputs * patch**2, 3, padding=1)
        self.spread = nn.PixelShuffle(patch)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, latent), (B,) condition if there is one -> (B, outputs, H, W)."""
        if self.codes is not None:
            z = torch.cat([z, self.codes(condition)], dim=1)
        h = self.activation(self.first(z)) if self.hidden else z
        h = self.enter(h).unflatten(1, (self.channels[0], *self.bottom))
        for index, stage in enumerate(self.stages):
            if index:
                h = self.narrow[index - 1](h)
                h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            for block in stage:  # type: ignore[attr-defined]  # ModuleList's items are typed as Module
                h = block(h)
        out: Tensor = self.spread(self.exit(self.activation(h)))
        return out


class ImageEncoder(nn.Module):
    """Image -> flat vector: the decoder's mirror image.

    Args:
        inputs: channels of the input.
        outputs: size of the flat output.
        size: (H, W) of the input.
        width: channels at the highest resolution.
        blocks: residual blocks per resolution.
        patch: pixels per side that go into one position at first.
        hidden: units of a fully connected layer after the lowest resolution; 0 = none.
        classes: values of the condition, whose code shifts every block; 0 = none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        width: int,
        blocks: int = 1,
        activation: str = "leaky_relu",
        patch: int = 1,
        hidden: int = 0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.hidden = hidden
        self.codes = Codes(classes, CODE) if classes else None
        code = CODE if classes else 0
        size = patched(size, patch)
        levels = halvings(*size)
        self.channels = [width * min(4, 2**level) for level in range(levels + 1)]
        self.gather = nn.PixelUnshuffle(patch)
        self.enter = nn.Conv2d(inputs * patch**2, width, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(channels, activation, code) for _ in range(blocks))
            for channels in self.channels
        )
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(self.channels, self.channels[1:], strict=False))
        flat = self.channels[-1] * (size[0] >> levels) * (size[1] >> levels)
        if hidden:
            self.last = nn.Linear(flat, hidden)
        self.exit = nn.Linear(hidden or flat, outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W), (B,) condition if there is one -> (B, outputs)."""
        code = self.codes(condition) if self.codes is not None else None
        h = self.enter(self.gather(x))
        for index, stage in enumerate(self.stages):
            if index:
                h = self.widen[index - 1](F.avg_pool2d(h, 2))
            for block in stage:  # type: ignore[attr-defined]  # ModuleList's items are typed as Module
                h = block(h, code)
        h = torch.flatten(self.activation(h), 1)
        out: Tensor = self.exit(self.activation(self.last(h)) if self.hidden else h)
        return out


class Convolutional(Network):
    """Residual convolutions on patches of pixels, for images of at least 4 × 4.

    Args:
        blocks: residual blocks per resolution.
        patch: pixels per side of what one position holds.
        hidden: units of a fully connected layer at the lowest resolution; 0 = none.
        activation: `silu`, `leaky_relu` (slope 0.2) or `gelu`.
    """

    def __init__(
        self,
        blocks: Count = 1,
        patch: Count = 1,
        hidden: CountOrNone = 0,
        activation: Literal["silu", "leaky_relu", "gelu"] = "silu",
    ) -> None:
        self.blocks, self.patch, self.hidden, self.activation = blocks, patch, hidden, activation

    def encoder(self, shape: Shape, outputs: int, width: int, classes: int = 0) -> nn.Module:
        """See `Network.encoder`."""
        channels, size = planes_and_size(shape)
        settings = self.blocks, self.activation, self.patch, self.hidden, classes
        return ImageEncoder(channels, outputs, size, width, *settings)

    def decoder(self, inputs: int, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """See `Network.decoder`."""
        channels, size = planes_and_size(shape)
        settings = self.blocks, self.activation, self.patch, self.hidden, classes
        image = ImageDecoder(inputs, channels, size, width, *settings)
        return image if len(shape) == 3 else Shaped(image, shape)


def planes_and_size(shape: Shape) -> tuple[int, tuple[int, int]]:
    """(…, C, H, W) -> number of planes, (H, W).

    Raises:
        ValueError: no images.
    """
    if len(shape) < 3 or min(shape[-2:]) < 4:
        raise ValueError(f"network: expected images of at least 4 × 4 pixels for convolutions, got events of {shape}")
    return math.prod(shape[:-2]), (shape[-2], shape[-1])


class Shaped(nn.Module):
    """A module whose output gets another shape: planes that are outputs of a channel, say."""

    def __init__(self, body: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.body, self.shape = body, shape

    def forward(self, *inputs: Tensor | None) -> Tensor:
        """-> (B, *shape)."""
        out: Tensor = self.body(*inputs)
        return out.view(-1, *self.shape)
