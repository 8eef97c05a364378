"""Gated PixelCNN: the conditionals of all pixels by convolutions that see only what comes before.

References:
    van den Oord, A. et al. 2016. Conditional image generation with PixelCNN decoders.
    https://arxiv.org/abs/1606.05328 (section 2.1, equation 2: gated units; section 2.2, figure 2: a vertical stack
    above the pixel and a horizontal one to its left, without a blind spot)
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.networks.conditionals import AutoregressiveBody, softmax_draw, softmax_log_prob
from genfam.types import Event

FIRST = 3  # reach of the first layer, upwards and to the sides
LATER = 1  # of the others


def gated(h: Tensor) -> Tensor:
    """(B, 2C, H, W) -> (B, C, H, W): tanh of one half times the logistic of the other (equation 2)."""
    a, b = h.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    """One layer of both stacks.

    Args:
        inputs: channels that come in.
        width: channels that go out of each stack.
        reach: how many pixels up and to each side the convolutions see.
        first: whether the horizontal stack must not see the pixel itself.
    """

    def __init__(self, inputs: int, width: int, reach: int, first: bool) -> None:
        super().__init__()
        self.reach, self.first = reach, first
        # rows up to and with the pixel's own; what goes to the horizontal stack is moved down by a row
        self.vertical = nn.Conv2d(inputs, 2 * width, (reach + 1, 2 * reach + 1))
        self.horizontal = nn.Conv2d(inputs, 2 * width, (1, reach if first else reach + 1))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.exit = nn.Conv2d(width, width, 1)

    def forward(self, above: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, H, W) of both stacks -> (B, width, H, W) of both."""
        above, sideways = self.down(above)
        return above, self.right(left, sideways)

    def down(self, above: Tensor) -> tuple[Tensor, Tensor]:
        """The vertical stack: (B, inputs, H, W) -> (B, width, H, W), and (B, 2 width, H, W) for the horizontal one."""
        v = self.vertical(F.pad(above, (self.reach, self.reach, self.reach, 0)))
        return gated(v), self.across(F.pad(v, (0, 0, 1, 0))[:, :, :-1])

    def right(self, left: Tensor, sideways: Tensor) -> Tensor:
        """The horizontal stack: (B, inputs, H, W), with what `down` has for it -> (B, width, H, W)."""
        padded = F.pad(left, (self.reach, 0, 0, 0))
        h = self.horizontal(padded[..., :-1] if self.first else padded)  # at first columns strictly to the left
        out: Tensor = self.exit(gated(h + sideways))
        return out if self.first else left + out


class GatedPixelCNN(AutoregressiveBody):
    """Vertical and horizontal stacks of gated convolutions over a single-channel image.

    Sampling takes one pass per row of the vertical stack over the rows that it depends on, and one per pixel of the
    horizontal stack over the columns that this one depends on. `patch_transformer.py` is the cheaper body.

    Args:
        event: (1, H, W) with levels.
        width: channels of each stack.
        depth: layers; the first one sees 7 × 7 pixels, the others 3 × 3.

    Raises:
        ValueError: the event is no discrete single-channel image.
    """

    def __init__(self, event: Event, width: int, depth: int) -> None:
        super().__init__()
        if not event.is_image or event.levels is None or event.shape[0] != 1:
            raise ValueError(f"body=pixelcnn: expected a single-channel image with discrete levels, got {event}")
        self.levels, (_, self.height, self.breadth) = event.levels, event.shape
        self.width = width
        self.layers = nn.ModuleList(
            GatedLayer(1 if index == 0 else width, width, FIRST if index == 0 else LATER, index == 0)
            for index in range(depth)
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, self.levels, 1))
        self.columns_seen = FIRST + LATER * (depth - 1)  # to the left, by the horizontal stack
        self.rows_seen = self.columns_seen + 1  # up the vertical stack, and one row down to the other

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) levels -> (B, L, H, W) logits; each pixel's depend on those before it in raster order."""
        above = left = self.scaled(x)
        for layer in self.layers:
            above, left = layer(above, left)
        out: Tensor = self.head(left)
        return out

    def scaled(self, x: Tensor) -> Tensor:
        """Levels -> -1 to 1."""
        return x.float() * (2.0 / (self.levels - 1)) - 1.0

    def log_prob(self, values: Tensor, temperature: float) -> Tensor:
        """(B, D) levels in raster order -> (B, D) nats."""
        logits = self(values.view(-1, 1, self.height, self.breadth))
        return softmax_log_prob(logits.flatten(2).transpose(1, 2), values, temperature)

    @property
    def draw_bytes(self) -> int:
        """As a pass."""
        return self.pass_bytes

    @property
    def pass_bytes(self) -> int:
        """Both halves of both stacks, or the logits."""
        return 4 * self.height * self.breadth * max(8 * self.width, self.levels)

    def draw(self, n: int, temperature: float, generator: Generator) -> Tensor:
        """-> (n, D)."""
        device = next(self.parameters()).device
        layers = cast("list[GatedLayer]", list(self.layers))
        x = torch.zeros(n, 1, self.height, self.breadth, dtype=torch.int64, device=device)
        for row in range(self.height):
            above = self.scaled(x[:, :, max(0, row - self.rows_seen) : row + 1])  # rows above are out of reach
            rows = []
            for layer in layers:
                above, sideways = layer.down(above)
                rows.append(sideways[:, :, -1:])
            for column in range(self.breadth):
                seen = slice(max(0, column - self.columns_seen), column + 1)
                left = self.scaled(x[:, :, row : row + 1, seen])
                for layer, sideways in zip(layers, rows, strict=True):
                    left = layer.right(left, sideways[..., seen])
                logits = self.head(left[..., -1:])[:, :, 0, 0]
                x[:, 0, row, column] = softmax_draw(logits, temperature, generator)
        return x.flatten(1)
