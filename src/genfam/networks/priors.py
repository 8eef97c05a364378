"""Learned priors p(z) of a latent variable: where no event is encoded, none should be drawn.

A standard normal leaves holes between what the encoder says of the events, and what is decoded from a hole is no event.
Both priors here are learnt together with the encoder, and replace the normal in the same lower bound.

References:
    Tomczak, J. M. & Welling, M. 2018. VAE with a VampPrior. https://arxiv.org/abs/1705.07120 (equation 9)
    Chen, X. et al. 2017. Variational lossy autoencoder. https://arxiv.org/abs/1611.02731 (section 3.2: a prior that is
        a flow is an approximate posterior that is one, and costs nothing when encoding)
    Dinh, L., Sohl-Dickstein, J. & Bengio, S. 2017. Density estimation using Real NVP. https://arxiv.org/abs/1605.08803
        (equations 7 and 8: the coupling layer)
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from genfam.networks.mlp import ResidualMLP
from genfam.seeds import integers, normal

LARGEST_LOG_SCALE = 0.5  # of one coupling layer: at 2, eight of them threw z to 10¹⁰ on one seed of three


class VampPrior(nn.Module):
    """p(z) = 1/K Σ_k q(z | u_k) with learned pseudo-inputs u_k (Tomczak & Welling 2018, equation 9).

    The standard normal leaves holes where no event was encoded; the encoder's own average, which is the best prior,
    is a mixture over all events, and K pseudo-inputs stand for them.

    Args:
        pseudo_inputs: (K, *encoder input) to start from.
    """

    def __init__(self, pseudo_inputs: Tensor) -> None:
        super().__init__()
        self.pseudo_inputs = nn.Parameter(pseudo_inputs)

    def log_prob(self, z: Tensor, encoder: nn.Module) -> Tensor:
        """(…, latent) -> (…) nats."""
        mean, log_std = encoder(self.pseudo_inputs)
        # ‖(z − μ) / σ‖² multiplied out: products of matrices, no array of (…, K, latent)
        precision = torch.exp(-2.0 * log_std)
        square = z.square() @ precision.T - 2.0 * z @ (mean * precision).T + (mean.square() * precision).sum(1)
        constant = log_std.sum(1) + 0.5 * mean.shape[1] * math.log(2.0 * math.pi)
        return torch.logsumexp(-0.5 * square - constant, dim=-1) - math.log(len(mean))

    def sample(self, n: int, encoder: nn.Module, generator: Generator) -> Tensor:
        """-> (n, latent)."""
        mean, log_std = encoder(self.pseudo_inputs)
        chosen = integers(len(mean), (n,), mean.device, generator)
        noise = normal((n, mean.shape[1]), mean.device, generator)
        drawn: Tensor = mean[chosen] + torch.exp(log_std[chosen]) * noise
        return drawn


class Couplings(nn.Module):
    """z = f⁻¹(u) by coupling layers (Real NVP, equations 7 and 8), each told a context if there is one; u at first.

    Each layer leaves half of z as it is, which says how the other half is shifted and scaled; then the order is turned
    round, so that the next layer changes what this one left.

    Args:
        latent: size of z, at least 2.
        layers: number of coupling layers.
        width: hidden size of the perceptron in each.
        context: size of what each is told beside the half that it leaves.

    Raises:
        ValueError: z has no halves, or there is no layer.
    """

    def __init__(self, latent: int, layers: int, width: int, context: int = 0) -> None:
        super().__init__()
        if latent < 2 or layers < 1:
            raise ValueError(f"expected at least 2 latent dimensions and 1 coupling layer, got {latent} and {layers}")
        self.latent, self.kept = latent, latent // 2
        changed = latent - self.kept
        self.layers = nn.ModuleList(
            ResidualMLP(self.kept + context, 2 * changed, width, depth=1, zero_exit=True) for _ in range(layers)
        )

    def _shift_and_log_scale(self, layer: nn.Module, kept: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if context is not None:
            kept = torch.cat([kept, context.expand(*kept.shape[:-1], context.shape[-1])], dim=-1)
        shift, raw = layer(kept).chunk(2, dim=-1)
        return shift, LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE)

    def undo(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(…, latent) -> u, and (…) log |det ∂u/∂z|, without a context."""
        log_volume = torch.zeros(z.shape[:-1], device=z.device)
        for layer in self.layers:
            kept, changed = z[..., : self.kept], z[..., self.kept :]
            shift, log_scale = self._shift_and_log_scale(layer, kept, None)
            z = torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], dim=-1).flip(-1)
            log_volume = log_volume - log_scale.sum(dim=-1)
        return z, log_volume

    def carry(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(…, B, latent), (B, context) -> z, and (…, B) log |det ∂z/∂u|."""
        z, log_volume = u, torch.zeros(u.shape[:-1], device=u.device)
        for layer in reversed(self.layers):
            z = z.flip(-1)
            kept, changed = z[..., : self.kept], z[..., self.kept :]
            shift, log_scale = self._shift_and_log_scale(layer, kept, context)
            z = torch.cat([kept, changed * torch.exp(log_scale) + shift], dim=-1)
            log_volume = log_volume + log_scale.sum(dim=-1)
        return z, log_volume


class FlowPrior(Couplings):
    """p(z) = N(f(z); 0, I) |det ∂f/∂z|, f being coupling layers; the normal at first."""

    def log_prob(self, z: Tensor, encoder: nn.Module) -> Tensor:
        """(…, latent) -> (…) nats; the encoder is not asked."""
        u, log_volume = self.undo(z)
        return log_volume - 0.5 * (u.square() + math.log(2.0 * math.pi)).sum(dim=-1)

    def sample(self, n: int, encoder: nn.Module, generator: Generator) -> Tensor:
        """-> (n, latent); the encoder is not asked."""
        device = next(self.parameters()).device
        return self.transport(normal((n, self.latent), device, generator))

    def transport(self, u: Tensor) -> Tensor:
        """(…, latent) draws of the normal -> draws of z: f backwards."""
        return self.carry(u)[0]
