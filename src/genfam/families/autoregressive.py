"""Autoregressive model: the chain rule, one dimension after the other, each conditional from a causal Transformer.

p(x) = ∏ᵢ p(xᵢ | x₁ … xᵢ₋₁) over the event's dimensions in raster order: exact likelihood, sampling in as many
network calls as there are dimensions. Discrete events: a categorical over the levels. Continuous events: a mixture
of Gaussians per dimension.

References:
    Vaswani, A. et al. 2017. Attention is all you need. https://arxiv.org/abs/1706.03762
    Chen, M. et al. 2020. Generative pretraining from pixels (ImageGPT), section 2: pixels as tokens in raster order.
    Bishop, C. M. 1994. Mixture density networks. NCRG/94/004, equations 22–25.
    van den Oord, A. et al. 2016. Pixel recurrent neural networks. https://arxiv.org/abs/1601.06759 (section 3.3:
    a softmax over levels)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.networks.embeddings import FourierFeatures
from genfam.networks.sizing import fit_width
from genfam.networks.transformer import AxisEmbedding, CausalTransformer
from genfam.types import Data, Event, Likelihood

CACHE_BYTES = 64 * 2**20  # of one chunk of samples
CHUNK = 1000  # events
BATCH_DIMENSIONS = 1024


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


class Conditional(nn.Module, ABC):
    """How values go into the network, and what its outputs say about the next value.

    Attributes:
        outputs: numbers that the network gives per dimension.
    """

    outputs: int

    @abstractmethod
    def embed(self, given: Tensor, inside: Tensor) -> Tensor:
        """Neighbours' values (…, k) and whether they exist (…, k) -> (…, width)."""

    @abstractmethod
    def log_prob(self, outputs: Tensor, values: Tensor, temperature: float) -> Tensor:
        """(B, D, outputs) of the network, (B, D) values -> (B, D) nats."""

    @abstractmethod
    def draw(self, outputs: Tensor, dimension: int, temperature: float, generator: Generator) -> Tensor:
        """(B, outputs) of the network for one dimension -> (B,) values."""


class Levels(Conditional):
    """Categorical over the levels of a discrete event; values are int64 levels.

    Args:
        levels: number of values.
        slots: neighbours per position.
        width: size of the embedding.
    """

    offsets: Tensor

    def __init__(self, levels: int, slots: int, width: int) -> None:
        super().__init__()
        self.outputs = levels
        self.levels = levels
        self.table = nn.Embedding(slots * (levels + 1), width)
        nn.init.normal_(self.table.weight, std=(slots * width) ** -0.5)
        self.register_buffer("offsets", torch.arange(slots) * (levels + 1))

    def embed(self, given: Tensor, inside: Tensor) -> Tensor:
        """The sum of one learned vector per neighbour; a vector of its own stands for "outside the event"."""
        vectors: Tensor = self.table(torch.where(inside, given, self.levels) + self.offsets)
        return vectors.sum(dim=-2)

    def log_prob(self, outputs: Tensor, values: Tensor, temperature: float) -> Tensor:
        """The log of softmax(outputs / temperature) at the value."""
        flat = F.cross_entropy((outputs / temperature).flatten(0, 1), values.flatten(), reduction="none")
        return -flat.view(values.shape)

    def draw(self, outputs: Tensor, dimension: int, temperature: float, generator: Generator) -> Tensor:
        """A draw from softmax(outputs / temperature)."""
        return torch.multinomial(torch.softmax(outputs / temperature, dim=-1), 1, generator=generator)[:, 0]


