"""Small classifiers of single images, and how they are trained: what `extractors.Classifier` takes its features from.

References:
    K. He et al. (2016). Identity Mappings in Deep Residual Networks. https://arxiv.org/abs/1603.05027 (pre-activation)
    L. Smith & N. Topin (2018). Super-Convergence. https://arxiv.org/abs/1708.07120 (one-cycle learning rate)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfam.metrics.base import blocks

BODIES = ("plain", "residual")
PLACES = 2  # a side: early and middle activations are averaged over so many by so many parts of an image


class ClassifierNetwork(nn.Module):
    """3×3 convolutions with halving until at most 4 pixels a side, then `features` units and one logit per class."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int, width: int, features: int) -> None:
        """For (B, channels, *size) images."""
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        early = len(layers)
        height, breadth = size
        while max(height, breadth) > 4 and min(height, breadth) > 1:
            layers += [nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            width, height, breadth = 2 * width, height // 2, breadth // 2
        self.levels = early, len(layers)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * height * breadth, features), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(features, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, classes) logits."""
        logits: Tensor = self.head(self.trunk(x))
        return logits


class PreActivation(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), 3×3, same width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same."""
        out: Tensor = x + self.body(x)
        return out


class ResidualNetwork(nn.Module):
    """2×2 pixels to channels, residual blocks, halving and doubled width between stages, global mean.

    Working at half resolution costs a quarter of the FLOPs and little accuracy at 28 to 32 pixels.

    Attributes:
        features: of the global mean: width·2^(stages − 1).
    """

    def __init__(
        self, channels: int, size: tuple[int, int], classes: int, width: int, stages: Sequence[int] = (2, 2)
    ) -> None:
        """For (B, channels, *size) images of even size; `stages`: residual blocks at each resolution."""
        super().__init__()
        if size[0] % 2 or size[1] % 2:
            raise ValueError(f"expected images of even height and width, got {size}")
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1, bias=False)]
        early, middle = len(layers), 0
        for stage, count in enumerate(stages):
            if stage:
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)]
                width *= 2
            layers += [PreActivation(width) for _ in range(count)]
            middle = len(layers) if stage == (len(stages) - 1) // 2 else middle
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.levels = early, middle
        self.trunk = nn.Sequential(*layers)
        self.features = width
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, classes) logits."""
        logits: Tensor = self.head(self.trunk(x))
        return logits


def depths(network: ClassifierNetwork | ResidualNetwork, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, C, H, W) in [0, 1] -> early, middle and late activations, each (B, features), none negative.

    Early: after the first convolution. Middle: the plain network's last map; the residual one's at the end of the
    middle stage, or of the first of two. Both are rectified and averaged over `PLACES` × `PLACES` parts of the image,
    so that they show texture and roughly where it is. Late: what the classes are told from.
    """
    first, second = network.levels
    early = network.trunk[:first](x)
    middle = network.trunk[first:second](early)
    late: Tensor = network.trunk[second:](middle)

    def pooled(part: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(part.relu(), PLACES).flatten(1)

    return pooled(early), pooled(middle), late


def shifted(x: Tensor) -> Tensor:
    """(B, C, H, W) -> the same, each image moved by −1, 0 or 1 pixels each way, zeros moving in."""
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    batch, _, height, width = x.shape
    rows = torch.randint(0, 3, (batch, 1, 1, 1)) + torch.arange(height)[None, None, :, None]
    columns = torch.randint(0, 3, (batch, 1, 1, 1)) + torch.arange(width)[None, None, None, :]
    images, channels = torch.arange(batch)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None]
    return padded[images, channels, rows, columns]


def flipped(x: Tensor) -> Tensor:
    """(B, C, H, W) -> the same, each image mirrored left to right with probability ½."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-1), x)


def train_classifier(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    scale: float = 1.0,
    flip: bool = False,
    shift: bool = True,
) -> None:
    """AdamW with a one-cycle learning rate, cross-entropy with label smoothing 0.1.

    Args:
        network: trained in place, left in evaluation mode.
        x: (N, C, H, W) levels.
        y: (N,) int64 classes.
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: peak.
        scale: levels times this are in [0, 1].
        flip: mirror half of the images.
        shift: move images by up to a pixel each way.
    """
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2, fused=True)
    steps = epochs * -(-len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for rows in blocks(len(x), batch_size):
            batch = order[rows]
            images = x[batch].float() * scale
            images = shifted(images) if shift else images
            logits = network(flipped(images) if flip else images)
            loss = F.cross_entropy(logits, y[batch], label_smoothing=0.1)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()
