"""Gradient penalties of a critic.

References:
    Mescheder, L., Geiger, A. & Nowozin, S. 2018. https://arxiv.org/abs/1801.04406 (equation 9, R1)
    Huang, Y. et al. 2024. R3GAN. https://arxiv.org/abs/2501.05441 (equations 3 and 4, R1 and R2)
    Gulrajani, I. et al. 2017. WGAN-GP. https://arxiv.org/abs/1704.00028 (equation 3)
    Karras, T. et al. 2020. StyleGAN2. https://arxiv.org/abs/1912.04958 (section 3.1, lazy penalties)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genfam.ranges import Count, NotNegative, Share
from genfam.seeds import uniform

KINDS = ("none", "r1", "r1_r2", "wgan_gp")


@dataclass(frozen=True)
class GradientPenalty:
    """A penalty on the critic's gradient with respect to events.

    Attributes:
        kind: `none`, `r1` (on real events), `r1_r2` (on generated ones too; each γ/2 · E‖∇D‖²) or `wgan_gp`
            (γ · E(‖∇D‖ − 1)² between them).
        weight: γ at the start.
        final: γ from `burn_in` on, approached geometrically; None = constant.
        burn_in: share of training over which γ falls; 0 = it is `final` from the start.
        interval: the penalty is taken on every n-th update only (lazy), then n times as strong.
    """

    kind: Literal["none", "r1", "r1_r2", "wgan_gp"] = "r1_r2"
    weight: NotNegative = 0.1
    final: NotNegative | None = None
    burn_in: Share = 0.5
    interval: Count = 4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"penalty.kind: expected one of {list(KINDS)}, got {self.kind!r}")
        if self.interval < 1:
            raise ValueError(f"penalty.interval: expected at least 1, got {self.interval}")

    @property
    def period(self) -> int:
        """Updates after which an update costs the same again."""
        return 1 if self.kind == "none" else self.interval

    def weight_at(self, progress: float) -> float:
        """γ at this share of training."""
        if self.final is None:
            return self.weight
        share = min(1.0, progress / self.burn_in) if self.burn_in else 1.0
        return float(self.weight ** (1 - share) * self.final**share)

    def is_due(self, updates: int) -> bool:
        """Whether it is taken after so many updates."""
        return self.kind != "none" and updates % self.interval == 0

    def __call__(self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float) -> Tensor:
        """The weighted penalty, as strong as the interval makes it.

        Args:
            score: (B, *event) encoded -> (B,) scores.
            real: (B, *event) encoded.
            fake: likewise.
            progress: share of training that is done.
        """
        weight = self.interval * self.weight_at(progress)
        if self.kind == "wgan_gp":
            mix = uniform((len(real),), real.device).view(-1, *[1] * (real.dim() - 1))
            norm = squared_gradient_norm(score, mix * real + (1 - mix) * fake).clamp_min(1e-12).sqrt()
            return weight * (norm - 1).square().mean()
        if self.kind == "r1":
            return 0.5 * weight * squared_gradient_norm(score, real).mean()
        # the mean over both halves is half the sum of the two penalties
        return weight * squared_gradient_norm(score, torch.cat([real, fake])).mean()


def squared_gradient_norm(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B,): ‖∇_x score(x)‖², differentiable with respect to the critic."""
    x = x.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
    return grad.flatten(1).square().sum(dim=1)
