"""Paths from noise to data, what a network may predict along one, and at which times it learns.

Convention: x_0 is noise at t = 0, x_1 is data at t = 1, and x_t = (1 − t) x_0 + t x_1.

References:
    Lipman, Y. et al. 2023. Flow matching for generative modeling. https://arxiv.org/abs/2210.02747 (equation 20 with
        σ_min = 0: the straight path)
    Esser, P. et al. 2024. Scaling rectified flow transformers. https://arxiv.org/abs/2403.03206 (section 3.1:
        logit-normal times)
    Li, T. & He, K. 2025. Back to basics: let denoising generative models denoise. https://arxiv.org/abs/2511.13720
        (the bound on 1 − t where a prediction of the data is turned into a velocity)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genfam.ranges import Positive
from genfam.seeds import normal, uniform

PREDICTIONS = ("velocity", "data", "noise")
# Of 1 − t and t where a prediction is divided by it: an error of the network is amplified by at most 20, also when a
# solver evaluates the very end of the path.
SMALLEST = 0.05


def _over(x: Tensor, t: Tensor) -> Tensor:
    """(B,) -> (B, 1, …) as many dimensions as x has."""
    return t.view(-1, *[1] * (x.dim() - 1))


def straight(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """(B, *shape) noise, (B, *shape) data, (B,) times -> x_t = (1 − t) x_0 + t x_1."""
    t = _over(x0, t)
    return (1 - t) * x0 + t * x1


def target(prediction: str, x0: Tensor, x1: Tensor) -> Tensor:
    """What the network should predict: the velocity x_1 − x_0 of the straight path, the data x_1, or the noise x_0."""
    return {"velocity": x1 - x0, "data": x1, "noise": x0}[prediction]


def velocity(prediction: str, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The velocity that a network's output stands for: v = (x_1 − x_t) / (1 − t) = (x_t − x_0) / t.

    Args:
        prediction: one of `PREDICTIONS`.
        output: (B, *shape) of the network.
        x: (B, *shape) state x_t.
        t: (B,) time.
    """
    if prediction == "velocity":
        return output
    t = _over(x, t)
    if prediction == "data":
        return (output - x) / (1 - t).clamp_min(SMALLEST)
    return (x - output) / t.clamp_min(SMALLEST)


class Times(ABC):
    """At which times of the path a network learns."""

    @abstractmethod
    def draw(self, n: int, device: torch.device) -> Tensor:
        """-> (n,) in (0, 1), from torch's global generator on the CPU."""


@dataclass(frozen=True)
class Uniform(Times):
    """All alike."""

    def draw(self, n: int, device: torch.device) -> Tensor:
        """-> (n,)."""
        return uniform((n,), device)


@dataclass(frozen=True)
class LogitNormal(Times):
    """The sigmoid of a normal number (Esser et al. 2024, section 3.1).

    Attributes:
        mean: of the logit; above 0 trains more near the data, where neighbouring levels are told apart.
        spread: its standard deviation.
    """

    mean: float = 0.0
    spread: Positive = 1.0

    def draw(self, n: int, device: torch.device) -> Tensor:
        """-> (n,)."""
        return torch.sigmoid(self.mean + self.spread * normal((n,), device))
