"""Residual convolutional networks for small images, without normalisation.

References:
    Huang, Y. et al. 2024. The GAN is dead; long live the GAN! A modern baseline GAN (R3GAN), section 3.
    https://arxiv.org/abs/2501.05441 (residual blocks, no normalisation, bilinear resampling)
    Shi, W. et al. 2016. Real-time single image and video super-resolution (sub-pixel convolution).
    https://arxiv.org/abs/1609.05158
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.mlp import activation_named

PLANE_FEATURES = 128  # what an encoder that channels share says of each


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
    ) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.hidden = hidden
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

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent) -> (B, outputs, H, W)."""
        return self.head(self.trunk(z))

    def trunk(self, z: Tensor) -> Tensor:
        """(B, latent) -> (B, width, H / patch, W / patch): all but the way out."""
        h = self.activation(self.first(z)) if self.hidden else z
        h = self.enter(h).unflatten(1, (self.channels[0], *self.bottom))
        for index, stage in enumerate(self.stages):
            if index:
                h = self.narrow[index - 1](h)
                h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            for block in stage:  # type: ignore[attr-defined]  # ModuleList's items are typed as Module
                h = block(h)
        return h

    def head(self, h: Tensor) -> Tensor:
        """(B, width, H / patch, W / patch) -> (B, outputs, H, W)."""
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
    ) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.hidden = hidden
        size = patched(size, patch)
        levels = halvings(*size)
        self.channels = [width * min(4, 2**level) for level in range(levels + 1)]
        self.gather = nn.PixelUnshuffle(patch)
        self.enter = nn.Conv2d(inputs * patch**2, width, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(channels, activation) for _ in range(blocks)) for channels in self.channels
        )
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(self.channels, self.channels[1:], strict=False))
        flat = self.channels[-1] * (size[0] >> levels) * (size[1] >> levels)
        if hidden:
            self.last = nn.Linear(flat, hidden)
        self.exit = nn.Linear(hidden or flat, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs)."""
        return self.see(x)[0]

    def see(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, H, W) -> (B, outputs), and (B, width, H / patch, W / patch) of the highest resolution."""
        h = features = self.enter(self.gather(x))
        for index, stage in enumerate(self.stages):
            if index:
                h = self.widen[index - 1](F.avg_pool2d(h, 2))
            for block in stage:  # type: ignore[attr-defined]  # ModuleList's items are typed as Module
                h = block(h)
            if not index:
                features = h
        h = torch.flatten(self.activation(h), 1)
        out: Tensor = self.exit(self.activation(self.last(h)) if self.hidden else h)
        return out, features


class PlanesDecoder(nn.Module):
    """Latent -> image: a linear layer gives every channel a code, and one decoder makes a channel of each.

    Nothing keeps channels apart, as each code is of the whole latent; but what one has learned to draw, all can.

    Args:
        latent: size of the flat input.
        planes: channels of the image.
        code: size of each code. Where all together are as large as the latent, the layer's weights begin orthogonal, so
            that channels are independent under a standard normal latent until they learn otherwise.
        decoder: (B, code) -> (B, P, H, W): P outputs per pixel of one channel.
    """

    def __init__(self, latent: int, planes: int, code: int, decoder: nn.Module) -> None:
        super().__init__()
        self.planes = planes
        self.codes = nn.Linear(latent, planes * code)
        if planes * code == latent:
            nn.init.orthogonal_(self.codes.weight)
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent) -> (B, P · planes, H, W), for each of the P outputs all planes."""
        codes = self.codes(z).unflatten(1, (self.planes, -1)).flatten(0, 1)
        out: Tensor = self.decoder(codes).unflatten(0, (-1, self.planes)).transpose(1, 2).flatten(1, 2)
        return out


class PlanesEncoder(nn.Module):
    """Image -> flat vector: one encoder for all channels, and a perceptron that joins what it says of them.

    Args:
        outputs: size of the flat output.
        planes: channels of the image.
        encoder: (B, 1, H, W) -> (B, PLANE_FEATURES); as many units has the perceptron.
        activation: between its layers; it has to bend, or a critic would not see which channels come together.
    """

    def __init__(self, outputs: int, planes: int, encoder: nn.Module, activation: str) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.encoder = encoder
        self.join = nn.Linear(planes * PLANE_FEATURES, PLANE_FEATURES)
        self.exit = nn.Linear(PLANE_FEATURES, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, planes, H, W) -> (B, outputs)."""
        said = self.encoder(x.flatten(0, 1)[:, None]).unflatten(0, (len(x), -1)).flatten(1)
        out: Tensor = self.exit(self.activation(self.join(self.activation(said))))
        return out
