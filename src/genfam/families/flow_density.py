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

FEWEST_STEPS, MOST_STEPS = 20, 1280  # of the midpoint rule
TOLERANCE = 0.005  # nats per dimension: change of an event by twice as many steps
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


Velocity = Callable[[Tensor, Tensor], Tensor]


def log_density(
    velocity: Callable[[Tensor], Velocity], z: Tensor, end: float, generator: Generator
) -> tuple[Tensor, float]:
    """Log N(x_0; 0, I) − ∫_0^end div v dt (FFJORD, equation 4); x_0 is the state carried back from t = `end` to 0.

    An event's steps are doubled until its log-density changes by at most `TOLERANCE` per dimension, or up to
    `MOST_STEPS`: on tight modes forty steps are wrong by more than the divergence that is to be measured. Each event is
    refined on its own, so that its value does not depend on the rest of the batch.

    Args:
        velocity: (b,) indices of events -> their field: scalar t, (b, *shape) -> (b, *shape), differentiable in the
            state.
        z: (B, *shape) states at t = `end`.
        end: where they are.
        generator: of Hutchinson's Rademacher probes.

    Returns:
        (B,) nats per volume, and the events' mean change by their last doubling, nats.
    """
    probe = integers(2, z.shape, z.device, generator).float() * 2 - 1

    def integrated(rows: Tensor, steps: int) -> Tensor:
        times = torch.linspace(end, 0.0, steps + 1, device=z.device)
        return _integrated(velocity(rows), z[rows], probe[rows], times)

    rows, steps = torch.arange(len(z), device=z.device), FEWEST_STEPS
    found = integrated(rows, steps)
    change = torch.zeros_like(found)
    while len(rows) and steps < MOST_STEPS:
        steps *= 2
        fine = integrated(rows, steps)
        change[rows] = (fine - found[rows]).abs()
        found[rows] = fine
        rows = rows[change[rows] > TOLERANCE * z[0].numel()]
    return found, float(change.mean()) if len(z) else 0.0


def _integrated(field: Velocity, z: Tensor, probe: Tensor, times: Tensor) -> Tensor:
    """(b, *shape) states at times[0] -> (b,) their log-density, in midpoint steps through the times."""
    exact = z[0].numel() <= EXACT_UP_TO if len(z) else True

    def dynamics(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            here = state[0].detach().requires_grad_(True)
            v = field(t, here)
            trace = exact_divergence(v, here) if exact else hutchinson_divergence(v, here, probe)
        return v.detach(), trace

    with torch.no_grad():
        path_z, path_trace = odeint(dynamics, (z, torch.zeros(len(z), device=z.device)), times, method="midpoint")
    x0, integral = path_z[-1].flatten(1), path_trace[-1]
    log_init = -0.5 * x0.square().sum(dim=1) - 0.5 * x0.shape[1] * math.log(2 * math.pi)
    total: Tensor = log_init + integral
    return total
