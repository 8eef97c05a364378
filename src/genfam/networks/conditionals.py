"""What an autoregressive network says about the next value: a distribution of one scalar given its outputs.

References:
    Bishop, C. M. 1994. Mixture density networks. NCRG/94/004, equations 22–25.
    van den Oord, A. et al. 2016. Pixel recurrent neural networks. https://arxiv.org/abs/1601.06759 (section 3.3:
    a softmax over levels)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.networks.embeddings import FourierFeatures
from genfam.seeds import choices, normal, uniform


def softmax_log_prob(logits: Tensor, values: Tensor, temperature: float) -> Tensor:
    """(…, L) logits, (…) int64 levels -> (…) nats: the log of softmax(logits / temperature) at the level."""
    flat = F.cross_entropy((logits / temperature).flatten(0, -2), values.flatten(), reduction="none")
    return -flat.view(values.shape)


def softmax_draw(logits: Tensor, temperature: float, generator: Generator) -> Tensor:
    """(B, L) logits -> (B,) int64 levels drawn from softmax(logits / temperature).

    By inverting the cumulative distribution: one random number per draw, where `multinomial` takes one per level.
    """
    passed = torch.softmax(logits / temperature, dim=-1).cumsum(dim=-1)[:, :-1]
    return (uniform((len(logits), 1), logits.device, generator) >= passed).sum(dim=-1)


class Conditionals(nn.Module, ABC):
    """All conditionals of one event: p(x) = ∏ᵢ p(xᵢ | those before i in the module's order)."""

    @abstractmethod
    def log_prob(self, values: Tensor, temperature: float, condition: Tensor | None = None) -> Tensor:
        """(B, D) levels as int64 or standardised floats, in raster order, (B,) int64 -> (B, D) nats."""

    @abstractmethod
    def draw(self, n: int, temperature: float, generator: Generator, condition: Tensor | None = None) -> Tensor:
        """-> (n, D) values in raster order, given (n,) int64."""

    def rank(self, dimensions: int) -> Tensor:
        """-> (D,) int64: where each value of the raster order stands in the module's order."""
        return torch.arange(dimensions)

    @property
    @abstractmethod
    def draw_bytes(self) -> int:
        """Memory that drawing one event takes, in bytes."""

    @property
    @abstractmethod
    def pass_bytes(self) -> int:
        """Memory of the widest arrays when one event passes through, in bytes."""

    def prepare(self, values: Tensor) -> None:
        """Look once at the training split (N, D) before the first update."""


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
        return softmax_log_prob(outputs, values, temperature)

    def draw(self, outputs: Tensor, dimension: int, temperature: float, generator: Generator) -> Tensor:
        """A draw from softmax(outputs / temperature)."""
        return softmax_draw(outputs, temperature, generator)


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
        component = choices(log_weights.exp(), generator)
        noise = normal(component.shape, component.device, generator)
        return (means.gather(1, component) + deviations.gather(1, component) * noise)[:, 0]
