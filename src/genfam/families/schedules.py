"""Gaussian paths in the literature's variables, and the change of variables that makes them one.

Every path here is x_s = α(s) x_1 + σ(s) x_0, of data x_1 and standard normal noise x_0. Divided by α + σ it is the
straight path (1 − t) x_0 + t x_1 of `paths.py` at t = α / (α + σ). So diffusion, score and flow matching are one model:
what a network predicts stands for the same pair (x_1, x_0) in each, and flow matching's velocity is their difference.

References:
    Ho, J., Jain, A. & Abbeel, P. 2020. Denoising diffusion probabilistic models. https://arxiv.org/abs/2006.11239
        (equation 4, the path; section 4, its schedule; equations 6 and 7, the posterior)
    Song, J., Meng, C. & Ermon, S. 2021. Denoising diffusion implicit models. https://arxiv.org/abs/2010.02502
        (equation 12, the step; equation 16, its noise; appendix D.2, quadratic times)
    Salimans, T. & Ho, J. 2022. Progressive distillation. https://arxiv.org/abs/2202.00512 (section 4: v)
    Karras, T. et al. 2022. Elucidating the design space of diffusion-based generative models (EDM).
        https://arxiv.org/abs/2206.00364 (equation 5, noise scales; table 1, how they are drawn)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from genfam.ranges import Count, Positive
from genfam.seeds import normal

PREDICTIONS = ("noise", "data", "v")


class Ends(NamedTuple):
    """What a state came from, as a network sees it: (B, *shape) each."""

    data: Tensor
    noise: Tensor


def over(s: Tensor, x: Tensor) -> Tensor:
    """A scalar or (B,) numbers with as many dimensions as x has."""
    return s.reshape(-1, *[1] * (x.dim() - 1))


def mixed(alpha: Tensor, sigma: Tensor, ends: Ends) -> Tensor:
    """The path: scalar or (B,) α and σ, (B, *shape) ends -> α data + σ noise."""
    return over(alpha, ends.data) * ends.data + over(sigma, ends.noise) * ends.noise


def target(prediction: str, alpha: Tensor, sigma: Tensor, ends: Ends) -> Tensor:
    """What the network should predict: the noise, the data, or v = α noise − σ data."""
    if prediction == "v":
        return over(alpha, ends.noise) * ends.noise - over(sigma, ends.data) * ends.data
    return {"noise": ends.noise, "data": ends.data}[prediction]


def ends(prediction: str, output: Tensor, alpha: Tensor, sigma: Tensor, x: Tensor) -> Ends:
    """The two ends that a network's output at the state x stands for: they lie on x = α data + σ noise.

    Args:
        prediction: one of `PREDICTIONS`.
        output: (B, *shape) of the network.
        alpha: scalar or (B,); a prediction of the noise needs it above 0.
        sigma: likewise; a prediction of the data needs it above 0.
        x: (B, *shape) states.
    """
    a, s = over(alpha, x), over(sigma, x)
    if prediction == "noise":
        return Ends((x - s * output) / a, output)
    if prediction == "data":
        return Ends(output, (x - a * output) / s)
    return Ends((a * x - s * output) / (a * a + s * s), (s * x + a * output) / (a * a + s * s))


def flow_time(alpha: float, sigma: float) -> float:
    """Flow matching's time: data and noise are mixed there as they are here."""
    return alpha / (alpha + sigma)


def flow_state(alpha: float, sigma: float, x: Tensor) -> Tensor:
    """(B, *shape) states of any path -> the same of flow matching's."""
    return x / (alpha + sigma)


