"""Networks of a state and a time, (x_t, t) -> a vector of the state's shape: bodies for flow matching.

With `classes` they are told a label too, one of so many: a learnt code of it stands beside the time's features.

References:
    Ronneberger, O., Fischer, P. & Brox, T. 2015. U-Net. https://arxiv.org/abs/1505.04597
    Peebles, W. & Xie, S. 2023. Scalable diffusion models with transformers (DiT). https://arxiv.org/abs/2212.09748
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.convolutional import ResidualBlock, patched
from genfam.networks.embeddings import FourierFeatures, TimeFeatures
from genfam.networks.mlp import ResidualMLP
from genfam.networks.transformer import AxisEmbedding

CODE = 32  # numbers that a label has


class Labels(nn.Module):
    """A code for each label, and a layer that makes features of it.

    Args:
        classes: number of labels.
        features: size of what comes out.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.codes, self.exit = nn.Embedding(classes, CODE), nn.Linear(CODE, features)

    def forward(self, label: Tensor) -> Tensor:
        """(B,) int64 -> (B, features)."""
        out: Tensor = self.exit(self.codes(label))
        return out


class VelocityMLP(nn.Module):
    """Residual MLP on the flattened state, its Fourier features (optional) and the time's.

    Args:
        shape: of one state.
        width, depth, dropout: of the residual MLP.
        frequencies: number of Fourier features of the state; 0 = none. Tight modes need them: without, a 5×5 grid
            reaches a third of the high-quality samples.
        frequency_scale: their standard deviation, in cycles per unit.
        classes: number of labels; 0 = it is told none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        depth: int = 4,
        frequencies: int = 0,
        frequency_scale: float = 2.0,
        dropout: float = 0.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        size = 1
        for length in shape:
            size *= length
        self.features = FourierFeatures(size, frequencies, frequency_scale) if frequencies else None
        self.time = TimeFeatures()
        self.label = Labels(classes, CODE) if classes else None
        inputs = (self.features.outputs if self.features else size) + self.time.outputs + (CODE if classes else 0)
        self.body = ResidualMLP(inputs, size, width, depth, dropout=dropout, zero_exit=True)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, *shape), (B,), (B,) int64 if it is told labels -> (B, *shape)."""
        flat = x.flatten(1)
        seen = [self.features(flat) if self.features is not None else flat, self.time(t)]
        if self.label is not None:
            seen.append(self.label(label))
        out: Tensor = self.body(torch.cat(seen, dim=-1))
        return out.view_as(x)


class VelocityUNet(nn.Module):
    """A U-Net for small images on patches of pixels: at most two resolutions, and a bottleneck that sees everything.

    Args:
        shape: (C, H, W).
        width: channels at the higher resolution, which is the image's divided by `patch`; twice as many below. Where
            the patches cannot be halved (7 × 7), all blocks stand at the one resolution.
        depth: residual blocks at the lower resolution; one before and one after it at the higher.
        patch: pixels per side that one position holds. Convolutions at full resolution cost most and say least.
        bottleneck: units of a fully connected layer over all positions in the middle; 0 = none. Convolutions carry
            a stroke's ends to each other slowly; a dense layer has a hundred times their parameters per FLOP.
        classes: number of labels; 0 = it is told none.
        untold_bottleneck: whether it has its bottleneck with the last label too, which stands for none.

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
        untold_bottleneck: bool = True,
    ) -> None:
        super().__init__()
        self.label_without_bottleneck = None if untold_bottleneck else classes - 1
        channels, height, across = shape
        if patch == 1 and (height % 2 or across % 2):
            raise ValueError(f"expected an even height and width, got {height} × {across}")
        rows, columns = patched((height, across), patch)
        self.halves = rows % 2 == 0 and columns % 2 == 0
        self.time = TimeFeatures()
        condition = 4 * width
        self.condition = nn.Sequential(nn.Linear(self.time.outputs, condition), nn.SiLU())
        self.label = Labels(classes, condition) if classes else None
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

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,), (B,) int64 if it is told labels -> (B, C, H, W)."""
        condition = self.condition(self.time(t))
        if self.label is not None:
            condition = condition + self.label(label)
        skip = self.before(self.enter(self.gather(x)), condition)
        h = self.down(skip)
        for block in self.below:
            before, h = h, block(h, condition)
            if label is not None and self.label_without_bottleneck is not None and isinstance(block, DenseBlock):
                h = torch.where((label == self.label_without_bottleneck)[:, None, None, None], before, h)
        out: Tensor = self.spread(self.exit(self.after(skip + self.up(h), condition)))
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


class DiTBlock(nn.Module):
    """Attention and feed-forward, each modulated by the condition and begun as the identity (adaLN-Zero).

    Args:
        width: size of the residual stream, a multiple of `heads`.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.query_key_value, self.attention_exit = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forward_enter, self.forward_exit = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """(B, S, width), (B, width) -> (B, S, width)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=-1)
        fused = self.query_key_value(self.norm(h) * (1 + scale1) + shift1)
        q, k, v = fused.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + gate1 * self.attention_exit(attended)
        branch = self.forward_enter(self.norm(h) * (1 + scale2) + shift2)
        out: Tensor = h + gate2 * self.forward_exit(F.gelu(branch, approximate="tanh"))
        return out


class VelocityDiT(nn.Module):
    """A Transformer over patches with the time in its norms (Peebles & Xie 2023, section 3.2, adaLN-Zero).

    Args:
        shape: (C, H, W).
        width: of the residual stream, a multiple of `heads`.
        depth: blocks.
        patch: pixels per side of a patch.
        heads: attention heads.
        classes: number of labels; 0 = it is told none.

    Raises:
        ValueError: patches do not tile the image, or the width is no multiple of the heads.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, depth: int, patch: int, heads: int = 4, classes: int = 0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width: expected a multiple of {heads} heads, got {width}")
        channels, height, across = shape
        self.grid = patched((height, across), patch)
        self.time = TimeFeatures()
        self.condition = nn.Sequential(nn.Linear(self.time.outputs, width), nn.SiLU())
        self.label = Labels(classes, width) if classes else None
        self.gather, self.spread = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.enter = nn.Linear(channels * patch**2, width)
        self.positions = AxisEmbedding(self.grid, width)
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.exit = nn.Linear(width, channels * patch**2)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,), (B,) int64 if it is told labels -> (B, C, H, W)."""
        condition = self.condition(self.time(t))
        if self.label is not None:
            condition = condition + self.label(label)
        h = self.enter(self.gather(x).flatten(2).transpose(1, 2)) + self.positions()
        for block in self.blocks:
            h = block(h, condition)
        out: Tensor = self.spread(self.exit(self.norm(h)).transpose(1, 2).unflatten(2, self.grid))
        return out
