"""The density of what a flow carries, by integrating the divergence of its velocity.

References:
    Grathwohl, W. et al. 2019. FFJORD. https://arxiv.org/abs/1810.01367 (equation 4: the change of log-density along the
        flow; equation 8: Hutchinson's estimate of a divergence)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torchdiffeq import odeint

from genfam.seeds import integers

STEPS = 40  # of the midpoint rule
EXACT_UP_TO = 8  # dimensions up to which the divergence is exact; above, it is estimated with one probe


def exact_divergence(v: Tensor, z: Tensor) -> Tensor:
    """Σ_i ∂v_i/∂z_i per event by one backward pass per dimension; (B, *shape) twice -> (B,)."""
    flat = v.flatten(1)
    total = torch.zeros(len(v), device=v.device)
    for index in range(flat.shape[1]):
        (grad,) = torch.autograd.grad(flat[:, index].sum(), z, retain_graph=index + 1 < flat.shape[1])
        total = total + grad.flatten(1)[:, index]
    return total.detach()


def hutchinson_divergence(v: Tensor, z: Tensor, probe: Tensor) -> Tensor:
    """ε·(∂v/∂z)ε per event, whose mean over ε is the divergence; (B, *shape) thrice -> (B,)."""
    (grad,) = torch.autograd.grad(v, z, probe)
    return (grad * probe).flatten(1).sum(dim=1).detach()


def log_density(velocity: Callable[[Tensor, Tensor], Tensor], z: Tensor, end: float, generator: Generator) -> Tensor:
    """Log N(x_0; 0, I) − ∫ div v dt along the flow from t = `end` back to 0 (FFJORD, equation 4).

    Args:
        velocity: scalar t, (B, *shape) -> (B, *shape), differentiable in the state.
        z: (B, *shape) states at t = `end`.
        end: where they are.
        generator: of Hutchinson's Rademacher probes.

    Returns:
        (B,) nats per volume.
    """
    probe = integers(2, z.shape, z.device, generator).float() * 2 - 1
    exact = z[0].numel() <= EXACT_UP_TO if len(z) else True

    def dynamics(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = state[0].detach().requires_grad_(True)
            v = velocity(t, z)
            trace = exact_divergence(v, z) if exact else hutchinson_divergence(v, z, probe)
        return v.detach(), trace

    times = torch.linspace(end, 0.0, STEPS + 1, device=z.device)
    with torch.no_grad():
        path_z, path_trace = odeint(dynamics, (z, torch.zeros(len(z), device=z.device)), times, method="midpoint")
    x0, integral = path_z[-1].flatten(1), path_trace[-1]
    log_init = -0.5 * x0.square().sum(dim=1) - 0.5 * x0.shape[1] * math.log(2 * math.pi)
    total: Tensor = log_init + integral
    return total
