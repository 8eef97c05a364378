"""A VAE's encoder q(z | x) and decoder p(x | z), with a flow as posterior and a second level of latents as options.

References:
    Kingma, D. P. et al. 2016. Improving variational inference with inverse autoregressive flow.
        https://arxiv.org/abs/1606.04934 (section 3: a flow that is told a context; appendix: levels of latents whose
        posterior sees what the decoder has from above)
    Sønderby, C. K. et al. 2016. Ladder variational autoencoders. https://arxiv.org/abs/1602.02282 (section 2)
    Vahdat, A. & Kautz, J. 2020. NVAE. https://arxiv.org/abs/2007.03898 (section 3.2: a posterior in units of the prior)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from genfam.networks.convolutional import ImageDecoder, ImageEncoder, ResidualBlock
from genfam.networks.mlp import activation_named
from genfam.networks.observation import LEAST_LOG_STD, Observation, gaussian_log_prob, soft_floor
from genfam.networks.priors import Couplings
from genfam.seeds import normal

MOST_LOG_STD = 3.0  # of q(z | x)
LOCAL_LOG_STD = 2.0  # of a local latent's prior, either way
LOCAL_LOG_RATIO = 4.0  # of the posterior's standard deviation to the prior's, either way
# ... as it begins, a little narrower. Some runs that began as the prior never found a use for local latents, nor did
# one that began narrow around the prior's mean (docs/experiments.md).
FIRST_LOG_RATIO = -1.0


def bounded(x: Tensor, bound: float) -> Tensor:
    """Smoothly within ±bound, and x itself near 0."""
    return bound * torch.tanh(x / bound)


class Seen(NamedTuple):
    """What an encoder says of B events.

    Attributes:
        mean, log_std: (B, latent) of the Gaussian.
        context: (B, context) for the posterior's flow, if there is one.
        features: (B, C, H, W) for the posterior of local latents, if there are any.
    """

    mean: Tensor
    log_std: Tensor
    context: Tensor | None = None
    features: Tensor | None = None


class LocalPosterior(nn.Module):
    """q(w | z, x) of local latents, from what the decoder has from above and what the encoder sees at each position.

    Args:
        above: channels of the decoder.
        seen: channels of the encoder.
        local: latents per position.
        activation: by name.
    """

    def __init__(self, above: int, seen: int, local: int, activation: str) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.join = nn.Conv2d(above + seen, above, 3, padding=1)
        self.exit = nn.Conv2d(above, 2 * local, 1)

    def forward(self, above: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(B, above, H, W), (B, seen, H, W) -> shift and log scale (B, local, H, W), in units of the prior."""
        h = self.join(self.activation(torch.cat([above, seen], dim=1)))
        shift, log_ratio = self.exit(self.activation(h)).float().chunk(2, dim=1)
        return shift, bounded(log_ratio + FIRST_LOG_RATIO, LOCAL_LOG_RATIO)


