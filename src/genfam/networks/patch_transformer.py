"""All conditionals in two levels: a causal Transformer over patches, and a small network within each patch.

A Transformer over pixels spends the same on every pixel of a stroke. Here it takes one step per patch, and what
stands within the patch is left to a perceptron that is shared by all patches: for 4 × 4 patches a sixteenth of the
tokens, with the likelihood as exact as before. The order is patch by patch, and raster order within a patch.

References:
    Yu, L. et al. 2023. MEGABYTE: predicting million-byte sequences with multiscale transformers.
    https://arxiv.org/abs/2305.07185 (section 2: a global model of patches, a local model within them)
    Germain, M. et al. 2015. MADE: masked autoencoder for distribution estimation. https://arxiv.org/abs/1502.03509
    (equation 8: an autoregressive perceptron by masked weights; here strictly lower triangular in blocks)
    Salimans, T. et al. 2017. PixelCNN++. https://arxiv.org/abs/1701.05517 (equation 2: a mixture of logistics)
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Network
from genfam.networks.conditionals import Conditionals, softmax_draw, softmax_log_prob
from genfam.networks.embeddings import Codes
from genfam.networks.observation import LogisticMixture
from genfam.networks.scalar_transformer import start_with
from genfam.networks.transformer import AxisEmbedding, CausalTransformer
from genfam.ranges import Count, CountOrNone, ShareBelowOne
from genfam.types import Event

GREY_FREQUENCIES = 2  # sines and cosines that tell the levels of grey values apart


class PatchConditionals(Conditionals):
    """Transformer over the patches of an image, perceptron over the pixels of a patch.

    Args:
        event: an image (C, H, W) with levels; H and W multiples of the patch's.
        width, depth, heads, dropout: of the Transformer.
        patch: (height, width) of a patch; it holds the pixels of all channels, but for `planes`.
        inner: hidden size within a patch.
        mixtures: logistics that a pixel's conditional mixes (PixelCNN++); 0 = a softmax over the levels. With 256
            levels the softmax costs a third of all FLOPs.
        planes: a patch holds the pixels of one channel, and one channel comes after the other; the same weights serve
            all of them. For channels that have little to do with each other.
        classes: values of the condition; 0 = none.

    Raises:
        ValueError: the event is no discrete image, or the patches do not tile it.
    """

    order: Tensor
    above: Tensor

    def __init__(
        self,
        event: Event,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        patch: tuple[int, int],
        inner: int,
        mixtures: int = 0,
        planes: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if not event.is_image or event.levels is None:
            raise ValueError(f"PatchTransformer: expected an image with discrete levels, got {event}")
        channels, height, breadth = event.shape
        if height % patch[0] or breadth % patch[1]:
            raise ValueError(f"patch: expected one that tiles {height} × {breadth}, got {patch[0]} × {patch[1]}")
        self.levels = event.levels
        rows, columns = height // patch[0], breadth // patch[1]
        device = torch.get_default_device()
        axes = (channels, rows, columns) if planes else (rows, columns)
        self.tokens = math.prod(axes)
        self.pixels = event.dimensions // self.tokens
        raster = torch.arange(event.dimensions, device="cpu").view(channels, rows, patch[0], columns, patch[1])
        order = raster.permute((0, 1, 3, 2, 4) if planes else (1, 3, 2, 4, 0)).reshape(self.tokens, self.pixels)
        self.register_buffer("order", order.to(device))
        self.register_buffer("above", neighbouring_patches(rows, columns, channels if planes else 1).to(device))
        features = 1 if self.levels == 2 else 1 + 2 * GREY_FREQUENCIES
        self.width, self.inner = width, inner
        self.enter = nn.Linear(self.above.shape[1] * (self.pixels * features + 1), width)
        self.positions = AxisEmbedding(axes, width)
        self.body = CausalTransformer(width, depth, heads, dropout)
        # within a patch: what the Transformer says to each pixel, and the pixels before it
        self.context = nn.Linear(width, self.pixels * inner)
        self.earlier = nn.Parameter(torch.empty(self.pixels, inner, self.pixels, features))
        nn.init.normal_(self.earlier, std=(0.5 * self.pixels * features) ** -0.5)
        self.hidden = nn.Linear(inner, inner)
        self.logistics = LogisticMixture(event, mixtures) if mixtures else None
        self.outputs = 3 * mixtures or self.levels
        self.exit = nn.Linear(inner, self.outputs)
        self.bias = nn.Parameter(torch.zeros(self.pixels, self.outputs))
        nn.init.normal_(self.exit.weight, std=0.1 * inner**-0.5)
        self.codes = Codes(classes, width) if classes else None

    def features(self, values: Tensor) -> Tensor:
        """(…) int64 levels -> (…, features): the level in [−1, 1], and sines and cosines of it for grey values."""
        x = values.float() * (2.0 / (self.levels - 1)) - 1.0
        if self.levels == 2:
            return x[..., None]
        angles = x[..., None] * (math.pi * 2.0 ** torch.arange(GREY_FREQUENCIES, device=x.device))
        return torch.cat([x[..., None], angles.sin(), angles.cos()], dim=-1)

    def embed(self, features: Tensor, above: Tensor) -> Tensor:
        """Features of patches (B, tokens + 1, K·F), the last one zero, and which are given (T, k) -> (B, T, width)."""
        inside = (above < self.tokens).to(features)[..., None].expand(len(features), *above.shape, 1)
        given = torch.cat([features[:, above], inside], dim=-1)
        embedded: Tensor = self.enter(given.flatten(2))
        return embedded

    def within(self, context: Tensor, features: Tensor) -> Tensor:
        """What the Transformer says (B, T, width), features of the patch (B, T, K, F) -> outputs (B, T, K, L or 3M)."""
        mask = torch.ones(self.pixels, self.pixels, device=context.device).tril(-1)
        weight = (self.earlier * mask[:, None, :, None]).view(self.pixels * self.inner, -1)
        h = self.context(context) + F.linear(features.flatten(2), weight)
        return self._outputs(h.unflatten(2, (self.pixels, self.inner)), self.bias)

    def _outputs(self, h: Tensor, bias: Tensor) -> Tensor:
        h = F.gelu(h, approximate="tanh")
        h = h + F.gelu(self.hidden(h), approximate="tanh")
        out: Tensor = self.exit(h) + bias
        return out

    def log_prob(self, values: Tensor, temperature: float, condition: Tensor | None = None) -> Tensor:
        """(B, D) levels in raster order -> (B, D) nats, patch by patch."""
        patches = values[:, self.order]
        features = self.features(patches)
        flat = F.pad(features.flatten(2), (0, 0, 0, 1))
        h = self.body(start_with(self.codes, self.embed(flat, self.above) + self.positions(), condition))
        outputs = self.within(h, features)
        if self.logistics is None:
            return softmax_log_prob(outputs, patches, temperature).flatten(1)
        return self.logistics.log_prob_each(patches, outputs.movedim(-1, 1), temperature).flatten(1)

    def rank(self, dimensions: int) -> Tensor:
        """Patch by patch."""
        return self.order.flatten().argsort()

    @property
    def draw_bytes(self) -> int:
        """The cache, the levels, and their features."""
        return self.body.cache_bytes(self.tokens) + self.tokens * self.pixels * (8 + 4 * self.earlier.shape[-1])

    @property
    def pass_bytes(self) -> int:
        """The arrays within patches."""
        return 4 * self.tokens * self.pixels * max(self.inner, self.outputs)

    def draw(self, n: int, temperature: float, generator: Generator, condition: Tensor | None = None) -> Tensor:
        """-> (n, D): patch after patch, pixel after pixel."""
        device = self.order.device
        values = torch.zeros(n, self.tokens, self.pixels, dtype=torch.int64, device=device)
        count = self.earlier.shape[-1]
        features = torch.zeros(n, self.tokens + 1, self.pixels * count, device=device)
        positions, cache = self.positions(), self.body.cache(n, self.tokens)
        for token in range(self.tokens):
            h = self.embed(features, self.above[token : token + 1]) + positions[token]
            h = (start_with(self.codes, h, condition) if token == 0 else h)[:, 0]
            context = self.context(self.body.step(h, cache)).view(n, self.pixels, self.inner)
            known = features[:, token].view(n, self.pixels, count)  # filled in place
            for pixel in range(self.pixels):
                weight = self.earlier[pixel, :, :pixel].flatten(1)
                h = context[:, pixel] + F.linear(known[:, :pixel].flatten(1), weight)
                outputs = self._outputs(h, self.bias[pixel])
                if self.logistics is None:
                    values[:, token, pixel] = softmax_draw(outputs, temperature, generator)
                else:
                    values[:, token, pixel] = self.logistics.sample(outputs, generator, temperature)
                known[:, pixel] = self.features(values[:, token, pixel])
        out = torch.empty(n, self.tokens * self.pixels, dtype=torch.int64, device=device)
        out[:, self.order.flatten()] = values.flatten(1)
        return out


def neighbouring_patches(rows: int, columns: int, planes: int = 1) -> Tensor:
    """Which earlier patches a token is given: the one before, and of its plane the three above.

    Returns:
        (planes · rows · columns, 4) int64: before, above, above to the left, above to the right; planes · rows ·
        columns stands for "outside the image".
    """
    size, outside = rows * columns, planes * rows * columns
    token = torch.arange(outside, device="cpu")
    index = token % size
    row, column = index // columns, index % columns
    found = [torch.where(token >= 1, token - 1, outside)]  # also across planes: else no later patch would see it
    for shift in (0, -1, 1):
        inside = (row >= 1) & (column + shift >= 0) & (column + shift < columns)
        found.append(torch.where(inside, token - columns + shift, outside))
    return torch.stack(found, dim=1)


class PatchTransformer(Network):
    """A causal Transformer with a token per patch of an image, and a small network within each patch (MEGABYTE).

    Args:
        depth: blocks.
        heads: attention heads per block.
        dropout: on residual branches.
        patch: (height, width) in pixels.
        inner: width of the network within a patch.
        mixtures: logistics per conditional; 0 = a softmax over the levels.
    """

    multiples = (8, 4, 2, 1)  # aligned rows multiply faster

    def __init__(
        self,
        depth: Count = 3,
        heads: Count = 4,
        dropout: ShareBelowOne = 0.0,
        patch: tuple[int, int] = (4, 4),
        inner: Count = 64,
        mixtures: CountOrNone = 0,
    ) -> None:
        self.depth, self.heads, self.dropout = depth, heads, dropout
        self.patch, self.inner, self.mixtures = (patch[0], patch[1]), inner, mixtures

    def conditionals(self, event: Event, width: int, classes: int = 0) -> Conditionals:
        """See `Network.conditionals`."""
        return self.over_patches(event, width, classes)

    def over_patches(self, event: Event, width: int, classes: int, *, planes: bool = False) -> PatchConditionals:
        """With patches of all channels, or of one channel each (`planes`)."""
        sizes = self.patch, self.inner, self.mixtures
        return PatchConditionals(event, width, self.depth, self.heads, self.dropout, *sizes, planes, classes)
