"""Generative adversarial network: model only the sampling process, judged by a critic that learns beside it.

The default is the R3GAN objective: a relativistic pairing loss, which has no local minima where modes are dropped, with
gradient penalties on real (R1) and generated (R2) events, which make its training converge.

References:
    Goodfellow, I. et al. 2014. https://arxiv.org/abs/1406.2661 (equation 1, minimax, which starves the generator when
        the critic wins; section 3, the non-saturating loss)
    Huang, Y. et al. 2024. The GAN is dead; long live the GAN! (R3GAN). https://arxiv.org/abs/2501.05441
        (equation 2, relativistic pairing)
    Lim, J. & Ye, J. 2017. Geometric GAN (hinge). https://arxiv.org/abs/1705.02894
    Miyato, T. & Koyama, M. 2018. cGANs with projection discriminator. https://arxiv.org/abs/1802.05637 (equation 3)
    Lin, Z., Khetan, A., Fanti, G. & Oh, S. 2018. PacGAN. https://arxiv.org/abs/1712.04086 (section 2, packing)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.families.latents import Latent
from genfam.families.penalties import GradientPenalty
from genfam.networks.base import Network, fit_width
from genfam.networks.embeddings import CODE
from genfam.ranges import Count
from genfam.types import Batch, Data, Event, Likelihood

LOSSES = ("relativistic", "non_saturating", "minimax", "hinge", "wasserstein")


def adversarial_loss(loss: str, player: str, real: Tensor, fake: Tensor) -> Tensor:
    """The scalar that `player` minimises, from critic scores of real and of generated events, both (B,)."""
    if loss == "relativistic":
        return F.softplus(fake - real if player == "critic" else real - fake).mean()
    if loss == "non_saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean() if player == "critic" else F.softplus(-fake).mean()
    if loss == "minimax":
        return F.softplus(-real).mean() + F.softplus(fake).mean() if player == "critic" else -F.softplus(fake).mean()
    if loss == "hinge" and player == "critic":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean() if player == "critic" else -fake.mean()  # wasserstein; hinge's generator


class ProjectionCritic(nn.Module):
    """A score of events, plus the projection of their features on a code of the condition (Miyato & Koyama 2018).

    Args:
        encoder: (B, …) -> (B, 1 + CODE) scores and features with a condition; (B, 1) without.
        classes: values of the condition; 0 = none.
        packing: events, with a condition each, that are scored together.
    """

    def __init__(self, encoder: nn.Module, classes: int, packing: int = 1) -> None:
        super().__init__()
        self.encoder, self.packing = encoder, packing
        self.codes = nn.Embedding(classes, CODE) if classes else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, …) packs, (B · packing,) conditions -> (B,) scores."""
        out = self.encoder(x)
        if self.codes is None:
            score: Tensor = out[:, 0]
            return score
        codes = self.codes(condition).view(len(x), self.packing, CODE).sum(dim=1)
        projected: Tensor = out[:, 0] + (out[:, 1:] * codes).sum(dim=1)
        return projected


