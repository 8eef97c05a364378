"""A Transformer over patches of an image with the time in its norms: a state and a time -> a vector of its shape.

References:
    Peebles, W. & Xie, S. 2023. Scalable diffusion models with transformers (DiT). https://arxiv.org/abs/2212.09748
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Network, Shape
from genfam.networks.convolutional import patched
from genfam.networks.embeddings import Codes, TimeFeatures
from genfam.networks.transformer import AxisEmbedding
from genfam.ranges import Count


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


class DiTField(nn.Module):
    """A Transformer over patches with the time in its norms (Peebles & Xie 2023, section 3.2, adaLN-Zero).

    Args:
        shape: (C, H, W).
        width: of the residual stream, a multiple of `heads`.
        depth: blocks.
        patch: pixels per side of a patch.
        heads: attention heads.
        classes: values of the condition, whose code is added to the time's; 0 = none.

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
        self.codes = Codes(classes, width) if classes else None
        self.gather, self.spread = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.enter = nn.Linear(channels * patch**2, width)
        self.positions = AxisEmbedding(self.grid, width)
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.exit = nn.Linear(width, channels * patch**2)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,), (B,) condition if there is one -> (B, C, H, W)."""
        code = self.condition(self.time(t))
        if self.codes is not None:
            code = code + self.codes(condition)
        h = self.enter(self.gather(x).flatten(2).transpose(1, 2)) + self.positions()
        for block in self.blocks:
            h = block(h, code)
        out: Tensor = self.spread(self.exit(self.norm(h)).transpose(1, 2).unflatten(2, self.grid))
        return out


class DiT(Network):
    """A diffusion Transformer over patches, for images.

    Args:
        depth: blocks.
        patch: pixels per side of a patch.
        heads: attention heads.
    """

    def __init__(self, depth: Count = 4, patch: Count = 2, heads: Count = 4) -> None:
        self.depth, self.patch, self.heads = depth, patch, heads
        self.multiples = (heads,)  # the width is a multiple of it

    def field(self, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """See `Network.field`."""
        if len(shape) != 3:
            raise ValueError(f"network: expected images for a DiT, got events of {shape}")
        return DiTField(shape, width, self.depth, self.patch, self.heads, classes)
