"""What stands at masked places, given those that are not: a Transformer that sees both ways.

References:
    Devlin, J. et al. 2019. BERT: pre-training of deep bidirectional Transformers. https://arxiv.org/abs/1810.04805
    Sahoo, S. S. et al. 2024. Simple and effective masked diffusion language models (MDLM).
        https://arxiv.org/abs/2406.07524 (section 3.4: the network needs no time, the masks show it)
    Dosovitskiy, A. et al. 2021. An image is worth 16 × 16 words. https://arxiv.org/abs/2010.11929 (patches as tokens)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Network
from genfam.networks.embeddings import Codes
from genfam.networks.transformer import FUSED_FROM, AxisEmbedding, Block, attention
from genfam.ranges import Count, ShareBelowOne
from genfam.types import Event


class OpenBlock(Block):
    """A block whose attention goes both ways."""

    def forward(self, h: Tensor) -> Tensor:
        """(B, S, width) -> (B, S, width); every position sees all."""
        q, k, v = self._split(h)
        short = h.shape[1] < FUSED_FROM
        return self._branches(h, attention(q, k, v) if short else F.scaled_dot_product_attention(q, k, v))


def places(event: Event, patch: int) -> Tensor:
    """(T, P) int64: which scalars of the flattened event make up each token; one each, or a patch of an image.

    Raises:
        ValueError: patches do not tile the event.
    """
    index = torch.arange(event.dimensions, device="cpu")
    if patch == 1:
        return index[:, None]
    if len(event.shape) != 3 or event.shape[1] % patch or event.shape[2] % patch:
        raise ValueError(f"patch: expected one that tiles events of shape {event.shape}, got {patch} × {patch} pixels")
    channels, height, width = event.shape
    cut = index.view(channels, height // patch, patch, width // patch, patch)
    return cut.permute(1, 3, 0, 2, 4).reshape(-1, channels * patch**2)


def beside(grid: tuple[int, ...]) -> Tensor:
    """(T, k) int64: which tokens of a grid in raster order each is given directly, beside all that it can attend to.

    Those before and after it on the last axis, and on the one before that (above and below in an image), as far as an
    axis has more than one place; T stands for "outside".
    """
    index = torch.arange(math.prod(grid), device="cpu").view(grid)
    columns = []
    for axis in range(max(0, len(grid) - 2), len(grid)):
        for shift in (1, -1) if grid[axis] > 1 else ():
            moved, end = index.roll(shift, axis), 0 if shift == 1 else grid[axis] - 1
            moved.select(axis, end).fill_(index.numel())
            columns.append(moved.flatten())
    return torch.stack(columns, dim=1) if columns else torch.zeros(index.numel(), 0, dtype=torch.int64)


class MaskedDenoiser(nn.Module):
    """Logits of every scalar's level from an event of which some scalars are masked.

    The outputs of one pass are independent given what is seen, so scalars can share a token without loss.

    Args:
        event: discrete.
        width, depth, heads, dropout: of the Transformer.
        patch: pixels per side of a token.
        inner: numbers that stand for one scalar, on its way in and out.
        classes: values of the condition, whose code is added to every token; 0 = none.
    """

    places: Tensor
    back: Tensor
    beside: Tensor

    def __init__(
        self, event: Event, width: int, depth: int, heads: int, dropout: float, patch: int, inner: int, classes: int = 0
    ) -> None:
        super().__init__()
        if event.levels is None:
            raise ValueError(f"expected discrete events, got {event}")
        device = torch.get_default_device()
        order = places(event, patch)
        per = order.shape[1]
        self.register_buffer("places", order.to(device))
        self.register_buffer("back", order.flatten().argsort().to(device))
        self.levels = event.levels
        self.enter = nn.Embedding(event.levels + 1, inner)  # the last one is the mask
        self.gather = nn.Linear(per * inner, width)
        nn.init.normal_(self.gather.weight, std=(per * inner * width) ** -0.5)  # as large as the positions
        nn.init.zeros_(self.gather.bias)
        grid = event.shape if patch == 1 else (event.shape[1] // patch, event.shape[2] // patch)
        self.positions = AxisEmbedding(grid, width)
        self.register_buffer("beside", beside(grid).to(device))
        near = self.beside.shape[1]  # attention takes long to find what is near, and what is near says most
        self.mix = nn.Linear(near * width, width) if near else None
        self.blocks = nn.ModuleList(OpenBlock(width, heads, dropout, 2 * depth) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Linear(width, per * inner)
        self.exit = nn.Linear(inner, event.levels)
        nn.init.normal_(self.exit.weight, std=0.1 * inner**-0.5)  # starts close to uniform
        nn.init.zeros_(self.exit.bias)
        self.codes = Codes(classes, width) if classes else None

    def forward(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, D) int64 levels, `levels` where masked, (B,) condition -> (B, D, levels) logits; none of the mask."""
        h = self.gather(self.enter(values[:, self.places]).flatten(2))
        if self.mix is not None:
            h = h + self.mix(F.pad(h, (0, 0, 0, 1))[:, self.beside].flatten(2))
        h = h + self.positions()
        if self.codes is not None and condition is not None:
            h = h + self.codes(condition)[:, None]
        for block in self.blocks:
            h = block(h)
        each = self.spread(self.norm(h)).unflatten(2, (self.places.shape[1], -1)).flatten(1, 2)
        out: Tensor = self.exit(F.gelu(each, approximate="tanh"))[:, self.back]
        return out


class MaskedTransformer(Network):
    """A Transformer that sees both ways, for masked diffusion on discrete events of any kind.

    Args:
        depth: blocks.
        heads: attention heads per block.
        dropout: on residual branches.
        patch: pixels per side of a token; 1 = a token per scalar.
        inner: numbers that stand for one scalar.
    """

    multiples = (8, 4, 2, 1)  # aligned rows multiply faster

    def __init__(
        self, depth: Count = 3, heads: Count = 4, dropout: ShareBelowOne = 0.0, patch: Count = 1, inner: Count = 32
    ) -> None:
        self.depth, self.heads, self.dropout, self.patch, self.inner = depth, heads, dropout, patch, inner

    def denoiser(self, event: Event, width: int, classes: int = 0) -> MaskedDenoiser:
        """A module (B, D) levels with masks, condition -> (B, D, levels) logits."""
        return MaskedDenoiser(event, width, self.depth, self.heads, self.dropout, self.patch, self.inner, classes)