def step(found: Ends, now: tuple[float, float], then: tuple[float, float], eta: float, fresh: Tensor | None) -> Tensor:
    """From (α, σ) `now` to less noise `then` (Song et al. 2021, equations 12 and 16).

    With η = 0 an Euler step of the probability-flow ODE, the same in score matching's and in flow matching's variables;
    with η = 1 a draw of the posterior q(x_then | x_now, data), which is ancestral sampling and, as steps shrink, the
    reverse SDE.

    Args:
        found: the ends as seen from `now`.
        now: (α, σ).
        then: likewise.
        eta: of the posterior's standard deviation, how much is drawn.
        fresh: (B, *shape) standard normal numbers; None where nothing is drawn.
    """
    (alpha, sigma), (alpha_then, sigma_then) = now, then
    if fresh is None or eta == 0.0:
        return alpha_then * found.data + sigma_then * found.noise
    gained = max(0.0, sigma**2 - (sigma_then * alpha / alpha_then) ** 2)
    drawn = min(sigma_then, eta * sigma_then / sigma * math.sqrt(gained))
    return alpha_then * found.data + math.sqrt(sigma_then**2 - drawn**2) * found.noise + drawn * fresh


@dataclass(frozen=True)
class VariancePreserving:
    """DDPM's path: times T, …, 1 of noise and 0 of data, α² + σ² = 1, a variance β_k added at time k.

    Attributes:
        length: T.
        first, last: β_1 and β_T; those between lie on a line.
    """

    length: Count = 1000
    first: Positive = 1e-4
    last: Positive = 0.02

    def __post_init__(self) -> None:
        if not self.first <= self.last < 1.0:
            raise ValueError(f"schedule: expected first ≤ last < 1, got {self.first} and {self.last}")

    @cached_property
    def path(self) -> tuple[tuple[float, float], ...]:
        """(α, σ) at times 0 to T: α² = ∏ (1 − β)."""
        log_squares, found = 0.0, [(1.0, 0.0)]
        for k in range(self.length):
            log_squares += math.log1p(-self.first - (self.last - self.first) * k / max(1, self.length - 1))
            found.append((math.exp(0.5 * log_squares), math.sqrt(-math.expm1(log_squares))))
        return tuple(found)

    def nearest(self, t: float) -> int:
        """The time at which data and noise are mixed as at flow matching's t."""
        return min(range(self.length + 1), key=lambda k: abs(flow_time(*self.path[k]) - t))

    def times(self, steps: int) -> list[int]:
        """T = k_steps > … > k_1 = 1 and 0: closer near the data (quadratic), and every time if steps = T."""
        return [max(i, round(self.length * (i / steps) ** 2)) for i in range(steps, -1, -1)]


@dataclass(frozen=True)
class NoiseScales:
    """EDM's path: α = 1, and the noise's standard deviation σ is the time.

    Attributes:
        smallest, largest: σ between which the network is asked.
        bend: ρ of a sampler's scales; above 1 they lie closer near the data.
        mean, spread: of ln σ in training, a normal number.
    """

    smallest: Positive = 0.002
    largest: Positive = 80.0
    bend: Positive = 7.0
    mean: float = -1.2
    spread: Positive = 1.2

    def draw(self, n: int, device: torch.device) -> Tensor:
        """-> (n,) σ to learn at, from torch's global generator on the CPU."""
        return (self.mean + self.spread * normal((n,), device)).exp().clamp(self.smallest, self.largest)

    def position(self, sigma: Tensor) -> Tensor:
        """(B,) σ -> where ln σ lies between the smallest and the largest scale: a network's time in [0, 1]."""
        low, high = math.log(self.smallest), math.log(self.largest)
        return (sigma.clamp(self.smallest, self.largest).log() - low) / (high - low)

    def curved(self, steps: int) -> list[float]:
        """`steps` scales, falling to the smallest, and 0 (Karras et al. 2022, equation 5)."""
        high, low = self.largest ** (1.0 / self.bend), self.smallest ** (1.0 / self.bend)
        return [(high + i / max(1, steps - 1) * (low - high)) ** self.bend for i in range(steps)] + [0.0]

    def geometric(self, steps: int) -> list[float]:
        """`steps` scales with one ratio between neighbours, from the largest to the smallest."""
        ratio = self.smallest / self.largest
        return [self.largest * ratio ** (i / max(1, steps - 1)) for i in range(steps)]

    def at(self, times: Iterable[float]) -> set[float]:
        """The scales, at most the largest, at which data and noise are mixed as at flow matching's times."""
        return {self.largest if t * (1.0 + self.largest) <= 1.0 else (1.0 - t) / t for t in times}
