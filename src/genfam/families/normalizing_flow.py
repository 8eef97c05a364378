"""Normalising flow: a bijection from events to normal noise, whose change of volume is known.

p(x) = N(f(x); 0, I) |det ∂f/∂x|: exact likelihood, and a sample is one pass backwards. The architecture is restricted
instead: every layer must be invertible, with a Jacobian that is triangular. The networks, with their papers, are
`networks/spline_couplings.py` (points, tables, small images) and `networks/multi_scale.py` (images).

References:
    Rezende, D. J. & Mohamed, S. 2015. Variational inference with normalizing flows. https://arxiv.org/abs/1505.05770
        (equations 5 to 7)
    Dinh, L., Sohl-Dickstein, J. & Bengio, S. 2017. Density estimation using Real NVP. https://arxiv.org/abs/1605.08803
        (equations 2 and 3, training and sampling)
    Papamakarios, G. et al. 2021. Normalizing flows for probabilistic modeling and inference.
        https://arxiv.org/abs/1912.02762
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.families.latents import turn
from genfam.networks.base import fit_width
from genfam.networks.bijections import Bijection, InvertibleNetwork
from genfam.networks.observation import gaussian_log_prob
from genfam.ranges import Count
from genfam.seeds import normal
from genfam.types import Batch, Data, Event, Likelihood

PASS = 2**18  # scalars that are drawn or scored at once: each has the numbers of a spline in every layer


class NormalizingFlow(Family):
    """Maximum likelihood by the change of variables.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py), and their likelihood is bounded.
        parameters: budget of the network.
        network: one that can be a bijection.
        optimisation: of the one player.
        batch_size: events per update.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.EXACT
    dequantises: ClassVar[bool] = True
    trajectory: ClassVar[str] = "latent interpolation"

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: InvertibleNetwork,
        optimisation: Optimisation,
        batch_size: Count,
        classes: int = 0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        self.sampling = {"temperature": 1.0}
        self.codec = Codec(event)

        def bijection(width: int) -> Bijection:
            return network.bijection(event.shape, width, classes)

        self.register_players(model=bijection(fit_width(bijection, parameters, network.multiples)))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events by the training split."""
        self.codec.fit(data)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """Negative log-likelihood of the encoded event in nats per dimension (Real NVP, equation 3)."""
        bijection: Bijection = getattr(self, player)
        found = log_density(bijection, self.codec.encode(batch.event), batch.condition)
        return -found.mean() / self.event.dimensions

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): noise of the temperature as its standard deviation, carried back."""
        z = self.sampling["temperature"] * normal((n, *self.event.shape), self.device, generator)
        return self.codec.decode(self.sampler.inverse(z, condition))

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event) -> (B,) nats; exact, or for discrete events a bound by one draw of the noise, which is seeded.

        At a temperature it is that of what is drawn there.
        """
        z = self.codec.encode(x, torch.Generator().manual_seed(0))
        return log_density(self.sampler, z, condition, self.sampling["temperature"]) + self.codec.log_volume

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """Each is a sample of the model, from one latent to another."""
        heat = self.sampling["temperature"]
        first, last = (heat * normal((n, *self.event.shape), self.device, generator) for _ in range(2))
        drawn = [self.codec.decode(self.sampler.inverse(turn(first, last, t), condition)) for t in times]
        return torch.stack([x.float() for x in drawn])

    @property
    def drawn_at_once(self) -> int:
        """As many as have `PASS` scalars."""
        return max(1, PASS // self.event.dimensions)

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A positive temperature."""
        if not sampling["temperature"] > 0.0:
            raise ValueError(f"temperature: expected a positive number, got {sampling['temperature']}")


def log_density(bijection: Bijection, x: Tensor, condition: Tensor | None, temperature: float = 1.0) -> Tensor:
    """(B, *shape) -> (B,) nats per volume of the encoded event (Real NVP, equation 2)."""
    z, log_volume = bijection(x, condition)
    noise = gaussian_log_prob(z, torch.zeros_like(z), torch.full_like(z, math.log(temperature)))
    log_prob: Tensor = noise.flatten(1).sum(dim=1) + log_volume
    return log_prob
