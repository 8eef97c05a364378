"""Autoregressive model: the chain rule, one dimension after the other, each conditional from a causal Transformer.

p(x) = ∏ᵢ p(xᵢ | x₁ … xᵢ₋₁) over the event's dimensions: exact likelihood, sampling in as many steps as there are
dimensions. Discrete events: a categorical over the levels. Continuous events: a mixture of Gaussians per dimension.
The bodies, with their papers, are in `networks/`: a causal Transformer over scalars (`scalar_transformer.py`) or over
patches of an image (`patch_transformer.py`), and the Gated PixelCNN (`pixelcnn.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.networks.conditionals import AutoregressiveBody
from genfam.networks.patch_transformer import PatchTransformer
from genfam.networks.pixelcnn import GatedPixelCNN
from genfam.networks.scalar_transformer import ScalarTransformer
from genfam.networks.sizing import fit_width
from genfam.types import Data, Event, Likelihood

DRAW_BYTES = 64 * 2**20  # of one chunk of events
GPU_DRAW_BYTES = 4 * 2**30  # there a step costs its launches, however many events it is of
BODIES = ("scalars", "patches", "pixelcnn")
CHUNK = 1000  # events, at most
BATCH_DIMENSIONS = 1024


class Autoregressive(Family):
    """Exact likelihood by the chain rule.

    Args:
        event: what is modelled.
        parameters: budget of the network; its width is chosen to meet it within 10 %.
        optimisation: of the one player.
        batch_size: events per update; None = as many as make `BATCH_DIMENSIONS` scalars, at least 16 (a language
            model's batch is measured in tokens too: each scalar is a training example of its own).
        body: `scalars` (a Transformer with one token per scalar: any event), `patches` (one token per patch of an
            image, and a small network within the patch) or `pixelcnn` (gated convolutions; single-channel images).
        depth: Transformer blocks, or gated layers.
        heads: attention heads per block.
        dropout: on the residual branches of `scalars` and `patches`; for small data sets.
        components: Gaussians per dimension; for continuous events.
        patch: height and width of a patch, for `patches`.
        inner: width of the network within a patch.
        mixtures: logistics per conditional of `patches`; 0 = a softmax over the levels.
        planes: for `patches`: of one channel each, one channel after the other.
        temperature: below 1 sharpens each conditional, above 1 flattens it; `log_prob` is that of the sharpened
            model, so that it stays the exact density of what is sampled. Training is always at 1.

    Raises:
        ValueError: temperature not positive, a body that is unknown or does not fit the event, or no width meets the
            budget.
    """

    likelihood = Likelihood.EXACT

    def __init__(
        self,
        event: Event,
        parameters: int,
        optimisation: Optimisation,
        batch_size: int | None = None,
        body: str = "scalars",
        depth: int = 3,
        heads: int = 4,
        dropout: float = 0.0,
        components: int = 32,
        patch: tuple[int, int] = (4, 4),
        inner: int = 64,
        mixtures: int = 0,
        planes: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(event, optimisation, batch_size or max(16, BATCH_DIMENSIONS // event.dimensions))
        if not temperature > 0:
            raise ValueError(f"temperature: expected a positive number, got {temperature}")
        if body not in BODIES:
            raise ValueError(f"body: expected one of {list(BODIES)}, got {body!r}")
        if planes and body != "patches":
            raise ValueError(f"planes: expected body=patches, got {body}")
        self.temperature = temperature

        def network(width: int) -> AutoregressiveBody:
            if body == "patches":
                sizes = (patch[0], patch[1]), inner, mixtures, planes
                return PatchTransformer(event, width, depth, heads, dropout, *sizes)
            if body == "pixelcnn":
                return GatedPixelCNN(event, width, depth)
            return ScalarTransformer(event, width, depth, heads, dropout, components)

        self.codec = Codec(event)
        self.register_players(model=network(_aligned_width(network, parameters, depth)))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events, and spread the mixture's anchors over them."""
        self.codec.fit(data)
        if not self.event.is_discrete:
            network = self.sampling_network
            assert isinstance(network, AutoregressiveBody)
            network.prepare(self._values(data.train))

    def _values(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B, D) int64 levels or standardised scalars."""
        return x.flatten(1).long() if self.event.is_discrete else self.codec.encode(x).flatten(1)

    def loss(self, x: Tensor, player: str) -> Tensor:
        """Negative log-likelihood in nats per dimension (cross-entropy, or Bishop 1994, equation 29)."""
        values = self._values(x)
        network: AutoregressiveBody = getattr(self, player)
        return -network.log_prob(values, 1.0).mean()

    @property
    def evaluations_per_sample(self) -> float:
        """One call per dimension."""
        return float(self.event.dimensions)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats per counting measure, or per volume in the source's own units; exact."""
        values = self._values(x.to(self.device))
        with _evaluating(self.sampler) as network:
            parts = [
                network.log_prob(part, self.temperature).double().sum(dim=1)
                for part in torch.split(values, max(1, DRAW_BYTES // network.pass_bytes))
            ]
        total = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        return total if self.event.is_discrete else total + self.codec.log_volume

    @torch.no_grad()
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event), in chunks whose cache stays below `DRAW_BYTES` (on a GPU `GPU_DRAW_BYTES`)."""
        with _evaluating(self.sampler) as network:
            room = DRAW_BYTES if self.device.type == "cpu" else GPU_DRAW_BYTES
            size = max(1, min(CHUNK, room // network.draw_bytes))
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
def _evaluating(network: AutoregressiveBody) -> Iterator[AutoregressiveBody]:
    """Without dropout, and afterwards as before."""
    training = network.training
    network.eval()
    try:
        yield network
    finally:
        network.train(training)
