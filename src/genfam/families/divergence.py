"""The divergence of a velocity field: by how much a flow thins out the density that it carries.

References:
    Grathwohl, W. et al. 2019. FFJORD. https://arxiv.org/abs/1810.01367 (equation 8)
"""

from __future__ import annotations

import torch
from torch import Tensor


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