class Mixture(Conditional):
    """Mixture of Gaussians for a continuous, standardised scalar (Bishop 1994, equations 22–25).

    The component means are learned offsets from fixed anchors, spread over the training data by `anchor`; standard
    deviations are `SMALLEST` + exp(·): the likelihood of data that repeat exactly would otherwise be unbounded. At
    temperature T the weights are ∝ wᵢ^(1/T) and the variances T σᵢ².

    Args:
        components: Gaussians per dimension.
        dimensions: D.
        slots: neighbours per position.
        width: size of the embedding.
    """

    SMALLEST = 1e-3
    anchors: Tensor

    def __init__(self, components: int, dimensions: int, slots: int, width: int) -> None:
        super().__init__()
        self.outputs = 3 * components
        self.features = FourierFeatures(1, 32, scale=2.0)
        self.enter = nn.Linear(slots * (self.features.outputs + 1), width)
        self.register_buffer("anchors", torch.linspace(-2.0, 2.0, components).repeat(dimensions, 1))

    def anchor(self, values: Tensor) -> None:
        """Put the anchors at quantiles of (N, D) standardised data: as many per unit as there are data."""
        share = (torch.arange(self.anchors.shape[1]) + 0.5) / self.anchors.shape[1]
        self.anchors.copy_(torch.quantile(values, share, dim=0).T)

    def embed(self, given: Tensor, inside: Tensor) -> Tensor:
        """A linear map of the Fourier features of all neighbours, zero where they are outside the event."""
        features = torch.cat([self.features(given[..., None]), torch.ones_like(given)[..., None]], dim=-1)
        embedded: Tensor = self.enter((features * inside[..., None]).flatten(-2))
        return embedded

    def _gaussians(self, outputs: Tensor, anchors: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """(…, 3K) -> log-weights, means and standard deviations, each (…, K)."""
        logits, shifts, raw = outputs.chunk(3, dim=-1)
        deviations = self.SMALLEST + torch.exp(raw.clamp(max=5.0) - 2.0)
        return torch.log_softmax(logits / temperature, -1), anchors + shifts, deviations * math.sqrt(temperature)

    def log_prob(self, outputs: Tensor, values: Tensor, temperature: float) -> Tensor:
        """The log of Σᵢ wᵢ N(value; μᵢ, σᵢ²)."""
        log_weights, means, deviations = self._gaussians(outputs, self.anchors, temperature)
        squares = ((values[..., None] - means) / deviations).square()
        terms = log_weights - deviations.log() - 0.5 * squares
        largest = terms.detach().amax(dim=-1, keepdim=True)
        # the exponential of what underflows is ten times as slow; e⁻⁶⁰ is far below float32's resolution of 1
        total = torch.logsumexp((terms - largest).clamp(min=-60.0), dim=-1) + largest[..., 0]
        return total - 0.5 * math.log(2.0 * math.pi)

    def draw(self, outputs: Tensor, dimension: int, temperature: float, generator: Generator) -> Tensor:
        """A component by its weight, then a draw from it."""
        log_weights, means, deviations = self._gaussians(outputs, self.anchors[dimension], temperature)
        component = torch.multinomial(log_weights.exp(), 1, generator=generator)
        noise = torch.randn(component.shape, generator=generator)
        return (means.gather(1, component) + deviations.gather(1, component) * noise)[:, 0]


class AutoregressiveNetwork(nn.Module):
    """All conditionals of one event in one causal Transformer.

    Position i stands for dimension i: it takes in the values of earlier dimensions and gives the outputs from which
    dimension i is drawn; the first sees only "outside the event", which serves as the start token.

    Args:
        event: what is modelled.
        width, depth, heads, dropout: of the Transformer.
        components: Gaussians per dimension; for continuous events.
    """

    neighbours: Tensor

    def __init__(self, event: Event, width: int, depth: int, heads: int, dropout: float, components: int) -> None:
        super().__init__()
        self.dimensions = event.dimensions
        given = neighbours(event)
        slots = given.shape[1]
        self.register_buffer("neighbours", given.to(torch.get_default_device()))
        self.conditional: Conditional = (
            Mixture(components, event.dimensions, slots, width)
            if event.levels is None
            else Levels(event.levels, slots, width)
        )
        self.positions = AxisEmbedding(event.shape, width)
        self.body = CausalTransformer(width, depth, heads, dropout)
        self.exit = nn.Linear(width, self.conditional.outputs)
        nn.init.normal_(self.exit.weight, std=0.1 * width**-0.5)  # starts close to uniform, or to the anchors
        nn.init.zeros_(self.exit.bias)

    def forward(self, values: Tensor) -> Tensor:
        """(B, D) values -> (B, D, outputs); row i depends on values before i only."""
        given = F.pad(values, (0, 1))[:, self.neighbours]
        h = self.conditional.embed(given, self.neighbours < self.dimensions) + self.positions()
        out: Tensor = self.exit(self.body(h))
        return out

    def draw(self, n: int, temperature: float, generator: Generator) -> Tensor:
        """-> (n, D) values, decoded dimension by dimension with a key–value cache."""
        dtype = torch.int64 if isinstance(self.conditional, Levels) else torch.float32
        values = torch.zeros(n, self.dimensions + 1, dtype=dtype)  # the last column is "outside the event"
        positions, inside = self.positions(), self.neighbours < self.dimensions
        cache = self.body.cache(n, self.dimensions)
        for i in range(self.dimensions):
            h = self.conditional.embed(values[:, self.neighbours[i]], inside[i]) + positions[i]
            outputs = self.exit(self.body.step(h, cache))
            values[:, i] = self.conditional.draw(outputs, i, temperature, generator)
        return values[:, :-1]


class Autoregressive(Family):
    """Exact likelihood by the chain rule.

    Args:
        event: what is modelled.
        parameters: budget of the network; its width is chosen to meet it within 10 %.
        optimisation: of the one player.
        batch_size: events per update; None = as many as make `BATCH_DIMENSIONS` scalars, at least 16 (a language
            model's batch is measured in tokens too: each scalar is a training example of its own).
        depth: Transformer blocks.
        heads: attention heads per block.
        dropout: on residual branches; for small data sets.
        components: Gaussians per dimension; for continuous events.
        temperature: below 1 sharpens each conditional, above 1 flattens it; `log_prob` is that of the sharpened
            model, so that it stays the exact density of what is sampled. Training is always at 1.

    Raises:
        ValueError: temperature not positive, or no width meets the budget.
    """

    likelihood = Likelihood.EXACT

    def __init__(
        self,
        event: Event,
        parameters: int,
        optimisation: Optimisation,
        batch_size: int | None = None,
        depth: int = 3,
        heads: int = 4,
        dropout: float = 0.0,
        components: int = 32,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(event, optimisation, batch_size or max(16, BATCH_DIMENSIONS // event.dimensions))
        if not temperature > 0:
            raise ValueError(f"temperature: expected a positive number, got {temperature}")
        self.temperature = temperature

        def network(width: int) -> AutoregressiveNetwork:
            return AutoregressiveNetwork(event, width, depth, heads, dropout, components)

        self.codec = Codec(event)
        self.register_players(model=network(_aligned_width(network, parameters, depth)))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events, and spread the mixture's anchors over them."""
        self.codec.fit(data)
        network = self.sampling_network
        assert isinstance(network, AutoregressiveNetwork)
        if isinstance(network.conditional, Mixture):
            network.conditional.anchor(self._values(data.train))

    def _values(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B, D) int64 levels or standardised scalars."""
        return x.flatten(1).long() if self.event.is_discrete else self.codec.encode(x).flatten(1)

    def loss(self, x: Tensor, player: str) -> Tensor:
        """Negative log-likelihood in nats per dimension (cross-entropy, or Bishop 1994, equation 29)."""
        values = self._values(x)
        network: AutoregressiveNetwork = getattr(self, player)
        return -network.conditional.log_prob(network(values), values, 1.0).mean()

    @property
    def evaluations_per_sample(self) -> float:
        """One call per dimension."""
        return float(self.event.dimensions)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats per counting measure, or per volume in the source's own units; exact."""
        values = self._values(x)
        with _evaluating(self.sampler) as network:
            parts = [
                network.conditional.log_prob(network(part), part, self.temperature).double().sum(dim=1)
                for part in torch.split(values, CHUNK)
            ]
        total = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        return total if self.event.is_discrete else total + self.codec.log_volume

    @torch.no_grad()
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event), in chunks whose cache stays below `CACHE_BYTES`."""
        with _evaluating(self.sampler) as network:
            size = max(1, min(CHUNK, CACHE_BYTES // network.body.cache_bytes(self.event.dimensions)))
            parts = [network.draw(min(size, n - start), self.temperature, generator) for start in range(0, n, size)]
        shape = self.event.shape
        values = torch.cat(parts).view(-1, *shape) if parts else torch.zeros(0, *shape)
        return values.to(torch.uint8) if self.event.is_discrete else self.codec.decode(values)


def _aligned_width(network: Callable[[int], nn.Module], parameters: int, depth: int) -> int:
    """The width that meets the budget, a multiple of 8 if one does: aligned rows multiply faster."""
    largest = math.isqrt(parameters // (8 * depth)) + 16  # the feed-forward layers alone have 8 depth width²
    for multiple in (8, 4, 2):
        try:
            return fit_width(network, parameters, multiple=multiple, largest=largest)
        except ValueError:
            continue
    return fit_width(network, parameters, largest=largest)


@contextmanager
def _evaluating(network: AutoregressiveNetwork) -> Iterator[AutoregressiveNetwork]:
    """Without dropout, and afterwards as before."""
    training = network.training
    network.eval()
    try:
        yield network
    finally:
        network.train(training)
