"""A U-Net for small images: a state and a time -> a vector of the state's shape.

References:
    Ronneberger, O., Fischer, P. & Brox, T. 2015. U-Net. https://arxiv.org/abs/1505.04597
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Network, Shape
from genfam.networks.convolutional import ResidualBlock, patched
from genfam.networks.embeddings import Codes, TimeFeatures
from genfam.ranges import Count, CountOrNone


class UNetField(nn.Module):
    """A U-Net on patches of pixels: at most two resolutions, and a bottleneck that sees everything.

    Args:
        shape: (C, H, W).
        width: channels at the higher resolution, which is the image's divided by `patch`; twice as many below. Where
            the patches cannot be halved (7 × 7), all blocks stand at the one resolution.
        depth: residual blocks at the lower resolution; one before and one after it at the higher.
        patch: pixels per side that one position holds. Convolutions at full resolution cost most and say least.
        bottleneck: units of a fully connected layer over all positions in the middle; 0 = none. Convolutions carry
            a stroke's ends to each other slowly; a dense layer has a hundred times their parameters per FLOP.
        classes: values of the condition, whose code is added to the time's; 0 = none.

    Raises:
        ValueError: patches do not tile the image, or without patches its height or width is odd.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        depth: int = 2,
        patch: int = 1,
        bottleneck: int = 0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        channels, height, across = shape
        if patch == 1 and (height % 2 or across % 2):
            raise ValueError(f"expected an even height and width, got {height} × {across}")
        rows, columns = patched((height, across), patch)
        self.halves = rows % 2 == 0 and columns % 2 == 0
        self.time = TimeFeatures()
        condition = 4 * width
        self.condition = nn.Sequential(nn.Linear(self.time.outputs, condition), nn.SiLU())
        self.codes = Codes(classes, condition) if classes else None
        self.gather, self.spread = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.enter = nn.Conv2d(channels * patch**2, width, 3, padding=1)
        self.before = ResidualBlock(width, "silu", condition)
        below = 2 * width if self.halves else width
        self.down = nn.Conv2d(width, below, 2, stride=2) if self.halves else nn.Identity()
        blocks: list[nn.Module] = [ResidualBlock(below, "silu", condition) for _ in range(depth)]
        if bottleneck:
            positions = rows * columns // (4 if self.halves else 1)
            blocks.insert(depth // 2, DenseBlock(below * positions, bottleneck, condition))
        self.below = nn.ModuleList(blocks)
        self.up = nn.ConvTranspose2d(below, width, 2, stride=2) if self.halves else nn.Identity()
        self.after = ResidualBlock(width, "silu", condition)
        self.exit = nn.Conv2d(width, channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed as optional

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,), (B,) condition if there is one -> (B, C, H, W)."""
        code = self.condition(self.time(t))
        if self.codes is not None:
            code = code + self.codes(condition)
        skip = self.before(self.enter(self.gather(x)), code)
        h = self.down(skip)
        for block in self.below:
            h = block(h, code)
        out: Tensor = self.spread(self.exit(self.after(skip + self.up(h), code)))
        return out


class DenseBlock(nn.Module):
    """x + exit(act(enter(act(x)) + shift(condition))) over all channels and positions at once."""

    def __init__(self, size: int, hidden: int, condition: int) -> None:
        super().__init__()
        self.enter, self.exit = nn.Linear(size, hidden), nn.Linear(hidden, size)
        self.shift = nn.Linear(condition, hidden)
        nn.init.zeros_(self.exit.weight)  # begins as the identity
        nn.init.zeros_(self.exit.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W), (B, condition) -> (B, C, H, W)."""
        h = F.silu(self.enter(F.silu(x).flatten(1)) + self.shift(condition))
        out: Tensor = x + self.exit(h).unflatten(1, x.shape[1:])
        return out


class UNet(Network):
    """A small U-Net, for images.

    Args:
        depth: residual blocks at the lower resolution.
        patch: pixels per side of what one position holds.
        bottleneck: units of a fully connected layer over all positions in the middle; 0 = none.
    """

    def __init__(self, depth: Count = 2, patch: Count = 1, bottleneck: CountOrNone = 0) -> None:
        self.depth, self.patch, self.bottleneck = depth, patch, bottleneck

    def field(self, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """See `Network.field`."""
        if len(shape) != 3:
            raise ValueError(f"network: expected images for a UNet, got events of {shape}")
        return UNetField(shape, width, self.depth, self.patch, self.bottleneck, classes)
