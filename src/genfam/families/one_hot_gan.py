"""A GAN of tokens by relaxation: the critic sees one-hot tokens, the generator gives it probabilities.

An argument of maxima has no gradient. So the generator's probabilities go to the critic as they are, as if they were
tokens half of one kind and half of another; real events are corners of the simplex that they lie in. A drawn token is
the most probable one. That is all that has to change: loss, penalties and players are `gan.py`'s.

References:
    Gulrajani, I. et al. 2017. Improved training of Wasserstein GANs. https://arxiv.org/abs/1704.00028 (section 5, a
        language model of characters: the softmax is passed to the critic)
    Kusner, M. J. & Hernández-Lobato, J. M. 2016. GANs for sequences of discrete elements with the Gumbel-softmax
        distribution. https://arxiv.org/abs/1611.04051 (the relaxation with noise, which is not added here)
"""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor
from torch.nn import functional as F

from genfam.families.base import Optimisation
from genfam.families.codec import Codec
from genfam.families.gan import GAN
from genfam.networks.tokens import Simplex
from genfam.ranges import Count
from genfam.types import Event


class OneHot(Codec):
    """Levels <-> corners of a simplex."""

    def encode(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """(B, *event) -> (B, levels, *event) float32, one-hot."""
        return F.one_hot(x.long(), self.event.levels or 0).movedim(-1, 1).float()

    def decode(self, z: Tensor) -> Tensor:
        """(B, levels, *event) -> (B, *event) uint8: the largest."""
        return z.argmax(dim=1).byte()


class OneHotGAN(GAN):
    """A GAN that relaxes tokens.

    Args:
        event: discrete.
        parameters: budget of the generator.
        network: whose decoder gives probabilities.
        optimisation: see `Optimisation`.
        batch_size: events per update.
        classes: values of the condition that the networks know; 0 = none.
        more: as for `GAN`.

    Raises:
        ValueError: continuous events.
    """

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Simplex,
        optimisation: Optimisation,
        batch_size: Count,
        classes: int = 0,
        **more: Any,
    ) -> None:
        if event.levels is None:
            raise ValueError(f"OneHotGAN: expected discrete events, got {event}")
        corners = Event((event.levels, *event.shape))  # to the networks a real vector
        super().__init__(corners, parameters, network, optimisation, batch_size, classes=classes, **more)
        self.event, self.codec = event, OneHot(event)
