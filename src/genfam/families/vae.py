"""Variational autoencoder: p(x) = ∫ p(x | z) p(z) dz, trained by a bound on its logarithm.

References:
    Kingma, D. P. & Welling, M. 2014. Auto-encoding variational Bayes. https://arxiv.org/abs/1312.6114
    Rezende, D. J., Mohamed, S. & Wierstra, D. 2014. Stochastic backpropagation and approximate inference in deep
        generative models. https://arxiv.org/abs/1401.4082
    Burda, Y., Grosse, R. & Salakhutdinov, R. 2016. Importance weighted autoencoders (IWAE), equation 8.
        https://arxiv.org/abs/1509.00519
    Bowman, S. R. et al. 2016. Generating sentences from a continuous space, section 3.1 (warm-up of the divergence).
        https://arxiv.org/abs/1511.06349
    Rybkin, O., Daniilidis, K. & Levine, S. 2021. Simple and effective VAE training with calibrated decoders.
        https://arxiv.org/abs/2006.13202
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.families.latents import line
from genfam.families.priors import Normal, Prior, Vamp
from genfam.networks.base import Network, count_parameters, fit_width
from genfam.networks.observation import (
    CATEGORICAL_LEVELS,
    LEAST_LOG_STD,
    Observation,
    gaussian_log_prob,
    observation_for,
    soft_floor,
)
from genfam.ranges import Count, Share
from genfam.seeds import normal, normal_like
from genfam.types import Batch, Data, Event, Likelihood, Part

SEED = 20160301  # of the importance samples: the same events get the same bound
AT_ONCE = 2**22  # decoder outputs held at once while drawing or bounding a likelihood
FIRST_LOG_STD = -2.0  # of q(z | x): at 0 the decoder learns to ignore z before the encoder makes anything of it
MOST_LOG_STD = 3.0


class Encoder(nn.Module):
    """q(z | x, c): a diagonal Gaussian, from a network (B, …), condition -> (B, 2 latent)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """-> mean (B, latent), log standard deviation (B, latent)."""
        mean, log_std = self.body(x, condition).chunk(2, dim=1)
        # A hard upper end, which no healthy run meets: the exponential of whatever a network says of one odd event has
        # none, and a learned prior does not push back as the normal's closed divergence does.
        return mean, soft_floor(log_std + FIRST_LOG_STD, LEAST_LOG_STD).clamp(max=MOST_LOG_STD)


