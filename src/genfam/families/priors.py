"""Priors p(z) of a latent variable: where no event is encoded, none should be drawn.

A standard normal leaves holes between what the encoder makes of the events, and what is decoded from a hole is no
event. The learned priors here are trained together with the encoder, and replace the normal in the same lower bound.

References:
    Tomczak, J. M. & Welling, M. 2018. VAE with a VampPrior. https://arxiv.org/abs/1705.07120 (equation 9)
    Chen, X. et al. 2017. Variational lossy autoencoder. https://arxiv.org/abs/1611.02731 (section 3.2: a prior that is
        a flow is an approximate posterior that is one, and costs nothing when encoding)
    Dinh, L., Sohl-Dickstein, J. & Bengio, S. 2017. Density estimation using Real NVP. https://arxiv.org/abs/1605.08803
        (equations 7 and 8: the coupling layer)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from genfam.networks.embeddings import CODE
from genfam.networks.observation import gaussian_log_prob
from genfam.networks.perceptron import ResidualMLP
from genfam.ranges import Count
from genfam.seeds import integers, normal

LARGEST_LOG_SCALE = 0.5  # of one coupling layer: at 2, eight of them threw z to 10¹⁰ on one seed of three

Encode = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Inputs (B, …), condition (B,) -> mean and log standard deviation (B, latent) of q(z | x)."""


class Prior(nn.Module, ABC):
    """p(z | c). Every prior is built with the sizes `latent`, `inputs` and `classes`, beside settings of its own.

    Attributes:
        is_network: whether a sample passes through it, so that the budget's parameters count it.
    """

    is_network: ClassVar[bool] = True

    @abstractmethod
    def log_prob(self, z: Tensor, encode: Encode, condition: Tensor | None) -> Tensor:
        """(…, B, latent), (B,) -> (…, B) nats."""

    @abstractmethod
    def sample(
        self, n: int, encode: Encode, condition: Tensor | None, generator: Generator, temperature: float = 1.0
    ) -> Tensor:
        """-> (n, latent); the standard deviation of the normal noise that it is made of times `temperature`."""

    def divergence(self, z: Tensor, mean: Tensor, log_std: Tensor, encode: Encode, condition: Tensor | None) -> Tensor:
        """(B, latent) draws z of N(mean, e^{2 log_std}) -> (B,) nats: their log-ratio to the prior.

        Its mean over draws is the divergence; a prior that knows that in closed form gives it.
        """
        return gaussian_log_prob(z, mean, log_std).sum(dim=-1) - self.log_prob(z, encode, condition)


