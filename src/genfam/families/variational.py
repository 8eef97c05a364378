"""The variational bound of a variance-preserving path, as a sum over its times.

    log p(x) ≥ E_q[log p(x | z_1)] − Σ_k KL(q(z_{k−1} | z_k, x) ‖ p(z_{k−1} | z_k)) − KL(q(z_T | x) ‖ N(0, I)).

The reverse step has the posterior's own variance, so that a term is ½ (SNR_{k−1} − SNR_k) ‖x − x̂(z_k)‖².

References:
    Ho, J., Jain, A. & Abbeel, P. 2020. DDPM. https://arxiv.org/abs/2006.11239 (equation 5)
    Kingma, D. P., Salimans, T., Poole, B. & Ho, J. 2021. Variational diffusion models. https://arxiv.org/abs/2107.00630
        (equations 13 and 14)
    Nichol, A. & Dhariwal, P. 2021. Improved DDPM. https://arxiv.org/abs/2102.09672 (section 3.3: terms are not drawn
        alike, since they differ in size)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from genfam.families.schedules import over
from genfam.seeds import normal, uniform

TERMS = 256  # of a bound's sum that are evaluated; a longer one is estimated without bias

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(B, *shape) states and (B,) int64 times -> (B, *shape) predicted data."""


def noised(path: Tensor, x: Tensor, k: Tensor, generator: Generator) -> Tensor:
    """(T + 1, 2) α and σ at each time, (B, *shape) data, (B,) times -> (B, *shape) draws of q(z_k | x)."""
    alpha, sigma = path[k].to(x.dtype).unbind(dim=1)
    return over(alpha, x) * x + over(sigma, x) * normal(x.shape, x.device, generator)


def decoded(path: Tensor, x: Tensor, denoise: Denoise, generator: Generator) -> Tensor:
    """(B, *shape) data -> (B,) nats: one draw of E_q[log p(x | z_1)] with p(x | z_1) = N(x̂(z_1), (σ_1 / α_1)² I)."""
    first = torch.ones(len(x), dtype=torch.int64, device=x.device)
    alpha, sigma = path[1].tolist()
    squares = (x - denoise(noised(path, x, first, generator), first)).flatten(1).square().sum(dim=1)
    nats: Tensor = -0.5 * squares * (alpha / sigma) ** 2 - x[0].numel() * math.log(
        sigma / alpha * math.sqrt(2 * math.pi)
    )
    return nats


def divergences(path: Tensor, x: Tensor, denoise: Denoise, end: int, generator: Generator) -> Tensor:
    """(B, *shape) data -> (B,) nats: the sum of the terms k = `end` + 1 to T, and the prior's; each ≥ 0.

    Up to `TERMS` of them are all evaluated, with one draw of z_k each. Of more, as many are drawn for each event, one
    in each of as many layers of equal probability, which goes by how far log SNR falls: for a smooth density all terms
    then have one size.

    Args:
        path: (T + 1, 2) float64, α and σ at each time.
        x: (B, *shape) data.
        denoise: what the model predicts of them.
        end: the time at which the sum ends, at least 1.
        generator: on the CPU.
    """
    alpha, sigma = path[-1].tolist()
    prior: Tensor = 0.5 * ((alpha * x).square() + (sigma**2 - 1.0 - 2.0 * math.log(sigma))).flatten(1).sum(dim=1)
    snr = (path[end:, 0] / path[end:, 1]).square().cpu()
    weights, count = 0.5 * (snr[:-1] - snr[1:]), len(snr) - 1
    shares = -snr.log().diff() / (snr[0].log() - snr[-1].log())
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for index in range(min(count, TERMS)):
        if count <= TERMS:
            chosen = torch.full((len(x),), index)
            factor = weights[chosen]
        else:
            layer = (index + uniform((len(x),), "cpu", generator).double()) / TERMS
            chosen = torch.searchsorted(shares.cumsum(dim=0), layer).clamp(max=count - 1)
            factor = weights[chosen] / (TERMS * shares[chosen])
        k = (chosen + end + 1).to(x.device)
        error = x - denoise(noised(path, x, k, generator), k)
        total += factor.to(x.device) * error.flatten(1).square().sum(dim=1)
    return prior + total.to(x.dtype)
