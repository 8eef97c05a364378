"""Generative adversarial network: model only the sampling process, judged by a critic that learns beside it.

The default is the R3GAN objective: a relativistic pairing loss, which has no local minima where modes are
dropped, with gradient penalties on real (R1) and generated (R2) events, which make its training converge.

References:
    Goodfellow, I. et al. 2014. https://arxiv.org/abs/1406.2661 (equation 1, minimax, which starves the generator when
        the critic wins; section 3, the non-saturating loss)
    Huang, Y. et al. 2024. The GAN is dead; long live the GAN! (R3GAN). https://arxiv.org/abs/2501.05441
        (equation 2, relativistic pairing; equations 3 and 4, R1 and R2)
    Mescheder, L., Geiger, A. & Nowozin, S. 2018. https://arxiv.org/abs/1801.04406 (equation 9, R1)
    Gulrajani, I. et al. 2017. WGAN-GP. https://arxiv.org/abs/1704.00028 (equation 3)
    Lim, J. & Ye, J. 2017. Geometric GAN (hinge). https://arxiv.org/abs/1705.02894
    Miyato, T. et al. 2018. Spectral normalisation. https://arxiv.org/abs/1802.05957
    Lin, Z., Khetan, A., Fanti, G. & Oh, S. 2018. PacGAN. https://arxiv.org/abs/1712.04086 (section 2, packing)
    Tancik, M. et al. 2020. Fourier features. https://arxiv.org/abs/2006.10739 (equation 5)
    Karras, T. et al. 2020. StyleGAN2 (lazy penalties, section 3.1). https://arxiv.org/abs/1912.04958
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalised

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.networks.convolutional import PLANE_FEATURES, ImageDecoder, ImageEncoder, PlanesDecoder, PlanesEncoder
from genfam.networks.embeddings import FourierFeatures
from genfam.networks.mlp import ResidualMLP
from genfam.networks.sizing import fit_width
from genfam.seeds import balanced_integers, integers, normal, uniform
from genfam.types import Data, Event, Likelihood

LOSSES = ("relativistic", "non_saturating", "minimax", "hinge", "wasserstein")
MOST_BALANCED_BITS = 16  # a permutation of all corners is drawn for every batch
CHUNK = 2**20  # scalars that are sampled at once: 50,000 images of CIFAR-10 in one pass would hold 130 GB
PENALTIES = ("none", "r1", "r1_r2", "wgan_gp")


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


def geometric(start: float, end: float, share: float) -> float:
    """From start to end by equal ratios, constant from share 1 on."""
    share = min(1.0, share)
    return float(start ** (1 - share) * end**share)


def squared_gradient_norm(critic: nn.Module, x: Tensor) -> Tensor:
    """(B,): ‖∇_x critic(x)‖², differentiable with respect to the critic."""
    x = x.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return grad.flatten(1).square().sum(dim=1)


class Flattened(nn.Module):
    """A flat network between shaped events."""

    def __init__(self, body: nn.Module, shape: tuple[int, ...] | None) -> None:
        super().__init__()
        self.body, self.shape = body, shape

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) -> (B, *shape), or (B, …) flat where shape is None."""
        out: Tensor = self.body(x.flatten(1))
        return out if self.shape is None else out.view(-1, *self.shape)