class Normal(Prior):
    """The standard normal; with a condition, one normal per value with a learned mean and scale, standard at first.

    Args:
        latent: size of z.
        inputs: shape of what the encoder takes; it is not used.
        classes: values of the condition; 0 = none.
    """

    zero: Tensor

    def __init__(self, latent: int, inputs: tuple[int, ...] = (), classes: int = 0) -> None:
        super().__init__()
        self.latent = latent
        self.moments = nn.Embedding(classes, 2 * latent) if classes else None
        if self.moments is not None:
            nn.init.zeros_(self.moments.weight)
        self.register_buffer("zero", torch.zeros(2 * latent), persistent=False)

    def _moments(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        found: Tensor = self.zero if self.moments is None else self.moments(condition)
        mean, log_std = found.chunk(2, dim=-1)
        return mean, log_std

    def log_prob(self, z: Tensor, encode: Encode, condition: Tensor | None) -> Tensor:
        """See `Prior.log_prob`."""
        return gaussian_log_prob(z, *self._moments(condition)).sum(dim=-1)

    def sample(
        self, n: int, encode: Encode, condition: Tensor | None, generator: Generator, temperature: float = 1.0
    ) -> Tensor:
        """See `Prior.sample`."""
        mean, log_std = self._moments(condition)
        return mean + temperature * torch.exp(log_std) * normal((n, self.latent), mean.device, generator)

    def divergence(self, z: Tensor, mean: Tensor, log_std: Tensor, encode: Encode, condition: Tensor | None) -> Tensor:
        """In closed form (Kingma & Welling 2014, appendix B)."""
        own_mean, own_log_std = self._moments(condition)
        ratio = log_std - own_log_std
        each = 0.5 * (((mean - own_mean) * torch.exp(-own_log_std)).square() + torch.exp(2.0 * ratio) - 1.0) - ratio
        return each.sum(dim=-1)


class Vamp(Prior):
    """p(z | c) = 1/K Σ_k q(z | u_k, c) with learned pseudo-inputs u_k (Tomczak & Welling 2018, equation 9).

    The encoder's own average, which is the best prior, is a mixture over all events; K pseudo-inputs stand for them.

    What a decoder needs of it after training is a mixture of K normals, which the budget does not count.

    Args:
        latent: size of z; it is not used.
        inputs: shape of what the encoder takes.
        classes: values of the condition, which the encoder knows; it is not used.
        pseudo_inputs: K.
    """

    is_network = False

    def __init__(self, latent: int, inputs: tuple[int, ...], classes: int = 0, pseudo_inputs: Count = 200) -> None:
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.zeros(pseudo_inputs, *inputs))

    def _components(self, encode: Encode, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """(K, latent) means and log standard deviations; with a condition (B, K, latent), encoded once per value."""
        if condition is None:
            return encode(self.pseudo_inputs, None)
        values, where = condition.unique(return_inverse=True)
        count = len(self.pseudo_inputs)
        repeated = self.pseudo_inputs.repeat(len(values), *[1] * (self.pseudo_inputs.dim() - 1))
        mean, log_std = encode(repeated, values.repeat_interleave(count))
        return mean.unflatten(0, (-1, count))[where], log_std.unflatten(0, (-1, count))[where]

    def log_prob(self, z: Tensor, encode: Encode, condition: Tensor | None) -> Tensor:
        """See `Prior.log_prob`."""
        mean, log_std = self._components(encode, condition)
        # ‖(z − μ) / σ‖² multiplied out: products of matrices, no array of (…, K, latent)
        precision = torch.exp(-2.0 * log_std)
        rows = z if condition is None else z.unsqueeze(-2)
        square = rows.square() @ precision.mT - 2.0 * rows @ (mean * precision).mT
        square = (square if condition is None else square.squeeze(-2)) + (mean.square() * precision).sum(-1)
        constant = log_std.sum(-1) + 0.5 * mean.shape[-1] * math.log(2.0 * math.pi)
        return torch.logsumexp(-0.5 * square - constant, dim=-1) - math.log(mean.shape[-2])

    def sample(
        self, n: int, encode: Encode, condition: Tensor | None, generator: Generator, temperature: float = 1.0
    ) -> Tensor:
        """See `Prior.sample`."""
        mean, log_std = self._components(encode, condition)
        chosen = integers(mean.shape[-2], (n,), mean.device, generator)
        noise = temperature * normal((n, mean.shape[-1]), mean.device, generator)
        if condition is not None:
            rows = torch.arange(n, device=mean.device)
            return mean[rows, chosen] + torch.exp(log_std[rows, chosen]) * noise
        return mean[chosen] + torch.exp(log_std[chosen]) * noise


class Couplings(Prior):
    """p(z | c) = N(f(z); 0, I) |det ∂f/∂z|, f being coupling layers (Real NVP); the normal at first.

    Each layer leaves half of z as it is, which decides how the other half is shifted and scaled; then the order is
    reversed, so that the next layer changes what this one left.

    Args:
        latent: size of z, at least 2.
        inputs: shape of what the encoder takes; it is not used.
        classes: values of the condition; 0 = none.
        layers: number of coupling layers.
        width: hidden size of the perceptron in each.

    Raises:
        ValueError: z has no halves, or there is no layer.
    """

    def __init__(
        self, latent: int, inputs: tuple[int, ...] = (), classes: int = 0, layers: Count = 8, width: Count = 96
    ) -> None:
        super().__init__()
        if latent < 2 or layers < 1:
            raise ValueError(f"expected at least 2 latent dimensions and 1 coupling layer, got {latent} and {layers}")
        self.latent, self.kept = latent, latent // 2
        changed = latent - self.kept
        code = CODE if classes else 0
        self.layers = nn.ModuleList(
            ResidualMLP(self.kept + code, 2 * changed, width, depth=1, zero_exit=True) for _ in range(layers)
        )
        self.codes = nn.Embedding(classes, CODE) if classes else None

    def _shift_and_log_scale(self, layer: nn.Module, kept: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.codes is not None:
            code = self.codes(condition)
            kept = torch.cat([kept, code.expand(*kept.shape[:-1], code.shape[-1])], dim=-1)
        shift, raw = layer(kept).chunk(2, dim=-1)
        return shift, LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE)

    def log_prob(self, z: Tensor, encode: Encode, condition: Tensor | None) -> Tensor:
        """See `Prior.log_prob`."""
        log_volume = torch.zeros(z.shape[:-1], device=z.device)
        for layer in self.layers:
            kept, changed = z[..., : self.kept], z[..., self.kept :]
            shift, log_scale = self._shift_and_log_scale(layer, kept, condition)
            z = torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], dim=-1).flip(-1)
            log_volume = log_volume - log_scale.sum(dim=-1)
        return log_volume - 0.5 * (z.square() + math.log(2.0 * math.pi)).sum(dim=-1)

    def transport(self, u: Tensor, condition: Tensor | None = None) -> Tensor:
        """(…, B, latent) draws of the normal -> draws of z: f backwards."""
        z = u
        for layer in reversed(self.layers):
            z = z.flip(-1)
            kept, changed = z[..., : self.kept], z[..., self.kept :]
            shift, log_scale = self._shift_and_log_scale(layer, kept, condition)
            z = torch.cat([kept, changed * torch.exp(log_scale) + shift], dim=-1)
        return z

    def sample(
        self, n: int, encode: Encode, condition: Tensor | None, generator: Generator, temperature: float = 1.0
    ) -> Tensor:
        """See `Prior.sample`."""
        device = next(self.parameters()).device
        return self.transport(temperature * normal((n, self.latent), device, generator), condition)
