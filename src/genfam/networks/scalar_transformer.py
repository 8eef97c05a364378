"""All conditionals with one token per scalar: the whole chain rule in one causal Transformer.

References:
    Vaswani, A. et al. 2017. Attention is all you need. https://arxiv.org/abs/1706.03762
    Chen, M. et al. 2020. Generative pretraining from pixels (ImageGPT), section 2: pixels as tokens in raster order.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Network
from genfam.networks.conditionals import Conditional, Conditionals, Levels, Mixture
from genfam.networks.embeddings import Codes
from genfam.networks.transformer import AxisEmbedding, CausalTransformer
from genfam.ranges import Count, ShareBelowOne
from genfam.types import Event

COMPONENTS = 32  # Gaussians per dimension of a continuous event


def start_with(codes: Codes | None, h: Tensor, condition: Tensor | None) -> Tensor:
    """(B, T, width) vectors of a sequence, (B,) condition -> the same with the condition's code on the first."""
    if codes is None or condition is None:
        return h
    return torch.cat([h[:, :1] + codes(condition)[:, None], h[:, 1:]], dim=1)


def neighbours(event: Event) -> Tensor:
    """Which earlier dimensions a position is given directly, beside all those that it can attend to.

    Always the one before in raster order; in images also the pixels above and above to the left and right, of the
    same channel. `event.dimensions` stands for "outside the event".

    Returns:
        (D, k) int64; entry (i, ·) < i or = D.
    """
    index = torch.arange(event.dimensions, device="cpu")
    outside = event.dimensions
    columns = [torch.where(index >= 1, index - 1, outside)]
    if event.is_image:
        _, height, width = event.shape
        row, column = (index // width) % height, index % width
        for shift in (0, -1, 1):
            inside = (row >= 1) & (column + shift >= 0) & (column + shift < width)
            columns.append(torch.where(inside, index - width + shift, outside))
    return torch.stack(columns, dim=1)


class ScalarConditionals(Conditionals):
    """All conditionals of one event in one causal Transformer.

    Position i stands for dimension i: it takes in the values of earlier dimensions and gives the outputs from which
    dimension i is drawn. The first sees only "outside the event", which serves as the start token; the condition's code
    is added to it, so that all later positions attend to it.

    Args:
        event: what is modelled.
        width, depth, heads, dropout: of the Transformer.
        classes: values of the condition; 0 = none.
    """

    neighbours: Tensor

    def __init__(self, event: Event, width: int, depth: int, heads: int, dropout: float, classes: int = 0) -> None:
        super().__init__()
        self.dimensions = event.dimensions
        given = neighbours(event)
        slots = given.shape[1]
        self.register_buffer("neighbours", given.to(torch.get_default_device()))
        self.conditional: Conditional = (
            Mixture(COMPONENTS, event.dimensions, slots, width)
            if event.levels is None
            else Levels(event.levels, slots, width)
        )
        self.positions = AxisEmbedding(event.shape, width)
        self.body = CausalTransformer(width, depth, heads, dropout)
        self.exit = nn.Linear(width, self.conditional.outputs)
        nn.init.normal_(self.exit.weight, std=0.1 * width**-0.5)  # starts close to uniform, or to the anchors
        nn.init.zeros_(self.exit.bias)
        self.codes = Codes(classes, width) if classes else None

    def forward(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, D) values -> (B, D, outputs); row i depends on values before i, and on the condition."""
        given = F.pad(values, (0, 1))[:, self.neighbours]
        h = self.conditional.embed(given, self.neighbours < self.dimensions) + self.positions()
        h = start_with(self.codes, h, condition)
        out: Tensor = self.exit(self.body(h))
        return out

    def prepare(self, values: Tensor) -> None:
        """Spread a mixture's anchors over the data."""
        if isinstance(self.conditional, Mixture):
            self.conditional.anchor(values)

    def log_prob(self, values: Tensor, temperature: float, condition: Tensor | None = None) -> Tensor:
        """(B, D) -> (B, D) nats."""
        return self.conditional.log_prob(self(values, condition), values, temperature)

    @property
    def draw_bytes(self) -> int:
        """The cache of keys and values."""
        return self.body.cache_bytes(self.dimensions)

    @property
    def pass_bytes(self) -> int:
        """The feed-forward layers, and the outputs."""
        return 4 * self.dimensions * max(4 * self.exit.in_features, self.exit.out_features)

    def draw(self, n: int, temperature: float, generator: Generator, condition: Tensor | None = None) -> Tensor:
        """-> (n, D) values, decoded dimension by dimension with a key–value cache."""
        dtype = torch.int64 if isinstance(self.conditional, Levels) else torch.float32
        values = torch.zeros(
            n, self.dimensions + 1, dtype=dtype, device=self.neighbours.device
        )  # the last column is "outside the event"
        positions, inside = self.positions(), self.neighbours < self.dimensions
        cache = self.body.cache(n, self.dimensions)
        for i in range(self.dimensions):
            h = self.conditional.embed(values[:, self.neighbours[i]], inside[i]) + positions[i]
            if i == 0:
                h = start_with(self.codes, h[:, None], condition)[:, 0]
            outputs = self.exit(self.body.step(h, cache))
            values[:, i] = self.conditional.draw(outputs, i, temperature, generator)
        return values[:, :-1]


class ScalarTransformer(Network):
    """A causal Transformer with a token per scalar, for events of any kind (ImageGPT).

    Args:
        depth: blocks.
        heads: attention heads per block.
        dropout: on residual branches.
    """

    multiples = (8, 4, 2, 1)  # aligned rows multiply faster

    def __init__(self, depth: Count = 3, heads: Count = 4, dropout: ShareBelowOne = 0.0) -> None:
        self.depth, self.heads, self.dropout = depth, heads, dropout

    def conditionals(self, event: Event, width: int, classes: int = 0) -> Conditionals:
        """See `Network.conditionals`."""
        return ScalarConditionals(event, width, self.depth, self.heads, self.dropout, classes)
