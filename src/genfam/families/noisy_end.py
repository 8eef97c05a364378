"""A lower bound on log P of levels for a path whose network predicts the data: it ends in noise, not in the levels.

With such a network the velocity near t = 1 is a difference divided by almost nothing, so that a density carried along
the whole path says how exact the last hundredth of it is, and nothing about the model. Here the path ends at t < 1.
What stands there, z = t x + (1 − t) ε, is a latent variable with a known posterior q(z | x), and the network's
prediction from it, with a fitted spread, is p(x | z):

    log P(x) ≥ E_q[log p(x | z)] + E_q[log p_t(z)] + H[q].

References:
    Kingma, D. P., Salimans, T., Poole, B. & Ho, J. 2021. Variational diffusion models. https://arxiv.org/abs/2107.00630
        (the bound: prior, reconstruction and diffusion terms; their p(x | z) ∝ q(z | x) needs a path that ends nearly
        free of noise, where this network is hardly trained)
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from genfam.networks.observation import LogisticMixture
from genfam.seeds import normal
from genfam.types import Event

NOISY_END = 0.6  # t: the tightest of 0.5 to 0.8 on training images of MNIST
FIRST_SCALES = (0.002, 0.01, 0.05, 0.2)  # of the spread's components, in units of the range [−1, 1]
FITTED_ON = 256  # the model's own samples
STEPS = 60


def noisy(data: Tensor, generator: Generator) -> Tensor:
    """(B, *shape) data -> (B, *shape) draws of q(z | x) = N(t x, (1 − t)² I) at t = `NOISY_END`."""
    return NOISY_END * data + (1 - NOISY_END) * normal(data.shape, data.device, generator)


def entropy(dimensions: int, t: float) -> float:
    """H of q(z | x) = N(t x, (1 − t)² I), in nats."""
    return dimensions * (0.5 * math.log(2.0 * math.pi * math.e) + math.log(1.0 - t))


class Spread:
    """p(x | z): every dimension a mixture of logistics around the prediction, of a few scales that all share.

    Args:
        event: discrete.
    """

    def __init__(self, event: Event) -> None:
        self.observation = LogisticMixture(event, len(FIRST_SCALES))
        self.levels = self.observation.levels
        self.logits = torch.zeros(len(FIRST_SCALES))
        self.log_scales = torch.tensor(FIRST_SCALES).log()

    def log_prob(self, x: Tensor, predicted: Tensor) -> Tensor:
        """(B, *event) levels, (B, *event) predictions in [−1, 1] -> (B,) nats per counting measure."""
        m = len(self.logits)
        # from the middles of cells to the observation's levels, which lie on the ends of the range
        mean = ((predicted + 1.0) * self.levels - 1.0) / (self.levels - 1) - 1.0
        parts = torch.arange(m, device=x.device).add(0.5) * (2.0 / m) - 1.0  # it adds these, and takes log m away
        shape = (1, m, *[1] * (x.dim() - 1))
        filled = (len(x), m, *x.shape[1:])
        means = mean.unsqueeze(1) - parts.view(shape)
        scales = (self.log_scales.to(x.device) + math.log(m)).view(shape).expand(filled)
        logits = self.logits.to(x.device).view(shape).expand(filled)
        return self.observation.log_prob(x, torch.cat([logits, means, scales], dim=1))

    def fit(self, x: Tensor, predicted: Tensor) -> None:
        """Choose the scales and their shares by the likelihood of events (N, *event) given their predictions.

        The model's own samples do: the bound holds for any spread, and no data need be kept for it.
        """
        self.logits, self.log_scales = self.logits.requires_grad_(), self.log_scales.requires_grad_()
        optimiser = torch.optim.Adam([self.logits, self.log_scales], lr=0.1)
        with torch.enable_grad():
            for _ in range(STEPS):
                optimiser.zero_grad()
                torch.autograd.backward(-self.log_prob(x, predicted).mean() / x[0].numel())
                optimiser.step()
        self.logits, self.log_scales = self.logits.detach(), self.log_scales.detach()
