"""Autoregressive model: the chain rule, one dimension after the other.

p(x) = ∏ᵢ p(xᵢ | x₁ … xᵢ₋₁) over the event's dimensions: exact likelihood, sampling in as many steps as there are
dimensions. Discrete events: a categorical or a mixture of logistics over the levels. Continuous events: a mixture of
Gaussians per dimension. The networks, with their papers, are `networks/scalar_transformer.py` (a token per scalar) and
`networks/patch_transformer.py` (a token per patch of an image).

References:
    Bengio, Y. & Bengio, S. 2000. Modeling high-dimensional discrete data with multi-layer neural networks. NIPS 12.
    Bishop, C. M. 1994. Mixture density networks. NCRG/94/004 (equation 29: the loss on continuous events)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.networks.base import Network, fit_width
from genfam.networks.conditionals import Conditionals
from genfam.ranges import Count
from genfam.types import Batch, Data, Event, Likelihood

DRAW_BYTES = 64 * 2**20  # of one pass of events
GPU_DRAW_BYTES = 4 * 2**30  # there a step costs its launches, however many events it is of
MOST_AT_ONCE = 1000  # events


class Autoregressive(Family):
    """Exact likelihood by the chain rule.

    Args:
        event: what is modelled.
        parameters: budget of the network; its width is chosen to meet it within 10 %.
        network: one that can be conditionals.
        optimisation: of the one player.
        batch_size: events per update. Each scalar of an event is a training example of its own, so that events of
            many scalars need few.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.EXACT
    trajectory: ClassVar[str] = "scalars drawn one after the other"

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        classes: int = 0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        self.sampling = {"temperature": 1.0}
        self.codec = Codec(event)

        def conditionals(width: int) -> Conditionals:
            return network.conditionals(event, width, classes)

        self.register_players(model=conditionals(fit_width(conditionals, parameters, network.multiples)))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events, and spread the mixture's anchors over them."""
        self.codec.fit(data)
        if not self.event.is_discrete:
            network = self.sampling_network
            assert isinstance(network, Conditionals)
            network.prepare(self._values(data.train))

    def _values(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B, D) int64 levels or standardised scalars."""
        return x.flatten(1).long() if self.event.is_discrete else self.codec.encode(x).flatten(1)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """Negative log-likelihood in nats per dimension (cross-entropy, or Bishop 1994, equation 29)."""
        network: Conditionals = getattr(self, player)
        return -network.log_prob(self._values(batch.event), 1.0, batch.condition).mean()

    @property
    def evaluations_per_sample(self) -> float:
        """One call per dimension."""
        return float(self.event.dimensions)

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event) -> (B,) nats per counting measure, or per volume in the source's own units; exact.

        At a temperature it is that of the sharpened model, so that it stays the density of what is drawn.
        """
        each = self.sampler.log_prob(self._values(x), self.sampling["temperature"], condition)
        total: Tensor = each.double().sum(dim=1)
        return total if self.event.is_discrete else total + self.codec.log_volume

    @property
    def scored_at_once(self) -> int:
        """As many as stay below `DRAW_BYTES`."""
        return max(1, DRAW_BYTES // int(self.sampler.pass_bytes))

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event), dimension by dimension."""
        values = self.sampler.draw(n, self.sampling["temperature"], generator, condition).view(n, *self.event.shape)
        return values.to(torch.uint8) if self.event.is_discrete else self.codec.decode(values)

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """The first share t of the scalars, in the network's order."""
        x = self.draw(n, condition, generator).float()
        rank = self.sampler.rank(self.event.dimensions).view(self.event.shape).to(self.device)
        return torch.stack([x.where(rank < round(t * self.event.dimensions), torch.nan) for t in times])

    @property
    def drawn_at_once(self) -> int:
        """As many as keep the cache below `DRAW_BYTES` (on a GPU `GPU_DRAW_BYTES`)."""
        room = DRAW_BYTES if self.device.type == "cpu" else GPU_DRAW_BYTES
        return max(1, min(MOST_AT_ONCE, room // int(self.sampler.draw_bytes)))

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A positive temperature: below 1 it sharpens each conditional, above 1 it flattens it."""
        if not sampling["temperature"] > 0.0:
            raise ValueError(f"temperature: expected a positive number, got {sampling['temperature']}")