class GAN(Family):
    """A generator against a critic.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the generator; the critic is as wide and as deep.
        network: one that can be an encoder (the critic) and a decoder (the generator).
        optimisation: see `Optimisation`.
        batch_size: events per update.
        latent: what the generator is given.
        loss: `relativistic`, `non_saturating`, `minimax`, `hinge` or `wasserstein`.
        penalty: on the critic's gradient.
        packing: events that the critic judges together, all real or all generated: it then sees a lack of variety
            (PacGAN, section 2). A divisor of the batch size.
        classes: values of the condition that the networks know; 0 = none.
    """

    players: ClassVar[tuple[str, ...]] = ("critic", "generator")
    critic: nn.Module
    generator: nn.Module
    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    dequantises: ClassVar[bool] = True
    trajectory: ClassVar[str] = "latent interpolation"

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        latent: Latent = Latent(),
        loss: Literal["relativistic", "non_saturating", "minimax", "hinge", "wasserstein"] = "relativistic",
        penalty: GradientPenalty = GradientPenalty(),
        packing: Count = 1,
        classes: int = 0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        if loss not in LOSSES:
            raise ValueError(f"loss: expected one of {list(LOSSES)}, got {loss!r}")
        if packing < 1 or batch_size % packing:
            raise ValueError(f"packing: expected a divisor of the batch size {batch_size}, got {packing}")
        self.latent, self.loss_name, self.penalty, self.packing = latent, loss, penalty, packing
        self.flop_period = penalty.period
        self.sampling = {"temperature": 1.0}
        self.codec = Codec(event)

        def generator(width: int) -> nn.Module:
            return network.decoder(latent.size, event.shape, width, classes)

        width = fit_width(generator, parameters, network.multiples)
        pack = (packing * event.shape[0], *event.shape[1:])
        features = network.encoder(pack, 1 + (CODE if classes else 0), width)
        critic = ProjectionCritic(features, classes, packing)
        self.register_players(critic=critic, generator=generator(width))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events by the training split."""
        self.codec.fit(data)

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """-> (n, latent): what the generator is given."""
        return self.latent.draw(n, self.device, generator)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """The adversarial loss of `player`, for the critic with its penalty when one is due."""
        condition = batch.condition
        real = self.packed(self.codec.encode(batch.event))
        z = self.noise(len(batch))
        if player == "generator":
            fake = self.packed(self.generator(z, condition))
            # the pair's real score is a constant of the generator's gradient, but it sets its weight
            with torch.no_grad():
                real_score = self.critic(real, condition)
            return adversarial_loss(self.loss_name, player, real_score, self.critic(fake, condition))
        with torch.no_grad():
            fake = self.packed(self.generator(z, condition))
        real_score, fake_score = self.critic(torch.cat([real, fake]), twice(condition)).chunk(2)
        total = adversarial_loss(self.loss_name, player, real_score, fake_score)
        if self.penalty.is_due(self.updates):

            def score(x: Tensor) -> Tensor:
                scored: Tensor = self.critic(x, twice(condition) if len(x) > len(real) else condition)
                return scored

            total = total + self.penalty(score, real, fake, self.progress)
        return total

    def packed(self, x: Tensor) -> Tensor:
        """(B, C, …) encoded -> (B / packing, packing · C, …): what the critic judges at once."""
        return x if self.packing == 1 else x.reshape(-1, self.packing * x.shape[1], *x.shape[2:])

    @torch.no_grad()
    def diagnostics(self, batch: Batch) -> dict[str, float]:
        """`critic_accuracy`: P(critic(real) > critic(generated)) over all pairs, ties half, whatever the loss.

        0.5: the critic is fooled; 1: it tells every pair apart; below 0.5: it holds generated events for more real.
        """
        kept = len(batch) // self.packing * self.packing
        condition = None if batch.condition is None else batch.condition[:kept]
        real = self.critic(self.packed(self.codec.encode(batch.event[:kept])), condition)
        z = self.noise(kept)
        fake = self.critic(self.packed(self.generator(z, condition)), condition)
        margin = real[:, None] - fake[None, :]
        return {"critic_accuracy": float((margin > 0).double().mean() + 0.5 * (margin == 0).double().mean())}

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): through the averaged generator; the latent times the temperature."""
        z = self.sampling["temperature"] * self.noise(n, generator)
        return self.codec.decode(self.sampler(z, condition))

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """Each is a sample of the model, from one latent to another."""
        first, last = self.noise(n, generator), self.noise(n, generator)
        latents = [self.sampling["temperature"] * self.latent.between(first, last, t) for t in times]
        return torch.stack([self.codec.decode(self.sampler(z, condition)).float() for z in latents])

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A positive temperature."""
        if not sampling["temperature"] > 0.0:
            raise ValueError(f"temperature: expected a positive number, got {sampling['temperature']}")


def twice(condition: Tensor | None) -> Tensor | None:
    """(B,) -> (2 B,): of real events and of the generated ones beside them."""
    return None if condition is None else torch.cat([condition, condition])