class GAN(Family):
    """A generator against a critic.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the generator; the critic is as wide and as deep.
        optimisation: see `Optimisation`.
        batch_size: events per update.
        latent: size of the generator's Gaussian input.
        latent_bits: fair coin flips of ±1 beside it. A continuous generator of a connected latent must cross the gaps
            between modes; from one corner of the cube to another it can jump.
        balanced_bits: in training, every batch has each of the 2^latent_bits corners equally often, up to one, so that
            the flips add less noise to the masses that the critic sees: none where that number divides the batch, and
            (K - n) / (K - 1) of its variance where a batch of n has fewer than K corners. With packing, the events of a
            pack are then not independent draws. Samples have independent flips.
        depth: residual layers (mlp) or blocks per resolution (conv).
        body: `mlp`, or `conv` for images.
        patch: pixels per side of the patches that `conv` works on.
        hidden: units of its fully connected layer at the lowest resolution; 0 = none.
        planes: of a convolutional network: all channels of an image share one. Each begins with a code
            of its share of the latent, independent of the others: `latent` + `latent_bits` is a multiple of them.
        loss: `relativistic`, `non_saturating`, `minimax`, `hinge` or `wasserstein`.
        penalty: `none`, `r1`, `r1_r2` (each γ/2 · E‖∇D‖²) or `wgan_gp` (γ · E(‖∇D‖ − 1)²).
        penalty_weight: γ at the start.
        penalty_final: γ from `penalty_burn_in` on, approached geometrically; None = constant.
        penalty_burn_in: share of training over which γ falls; 0 = it is `penalty_final` from the start.
        penalty_interval: the penalty is taken on every n-th update only (lazy), then n times as strong.
        event_scale: both players work on encoded events times this. With the biases' spread fixed, larger events let
            the critic bend more often within them, which tight modes need.
        frequencies: number of Fourier features that the critic sees beside the events (of packs: of all their
            coordinates together), for body=mlp; 0 = none.
        frequency_scale: their standard deviation, in cycles per unit of scaled events.
        spectral_norm: divide the critic's weights by their largest singular value.
        packing: events that the critic judges together, all real or all generated: it then sees a lack of variety
            (PacGAN, section 2). A divisor of the batch size.
    """

    players: ClassVar[tuple[str, ...]] = ("critic", "generator")
    critic: nn.Module
    generator: nn.Module
    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    dequantises: ClassVar[bool] = True

    def __init__(
        self,
        event: Event,
        parameters: int,
        optimisation: Optimisation,
        batch_size: int,
        latent: int = 16,
        latent_bits: int = 0,
        depth: int = 4,
        body: str = "mlp",
        patch: int = 1,
        hidden: int = 0,
        planes: bool = False,
        loss: str = "relativistic",
        penalty: str = "r1_r2",
        penalty_weight: float = 0.1,
        penalty_final: float | None = None,
        penalty_burn_in: float = 0.5,
        penalty_interval: int = 4,
        spectral_norm: bool = False,
        event_scale: float = 1.0,
        packing: int = 1,
        balanced_bits: bool = False,
        frequencies: int = 0,
        frequency_scale: float = 1.0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        for name, value, allowed in (
            ("loss", loss, LOSSES),
            ("penalty", penalty, PENALTIES),
            ("body", body, ("mlp", "conv")),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: expected one of {list(allowed)}, got {value!r}")
        if planes and body != "conv":
            raise ValueError(f"planes: expected body=conv, got {body}")
        if frequencies < 0:
            raise ValueError(f"frequencies: expected 0 or more, got {frequencies}")
        if frequencies and body != "mlp":
            raise ValueError(f"frequencies: expected body=mlp, got {body}")
        if balanced_bits and not 0 < latent_bits <= MOST_BALANCED_BITS:
            raise ValueError(f"latent_bits: expected 1 to {MOST_BALANCED_BITS} (balanced_bits), got {latent_bits}")
        self.loss_name, self.penalty, self.balanced_bits = loss, penalty, balanced_bits
        self.latent, self.latent_bits = latent, latent_bits
        inputs = latent + latent_bits
        if planes and inputs % event.shape[0]:
            raise ValueError(f"latent: expected a multiple of the {event.shape[0]} channels (planes), got {inputs}")
        self.penalty_weight, self.penalty_final = penalty_weight, penalty_final
        self.penalty_burn_in, self.penalty_interval = penalty_burn_in, penalty_interval
        if packing < 1 or batch_size % packing:
            raise ValueError(f"packing: expected a divisor of the batch size {batch_size}, got {packing}")
        self.event_scale, self.packing = event_scale, packing
        self.flop_period = 1 if penalty == "none" else penalty_interval
        self.codec = Codec(event)
        shape, size = event.shape, event.dimensions

        def generator(width: int) -> nn.Module:
            if body == "conv":
                channels, code = (1, inputs // shape[0]) if planes else (shape[0], inputs)
                network = ImageDecoder(code, channels, (shape[1], shape[2]), width, depth, patch=patch, hidden=hidden)
                return PlanesDecoder(inputs, shape[0], code, network) if planes else network
            return Flattened(ResidualMLP(inputs, size, width, depth, "leaky_relu", random_biases=True), shape)

        def critic(width: int) -> nn.Module:
            if body == "conv":
                channels, outputs = (1, PLANE_FEATURES) if planes else (packing * shape[0], 1)
                network = ImageEncoder(
                    channels, outputs, (shape[1], shape[2]), width, depth, patch=patch, hidden=hidden
                )
                if planes:
                    return PlanesEncoder(1, packing * shape[0], network, "leaky_relu")
                return network
            features = FourierFeatures(packing * size, frequencies, frequency_scale) if frequencies else None
            seen = features.outputs if features else packing * size
            judge = ResidualMLP(seen, 1, width, depth, "leaky_relu", random_biases=True)
            return Flattened(nn.Sequential(features, judge) if features else judge, None)

        width = fit_width(generator, parameters)
        judge = critic(width)
        if spectral_norm:
            for module in list(judge.modules()):
                if isinstance(module, nn.Linear | nn.Conv2d):
                    spectrally_normalised(module)
        self.register_players(critic=judge, generator=generator(width))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events by the training split."""
        self.codec.fit(data)

    def current_penalty_weight(self) -> float:
        """γ at this point of training."""
        if self.penalty_final is None:
            return self.penalty_weight
        share = self.progress / self.penalty_burn_in if self.penalty_burn_in else 1.0
        return geometric(self.penalty_weight, self.penalty_final, share)

    def loss(self, x: Tensor, player: str) -> Tensor:
        """The adversarial loss of `player`, for the critic with its penalty when one is due."""
        real = self.packed(self.event_scale * self.codec.encode(x))
        z = self.draw_latent(len(x), balanced=self.balanced_bits)
        if player == "generator":
            fake = self.packed(self.generator(z))
            # the pair's real score is a constant of the generator's gradient, but it sets its weight
            with torch.no_grad():
                real_score = self.critic(real).flatten()
            return adversarial_loss(self.loss_name, player, real_score, self.critic(fake).flatten())
        with torch.no_grad():
            fake = self.packed(self.generator(z))
        real_score, fake_score = self.critic(torch.cat([real, fake])).flatten().chunk(2)
        total = adversarial_loss(self.loss_name, player, real_score, fake_score)
        if self.penalty != "none" and self.updates % self.penalty_interval == 0:
            total = total + self.penalty_interval * self.gradient_penalty(real, fake)
        return total

    def draw_latent(self, n: int, generator: Generator | None = None, balanced: bool = False) -> Tensor:
        """-> (n, latent + latent_bits): standard normal numbers, then coin flips of ±1, independent unless balanced."""
        gaussian = normal((n, self.latent), self.device, generator)
        if not self.latent_bits:
            return gaussian
        if balanced:
            corners = balanced_integers(2**self.latent_bits, n, self.device, generator)
            flips = corners[:, None] >> torch.arange(self.latent_bits, device=self.device) & 1
        else:
            flips = integers(2, (n, self.latent_bits), self.device, generator)
        return torch.cat([gaussian, flips * 2.0 - 1.0], dim=1)

    def packed(self, x: Tensor) -> Tensor:
        """(B, C, …) encoded -> (B / packing, packing · C, …): what the critic judges at once."""
        return x if self.packing == 1 else x.reshape(-1, self.packing * x.shape[1], *x.shape[2:])

    def gradient_penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalty on this batch; (B, *event) encoded, twice -> scalar."""
        weight = self.current_penalty_weight()
        if self.penalty == "wgan_gp":
            mix = uniform((len(real),), real.device).view(-1, *[1] * (real.dim() - 1))
            norm = squared_gradient_norm(self.critic, mix * real + (1 - mix) * fake).clamp_min(1e-12).sqrt()
            return weight * (norm - 1).square().mean()
        if self.penalty == "r1":
            return 0.5 * weight * squared_gradient_norm(self.critic, real).mean()
        # the mean over both halves is half the sum of the two penalties
        return weight * squared_gradient_norm(self.critic, torch.cat([real, fake])).mean()

    @torch.no_grad()
    def diagnostics(self, x: Tensor) -> dict[str, float]:
        """`critic_accuracy`: P(critic(real) > critic(generated)) over all pairs, ties half, whatever the loss.

        0.5: the critic is fooled; 1: it tells every pair apart; below 0.5: it holds generated events for more real.
        """
        x = x[: len(x) // self.packing * self.packing]
        real = self.critic(self.packed(self.event_scale * self.codec.encode(x))).flatten()
        fake = self.critic(self.packed(self.generator(self.draw_latent(len(x))))).flatten()
        margin = real[:, None] - fake[None, :]
        return {"critic_accuracy": float((margin > 0).double().mean() + 0.5 * (margin == 0).double().mean())}

    @torch.no_grad()
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event): through the averaged generator, in chunks."""
        latents = torch.split(self.draw_latent(n, generator), max(1, CHUNK // self.event.dimensions))
        return torch.cat([self.codec.decode(self.sampler(z) / self.event_scale) for z in latents])
