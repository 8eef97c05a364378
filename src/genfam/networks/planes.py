"""All channels of an image share one network: for channels that have little to do with each other, as stacked digits.

References:
    Metz, L. et al. 2017. Unrolled generative adversarial networks. https://arxiv.org/abs/1611.02163 (stacked digits)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from genfam.networks.base import Network, Shape
from genfam.networks.conditionals import Conditionals
from genfam.networks.convolutional import Shaped
from genfam.networks.embeddings import CODE, Codes
from genfam.networks.patch_transformer import PatchTransformer
from genfam.networks.perceptron import activation_named
from genfam.ranges import Count
from genfam.types import Event

PLANE_FEATURES = 128  # what an encoder that channels share gives of each


class PlanesDecoder(nn.Module):
    """Latent -> image: a linear layer gives every channel a code, and one decoder makes a channel of each.

    Nothing keeps channels apart, as each code is of the whole latent; but what one has learned to draw, all can.

    Args:
        latent: size of the flat input.
        planes: channels of the image.
        code: size of each code. Where all together are as large as the latent, the layer's weights begin orthogonal, so
            that channels are independent under a standard normal latent until they learn otherwise.
        decoder: (B, code) -> (B, P, H, W): P outputs per pixel of one channel.
        classes: values of the condition; 0 = none.
    """

    def __init__(self, latent: int, planes: int, code: int, decoder: nn.Module, classes: int = 0) -> None:
        super().__init__()
        self.planes = planes
        self.condition = Codes(classes, CODE) if classes else None
        self.codes = nn.Linear(latent + (CODE if classes else 0), planes * code)
        if planes * code == latent:
            nn.init.orthogonal_(self.codes.weight)
        self.decoder = decoder

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, latent), (B,) condition if there is one -> (B, P · planes, H, W), for each of P outputs all planes."""
        if self.condition is not None:
            z = torch.cat([z, self.condition(condition)], dim=1)
        codes = self.codes(z).unflatten(1, (self.planes, -1)).flatten(0, 1)
        out: Tensor = self.decoder(codes).unflatten(0, (-1, self.planes)).transpose(1, 2).flatten(1, 2)
        return out


class PlanesEncoder(nn.Module):
    """Image -> flat vector: one encoder for all channels, and a perceptron that joins what it gives of them.

    Args:
        outputs: size of the flat output.
        planes: channels of the image.
        encoder: (B, 1, H, W) -> (B, PLANE_FEATURES); as many units has the perceptron.
        activation: between its layers; it has to bend, or a critic would not see which channels come together.
        classes: values of the condition; 0 = none.
    """

    def __init__(self, outputs: int, planes: int, encoder: nn.Module, activation: str, classes: int = 0) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.encoder = encoder
        self.condition = Codes(classes, CODE) if classes else None
        self.join = nn.Linear(planes * PLANE_FEATURES + (CODE if classes else 0), PLANE_FEATURES)
        self.exit = nn.Linear(PLANE_FEATURES, outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, planes, H, W), (B,) condition if there is one -> (B, outputs)."""
        h = self.activation(self.encoder(x.flatten(0, 1)[:, None]).unflatten(0, (len(x), -1)).flatten(1))
        if self.condition is not None:
            h = torch.cat([h, self.condition(condition)], dim=1)
        out: Tensor = self.exit(self.activation(self.join(h)))
        return out


class Planes(Network):
    """A network that all channels of an image share.

    Args:
        network: of a single channel.
        code: numbers that a decoder hands to each channel.
        activation: where an encoder joins the channels.
    """

    def __init__(
        self, network: Network, code: Count = 64, activation: Literal["silu", "leaky_relu", "gelu"] = "silu"
    ) -> None:
        activation_named(activation)
        self.network, self.code, self.activation = network, code, activation
        self.multiples = network.multiples

    def encoder(self, shape: Shape, outputs: int, width: int, classes: int = 0) -> nn.Module:
        """See `Network.encoder`."""
        inner = self.network.encoder((1, *shape[1:]), PLANE_FEATURES, width)
        return PlanesEncoder(outputs, shape[0], inner, self.activation, classes)

    def decoder(self, inputs: int, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """See `Network.decoder`; (…, C, H, W) has C channels."""
        channels, size = shape[-3], shape[-2:]
        outputs = 1
        for count in shape[:-3]:
            outputs *= count
        inner = self.network.decoder(self.code, (outputs, *size), width)
        image = PlanesDecoder(inputs, channels, self.code, inner, classes)
        return image if len(shape) == 3 else Shaped(image, shape)

    def conditionals(self, event: Event, width: int, classes: int = 0) -> Conditionals:
        """One channel after the other, patch by patch.

        Raises:
            ValueError: the network is no `PatchTransformer`.
        """
        if not isinstance(self.network, PatchTransformer):
            raise ValueError(f"network: expected Planes of a PatchTransformer, got {type(self.network).__name__}")
        return self.network.over_patches(event, width, classes, planes=True)
