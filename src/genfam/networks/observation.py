"""Observation models p(x | parameters): what stands between a network's output and an event.

All treat an event's dimensions as independent given the parameters, so a joint distribution must come from what
the parameters depend on (a latent variable). All are normalised: probabilities of the levels sum to one,
densities integrate to one.

References:
    Salimans, T., Karpathy, A., Chen, X. & Kingma, D. P. 2017. PixelCNN++: improving the PixelCNN with discretized
    logistic mixture likelihood and other modifications, equation 2. https://arxiv.org/abs/1701.05517 (here
    without their regression of one colour channel on another)
    Rybkin, O., Daniilidis, K. & Levine, S. 2021. Simple and effective VAE training with calibrated decoders
    (σ-VAE), section 3. https://arxiv.org/abs/2006.13202
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.seeds import normal, uniform
from genfam.types import Event

LEAST_LOG_STD = -6.0
MOST_LOG_STD = 1.0  # of events of unit scale
LEAST_LOG_SCALE = -7.0
MOST_LOG_SCALE = 10.0  # the two edge bins have half of the mass each: what a black and white pixel drives it to
CATEGORICAL_LEVELS = 32


def soft_floor(x: Tensor, least: float) -> Tensor:
    """A smooth max(x, least) (σ-VAE's soft clipping): a likelihood cannot grow without end on repeated points."""
    return least + F.softplus(x - least)


def bounded_log_std(raw: Tensor) -> Tensor:
    """Between `LEAST_LOG_STD` and `MOST_LOG_STD`, smoothly.

    The upper end matters where a latent of the prior falls between what the encoder uses: nothing was learnt there,
    and an exponential of whatever the network says threw single samples 10⁵ standard deviations away.
    """
    return soft_floor(MOST_LOG_STD - F.softplus(MOST_LOG_STD - raw), LEAST_LOG_STD)


class Observation(nn.Module, ABC):
    """A distribution of events whose parameters a network gives.

    Attributes:
        parameters_per_dimension: P, the numbers that the network gives for each of the event's dimensions.
    """

    parameters_per_dimension: int

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event

    @abstractmethod
    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """(B, *event), (B, P, *event) -> (B,) nats, per the event's measure."""

    @abstractmethod
    def sample(self, parameters: Tensor, generator: Generator) -> Tensor:
        """(B, P, *event) -> (B, *event): uint8 levels, or float32 in the units of `log_prob`'s x."""

    def _levels(self) -> int:
        if self.event.levels is None:
            raise ValueError(f"{type(self).__name__}: expected an event with discrete levels, got {self.event}")
        return self.event.levels


class Categorical(Observation):
    """One probability per level, from logits: no assumption on the order of the levels.

    Raises:
        ValueError: the event is continuous.
    """

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        self.parameters_per_dimension = self._levels()

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """(B, *event) levels, (B, L, *event) logits -> (B,) nats per counting measure."""
        return -F.cross_entropy(parameters, x.long(), reduction="none").flatten(1).sum(dim=1)

    def sample(self, parameters: Tensor, generator: Generator) -> Tensor:
        """(B, L, *event) logits -> (B, *event) uint8, by inverting the cumulative distribution."""
        return _categorical(parameters, generator).to(torch.uint8)


class Bernoulli(Observation):
    """The probability of level 1 of two, from its logit: half the outputs that two logits would take.

    Raises:
        ValueError: the event has not two levels.
    """

    parameters_per_dimension = 1

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        if event.levels != 2:
            raise ValueError(f"Bernoulli: expected an event with 2 levels, got {event}")

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """(B, *event) levels, (B, 1, *event) logits -> (B,) nats per counting measure."""
        logits = parameters[:, 0]
        return -F.binary_cross_entropy_with_logits(logits, x.to(logits), reduction="none").flatten(1).sum(dim=1)

    def sample(self, parameters: Tensor, generator: Generator) -> Tensor:
        """(B, 1, *event) logits -> (B, *event) uint8."""
        probability = torch.sigmoid(parameters[:, 0])
        drawn: Tensor = uniform(probability.shape, probability.device, generator) < probability
        return drawn.to(torch.uint8)


class LogisticMixture(Observation):
    """A mixture of logistic distributions, integrated over each level's bin (PixelCNN++, equation 2).

    Level k lies at 2k/(L−1) − 1; its bin reaches half-way to its neighbours, and the first and the last bin to
    −∞ and +∞. Of the 3M parameters per dimension the first M are the mixture's logits, then means, then log scales.

    Args:
        event: discrete.
        mixtures: M, components per dimension.

    Raises:
        ValueError: the event is continuous or has a single level, or fewer than one component.
    """

    def __init__(self, event: Event, mixtures: int = 5) -> None:
        super().__init__(event)
        self.levels = self._levels()
        if self.levels < 2 or mixtures < 1:
            raise ValueError(f"expected at least 2 levels and 1 component, got {self.levels} and {mixtures}")
        self.mixtures = mixtures
        self.parameters_per_dimension = 3 * mixtures

    def _split(self, parameters: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3M, *rest) -> logits, means, log scales: (B, M, *rest) each.

        At temperature T the weights are ∝ wᵢ^(1/T) and the scales T sᵢ: a logistic's tails fall as e^(−|x|/s).
        """
        logits, means, log_scales = parameters.chunk(3, dim=1)
        # A zero output spreads the components over the range: equal ones would have equal gradients for ever.
        centres = (torch.arange(self.mixtures, device=means.device) + 0.5) * (2.0 / self.mixtures) - 1.0
        means = means + centres.view(-1, *[1] * (means.dim() - 2))
        log_scales = soft_floor(log_scales - math.log(self.mixtures), LEAST_LOG_SCALE)
        # A hard end: beyond it nothing is left to learn, and where e^−s is 0 the bin not chosen has a gradient of NaN.
        return logits / temperature, means, log_scales.clamp(max=MOST_LOG_SCALE) + math.log(temperature)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """(B, *event) levels, (B, 3M, *event) -> (B,) nats per counting measure."""
        return self.log_prob_each(x, parameters).flatten(1).sum(dim=1)

    def log_prob_each(self, x: Tensor, parameters: Tensor, temperature: float = 1.0) -> Tensor:
        """(B, *rest) levels, (B, 3M, *rest) -> (B, *rest) nats per counting measure, one for each dimension."""
        logits, means, log_scales = self._split(parameters, temperature)
        level = x.unsqueeze(1)
        centred = level.to(means.dtype) * (2.0 / (self.levels - 1)) - 1.0 - means
        half, rate = 1.0 / (self.levels - 1), torch.exp(-log_scales)
        upper, lower = (centred + half) * rate, (centred - half) * rate
        # σ(u) − σ(l) = σ(u) σ(−l) (1 − e^{l−u}): exact and without cancellation, also far out in the tails. The
        # edge bins have u = ∞ or l = −∞, where the factor and the last one are 1.
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        inner = torch.log(-torch.expm1(-2.0 * half * rate))
        last, first = level == self.levels - 1, level == 0
        mass = torch.where(first, below, torch.where(last, above, below + above + inner))
        return torch.logsumexp(torch.log_softmax(logits, dim=1) + mass, dim=1)

    def sample(self, parameters: Tensor, generator: Generator, temperature: float = 1.0) -> Tensor:
        """(B, 3M, *rest) -> (B, *rest) uint8: a component, a logistic draw, the level in whose bin it falls."""
        logits, means, log_scales = self._split(parameters, temperature)
        component = _categorical(logits, generator).unsqueeze(1)
        mean, log_scale = (t.gather(1, component).squeeze(1) for t in (means, log_scales))
        u = uniform(mean.shape, mean.device, generator).clamp(1e-7, 1.0 - 1e-7)
        draw = mean + torch.exp(log_scale) * torch.logit(u)
        level = torch.round((draw + 1.0) * 0.5 * (self.levels - 1))
        return level.clamp(0, self.levels - 1).to(torch.uint8)


class Gaussian(Observation):
    """Independent normal dimensions, each with a mean and a variance that the network gives (σ-VAE, section 3).

    Raises:
        ValueError: the event is discrete.
    """

    parameters_per_dimension = 2

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        if event.levels is not None:
            raise ValueError(f"Gaussian: expected a continuous event, got {event}")

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, *event) -> mean and log standard deviation, (B, *event) each."""
        return parameters[:, 0], bounded_log_std(parameters[:, 1])

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """(B, *event), (B, P, *event) -> (B,) nats per volume."""
        mean, log_std = self._split(parameters)
        return gaussian_log_prob(x, mean, log_std).flatten(1).sum(dim=1)

    def sample(self, parameters: Tensor, generator: Generator) -> Tensor:
        """(B, P, *event) -> (B, *event) float32."""
        mean, log_std = self._split(parameters)
        noise = normal(mean.shape, mean.device, generator)
        return mean + torch.exp(log_std) * noise.to(mean)


def observation_for(event: Event, mixtures: int = 5) -> Observation:
    """The observation model that fits the event.

    Continuous events: `Gaussian`. Two levels: `Bernoulli`. At most 32: `Categorical`, which can be any distribution.
    More: `LogisticMixture`, which knows that neighbouring levels are alike and needs far fewer parameters. Never binary
    cross-entropy on grey values: it is no normalised distribution of them.
    """
    if event.levels is None:
        return Gaussian(event)
    if event.levels == 2:
        return Bernoulli(event)
    return Categorical(event) if event.levels <= CATEGORICAL_LEVELS else LogisticMixture(event, mixtures)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """The logarithm of N(x; mean, e^{2 log_std}) per element, in nats; the arguments broadcast."""
    return -0.5 * ((x - mean) * torch.exp(-log_std)).square() - log_std - 0.5 * math.log(2.0 * math.pi)


def _categorical(logits: Tensor, generator: Generator) -> Tensor:
    """(B, K, *rest) -> (B, *rest) int64: the number of cumulative probabilities that a uniform draw has passed."""
    passed = torch.softmax(logits, dim=1).cumsum(dim=1)[:, :-1]
    u = uniform(logits[:, 0].shape, logits.device, generator)
    return (u.unsqueeze(1) >= passed).sum(dim=1)