class Encoder(nn.Module):
    """q(z | x): a diagonal Gaussian whose mean and log standard deviation a network gives, and a flow if there is one.

    Args:
        body: (B, ...) -> (B, 2 latent), or with a flow (B, 2 latent + context).
        first_log_std: the log standard deviation where the network says 0, as it does at first. Below 0 the decoder
            can tell events apart from the start; at 0 it learns to ignore z before the encoder says anything.
        flow: carries the Gaussian's draws on, told a context by the body.
        local: the posterior of local latents; needs a body that is an `ImageEncoder`.
    """

    def __init__(
        self,
        body: nn.Module,
        first_log_std: float = -2.0,
        flow: Couplings | None = None,
        local: LocalPosterior | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.first_log_std = first_log_std
        self.flow, self.local = flow, local

    def see(self, x: Tensor) -> Seen:
        """(B, ...) network inputs -> all that the encoder says of them."""
        features = context = None
        if self.local is not None:
            assert isinstance(self.body, ImageEncoder)
            said, features = self.body.see(x)
        else:
            said = self.body(x)
        if self.flow is not None:
            said, context = said[:, : 2 * self.flow.latent], said[:, 2 * self.flow.latent :]
        if self.flow is not None or self.local is not None:
            said = said.float()
        mean, log_std = said.chunk(2, dim=1)
        # A hard end, which no healthy run meets: the exponential of whatever the network says of one odd event has
        # none, and a learned prior does not push back as the normal's closed divergence does.
        log_std = soft_floor(log_std + self.first_log_std, LEAST_LOG_STD).clamp(max=MOST_LOG_STD)
        return Seen(mean, log_std, context, features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, ...) network inputs -> mean (B, latent), log standard deviation (B, latent) of the Gaussian."""
        seen = self.see(x)
        return seen.mean, seen.log_std

    def draw(self, seen: Seen, noise: Tensor) -> tuple[Tensor, Tensor]:
        """B events, (…, B, latent) standard normal noise -> z (…, B, latent), log q(z | x) (…, B) in nats."""
        z = seen.mean + torch.exp(seen.log_std) * noise
        log_q = gaussian_log_prob(z, seen.mean, seen.log_std).sum(dim=-1)
        if self.flow is None:
            return z, log_q
        z, log_volume = self.flow.carry(z, seen.context)
        return z, log_q - log_volume


class LadderDecoder(nn.Module):
    """z -> image with a second level of latents w, some for each position of the highest resolution (sources above).

    p(w | z) is Gaussian. Its posterior is Gaussian in its units, so that what the two differ by does not depend on
    where the prior is (NVAE, section 3.2).

    Args:
        decoder: what z passes through: its trunk above w, its head below.
        local: latents per position.
        activation: by name.
    """

    def __init__(self, decoder: ImageDecoder, local: int, activation: str) -> None:
        super().__init__()
        channels = decoder.channels[-1]
        self.activation = activation_named(activation)
        self.decoder, self.local = decoder, local
        self.prior = nn.Conv2d(channels, 2 * local, 3, padding=1)
        nn.init.zeros_(self.prior.weight)
        nn.init.zeros_(self.prior.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed as optional
        self.enter = nn.Conv2d(local, channels, 1)
        self.block = ResidualBlock(channels, activation)

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """-> (n, local, H, W) standard normal numbers; None: torch's global random state."""
        rows, columns = (side << len(self.decoder.narrow) for side in self.decoder.bottom)
        return normal((n, self.local, rows, columns), self.prior.weight.device, generator)

    def _below(self, h: Tensor, units: Tensor) -> Tensor:
        """What is above, and w in units of its prior -> the image."""
        mean, log_std = self.prior(self.activation(h)).float().chunk(2, dim=1)
        w = mean + torch.exp(bounded(log_std, LOCAL_LOG_STD)) * units
        return self.decoder.head(self.block(h + self.enter(w)))

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        """(B, latent), (B, local, H, W) standard normal -> (B, outputs, H, W): w from its prior."""
        return self._below(self.decoder.trunk(z), noise)

    def infer(
        self, z: Tensor, noise: Tensor, posterior: LocalPosterior, features: Tensor, closed: bool
    ) -> tuple[Tensor, Tensor]:
        """W from its posterior.

        Args:
            z: (B, latent).
            noise: (B, local, H, W) standard normal.
            posterior: of w.
            features: (B, seen, H, W) what the encoder saw of the events.
            closed: the divergence KL(q(w | z, x) ‖ p(w | z)) in closed form; else log q(w | z, x) − log p(w | z) of the
                draw, whose mean it is.

        Returns:
            The network's output (B, outputs, H, W), and (B,) nats.
        """
        h = self.decoder.trunk(z)
        shift, log_ratio = posterior(h, features)
        units = shift + torch.exp(log_ratio) * noise
        if closed:
            each = 0.5 * (shift.square() + torch.exp(2.0 * log_ratio) - 1.0) - log_ratio
        else:
            each = 0.5 * (units.square() - noise.square()) - log_ratio
        return self._below(h, units), each.flatten(1).sum(dim=1)


class Decoder(nn.Module):
    """p(x | z): a network that gives the parameters of an observation model."""

    def __init__(self, body: nn.Module, observation: Observation) -> None:
        super().__init__()
        self.body = body
        self.observation = observation

    def forward(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, latent), noise of local latents if there are any -> (B, P, *event) of the observation model."""
        return self.shaped(self.body(z) if noise is None else self.body(z, noise))

    def shaped(self, output: Tensor) -> Tensor:
        """The body's output of B latents -> (B, P, *event)."""
        event, count = self.observation.event, self.observation.parameters_per_dimension
        return output.reshape(len(output), count, *event.shape)

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, *event), (B, latent) -> (B,) log p(x | z) in nats, of a body with one level of latents."""
        return self.observation.log_prob(x, self(z))

    def observe(
        self, x: Tensor, z: Tensor, encoder: Encoder, features: Tensor | None, closed: bool, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """(B, *event), (B, latent) -> (B,) log p(x | z, w) in nats, and the divergence of w.

        Where there is a second level of latents w, by a draw from its posterior (`LadderDecoder.infer`, and `features`
        and `closed` as there, the noise from the generator); else the divergence is 0.
        """
        if not isinstance(self.body, LadderDecoder):
            return self.log_prob(x, z), torch.zeros(len(x), device=z.device)
        assert encoder.local is not None
        assert features is not None
        output, divergence = self.body.infer(z, self.body.noise(len(z), generator), encoder.local, features, closed)
        return self.observation.log_prob(x, self.shaped(output)), divergence

    def sample(self, z: Tensor, generator: Generator) -> Tensor:
        """(B, latent) -> (B, *event) drawn from p(x | z)."""
        noise = self.body.noise(len(z), generator) if isinstance(self.body, LadderDecoder) else None
        return self.observation.sample(self(z, noise), generator)