class Decoder(nn.Module):
    """p(x | z, c): a network (B, latent), condition -> (B, P, *event), the parameters of an observation model."""

    def __init__(self, body: nn.Module, observation: Observation) -> None:
        super().__init__()
        self.body, self.observation = body, observation

    def log_prob(self, x: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event), (B, latent) -> (B,) log p(x | z, c) in nats."""
        return self.observation.log_prob(x, self.body(z, condition))

    def sample(self, z: Tensor, condition: Tensor | None, generator: Generator) -> Tensor:
        """(B, latent) -> (B, *event) drawn from p(x | z, c)."""
        return self.observation.sample(self.body(z, condition), generator)


class VAE(Family):
    """A VAE with warm-up and a calibrated observation model.

    Discrete events are observed as levels (no dequantisation) and continuous ones as standardised floats.

    Args:
        event: what one data point is.
        parameters: budget of what a sample passes through, the decoder and a prior that is a network. The encoder,
            which only training and the likelihood bound need, is made as large.
        network: one that can be an encoder and a decoder.
        optimisation: how the encoder and the decoder, one player, are optimised.
        batch_size: events per update.
        latent: size of z; None = the event's dimensions, but at most 16.
        prior: of z, as a part whose sizes are filled in here.
        warmup: share of the updates over which the weight of KL(q(z | x) ‖ p(z)) rises linearly from 0 to 1.
        importance_samples: K of the bound that `density` returns.
        mixtures: logistic components per dimension where an event has more than 32 levels.
        classes: values of the condition that the networks know; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.LOWER_BOUND
    trajectory: ClassVar[str] = "latent interpolation"
    model: nn.ModuleDict

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        latent: Count | None = None,
        prior: Part[Prior] = Normal,
        warmup: Share = 0.5,
        importance_samples: Count = 64,
        mixtures: Count = 5,
        classes: int = 0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        latent = min(16, event.dimensions) if latent is None else latent
        if not 0 <= warmup <= 1 or importance_samples < 1 or latent < 1:
            raise ValueError(
                "expected warmup in [0, 1], importance_samples ≥ 1 and latent ≥ 1, got "
                f"{warmup}, {importance_samples} and {latent}"
            )
        self.warmup, self.importance_samples = warmup, importance_samples
        self.sampling = {"temperature": 1.0}
        self.codec = Codec(event)
        # A die's faces have no order, so that numbers would mislead; an image's grey values have one.
        self.one_hot = event.levels is not None and event.levels <= CATEGORICAL_LEVELS and not event.is_image
        inputs = (*event.shape, event.levels or 1) if self.one_hot else event.shape

        def encoder(width: int) -> nn.Module:
            return Encoder(network.encoder(inputs, 2 * latent, width, classes))

        def decoder(width: int) -> nn.Module:
            observation = observation_for(event, mixtures)
            shape = (observation.parameters_per_dimension, *event.shape)
            return Decoder(network.decoder(latent, shape, width, classes), observation)

        chosen = prior(latent=latent, inputs=inputs, classes=classes)
        passed = count_parameters(chosen) if chosen.is_network else 0
        if passed > parameters // 2:
            raise ValueError(
                f"prior: expected at most half of the {parameters} parameters that the budget gives, got {passed}"
            )
        above = fit_width(decoder, parameters - passed, network.multiples)
        seen = fit_width(encoder, parameters, network.multiples)
        parts = {"encoder": encoder(seen), "decoder": decoder(above), "prior": chosen}
        self.register_players(model=nn.ModuleDict(parts))

    @property
    def sampling_network(self) -> nn.Module:
        """The decoder, and a prior that is a network: sampling does not touch the encoder."""
        _, decoder, prior = _parts(self.model)
        return nn.ModuleList([prior, decoder] if prior.is_network else [decoder])

    def prepare(self, data: Data) -> None:
        """Fit the standardisation of continuous events; let pseudo-inputs start from events."""
        self.codec.fit(data)
        for networks in (self.model, self.average.module):
            assert isinstance(networks, nn.ModuleDict)
            prior = networks["prior"]
            if isinstance(prior, Vamp):
                chosen = torch.arange(len(prior.pseudo_inputs)) % len(data.train)  # a small split is gone through again
                with torch.no_grad():
                    prior.pseudo_inputs.copy_(self.inputs(data.train[chosen]))

    def inputs(self, x: Tensor) -> Tensor:
        """(B, *event) events -> what the encoder takes: one-hot, grey values in [−1, 1], or standardised floats."""
        levels = self.event.levels
        if levels is None:
            return self.codec.encode(x)
        if self.one_hot:
            return F.one_hot(x.long(), levels).float()
        return x.float() * (2.0 / max(1, levels - 1)) - 1.0

    def observed(self, x: Tensor) -> Tensor:
        """(B, *event) events -> what the observation model gives a probability to: levels or standardised floats."""
        return x if self.event.is_discrete else self.codec.encode(x)

    @property
    def beta(self) -> float:
        """Weight of the divergence at this point of the warm-up."""
        return min(1.0, self.progress / self.warmup) if self.warmup else 1.0

    def loss(self, batch: Batch, player: str) -> Tensor:
        """E[−log p(x | z)] + β KL(q(z | x) ‖ p(z)) in nats per event; one z per event, by reparametrisation."""
        encoder, decoder, prior = _parts(self.model)
        mean, log_std = encoder(self.inputs(batch.event), batch.condition)
        z = mean + torch.exp(log_std) * normal_like(mean)
        likelihood = decoder.log_prob(self.observed(batch.event), z, batch.condition)
        rate = prior.divergence(z, mean, log_std, encoder, batch.condition)
        return -likelihood.mean() + self.beta * rate.mean()

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event) drawn from p(z) and then from p(x | z).

        The observation is drawn, not replaced by its mean: the model's distribution, whose likelihood `density` bounds,
        is ∫ p(x | z) p(z) dz. Means would be another, sharper-looking model with no likelihood.
        """
        encoder, decoder, prior = _parts(self.sampler)
        z = prior.sample(n, encoder, condition, generator, self.sampling["temperature"])
        x = decoder.sample(z, condition, generator)
        return x if self.event.is_discrete else self.codec.decode(x)

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """Observations along a straight line, which passes nearer the centre of a normal prior than its draws do."""
        encoder, decoder, prior = _parts(self.sampler)
        first, last = (prior.sample(n, encoder, condition, generator, self.sampling["temperature"]) for _ in range(2))
        drawn = [decoder.sample(z, condition, generator) for z in line(first, last, times)]
        return torch.stack([x.float() if self.event.is_discrete else self.codec.decode(x) for x in drawn])

    @property
    def drawn_at_once(self) -> int:
        """Latents decoded at once: memory stays bounded whatever n and K are."""
        _, decoder, _ = _parts(self.model)
        return max(1, AT_ONCE // (decoder.observation.parameters_per_dimension * self.event.dimensions * 4))

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A positive temperature."""
        if not sampling["temperature"] > 0.0:
            raise ValueError(f"temperature: expected a positive number, got {sampling['temperature']}")

    @property
    def density_method(self) -> str:
        """K of the bound."""
        return f"{self.importance_samples} importance samples"

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event) -> (B,) nats: log 1/K Σ_k p(x, z_k) / q(z_k | x), z_k ~ q(z | x) (Burda et al. 2016, equation 8).

        In expectation at most log p(x), and closer with larger K. The draws come from a generator with a seed of its
        own, so that one model gives one answer, and differ between the events of a call.
        """
        generator = torch.Generator().manual_seed(SEED)
        size = max(1, self.drawn_at_once // self.importance_samples)
        parts = torch.split(x, size)
        values = [None] * len(parts) if condition is None else torch.split(condition, size)
        bounds = [self._bound(x, c, generator) for x, c in zip(parts, values, strict=True)]
        return torch.cat(bounds) + (0.0 if self.event.is_discrete else self.codec.log_volume)

    def _bound(self, x: Tensor, condition: Tensor | None, generator: Generator) -> Tensor:
        """(B, *event) -> (B,) importance-weighted bound in nats of the network's units."""
        encoder, decoder, prior = _parts(self.sampler)
        mean, log_std = encoder(self.inputs(x), condition)
        observed, total = self.observed(x), torch.full((len(x),), -math.inf, device=x.device)
        done = 0
        while done < self.importance_samples:
            k = min(max(1, self.drawn_at_once // max(1, len(x))), self.importance_samples - done)
            z = mean + torch.exp(log_std) * normal((k, *mean.shape), mean.device, generator).to(mean)
            rate = gaussian_log_prob(z, mean, log_std).sum(dim=-1) - prior.log_prob(z, encoder, condition)
            repeated = observed.expand(k, *observed.shape).flatten(0, 1)
            values = None if condition is None else condition.repeat(k)
            weights = decoder.log_prob(repeated, z.flatten(0, 1), values).view(k, len(x)) - rate
            total = torch.logaddexp(total, torch.logsumexp(weights, dim=0))
            done += k
        return total - math.log(self.importance_samples)


def _parts(networks: nn.ModuleDict) -> tuple[Encoder, Decoder, Prior]:
    """Encoder, decoder and prior of the live or the averaged networks."""
    encoder, decoder, prior = networks["encoder"], networks["decoder"], networks["prior"]
    assert isinstance(encoder, Encoder) and isinstance(decoder, Decoder) and isinstance(prior, Prior)
    return encoder, decoder, prior
