"""A GAN that carries one source into another: the generator is given an event, and pays for how far it moves it.

Without the cost any map onto the target would do, since a critic sees only where events end. With it the generator
looks for a short way: min_G max_D E[D(x_1)] − E[D(G(x_0))] + λ E‖G(x_0) − x_0‖², with the GAN family's own adversarial
loss in the place of the first two terms.

References:
    Lu, G. et al. 2020. Large-scale optimal transport via adversarial training with cycle-consistency.
        https://arxiv.org/abs/2003.06635 (section 3: the cost beside the adversarial loss)
    Zhu, J.-Y. et al. 2017. CycleGAN. https://arxiv.org/abs/1703.10593 (section 5.2, the identity loss for colours)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Generator, Tensor

from genfam.families.base import Optimisation
from genfam.families.gan import GAN
from genfam.families.latents import Latent, line
from genfam.families.penalties import GradientPenalty
from genfam.networks.base import Network
from genfam.ranges import Count, NotNegative
from genfam.types import Batch, Data, Event


class TransportGAN(GAN):
    """A GAN whose latent is an event of `+init=…`.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the generator.
        network: one that can be an encoder (the critic) and a decoder (the generator).
        optimisation: see `Optimisation`.
        batch_size: events per update.
        cost: λ, the weight of the mean squared displacement per dimension, of encoded events.
        loss, penalty: see `GAN`.
    """

    needs_init: ClassVar[bool] = True
    trajectory: ClassVar[str] = "straight lines to where events are carried"

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        cost: NotNegative = 0.1,
        loss: Literal["relativistic", "non_saturating", "minimax", "hinge", "wasserstein"] = "relativistic",
        penalty: GradientPenalty = GradientPenalty(),
    ) -> None:
        latent = Latent(normals=event.dimensions)
        super().__init__(event, parameters, network, optimisation, batch_size, latent, loss, penalty)
        self.cost, self.sampling = cost, {}

    def begin_at(self, init: Data) -> None:
        """In place of a latent."""
        self.init = init

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """-> (n, dimensions): encoded events of `init`."""
        return self.codec.encode(self.begun(n, generator), generator).flatten(1)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """GAN's, and for the generator the cost of a batch of its own."""
        total = super().loss(batch, player)
        if player == "generator" and self.cost:
            z = self.noise(len(batch))
            total = total + self.cost * (self.generator(z, None).flatten(1) - z).square().mean()
        return total

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): where events of `init` go."""
        return self.codec.decode(self.sampler(self.noise(n, generator), None))

    def carry(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n, *event): through the averaged generator."""
        return self.codec.decode(self.sampler(self.codec.encode(x, generator).flatten(1), None))

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """Events of `init`, straight to where they go."""
        x = self.begun(n, generator)
        return line(x, self.carry(x, generator), times)

    def check_sampling(self, sampling: dict[str, object]) -> None:
        """There are no knobs: a temperature of real events means nothing."""
