"""Guidance: samples that are more like their condition than the data are.

What is guided is a prediction; a velocity is an affine function of it, so that the guided velocity is that of the
guided prediction. A guided sampler draws from no density that training knows.

References:
    Ho, J. & Salimans, T. 2022. Classifier-free diffusion guidance. https://arxiv.org/abs/2207.12598 (equation 6, where
        our weight is 1 + w)
    Karras, T. et al. 2024. Guiding a diffusion model with a bad version of itself. https://arxiv.org/abs/2406.02507
        (equation 3: away from a weaker model of the same condition)
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""State (B, *shape) and times (B,) -> prediction (B, *shape)."""


def guided(strong: Predict, weak: Predict, weight: float) -> Predict:
    """`weak` + weight × (`strong` − `weak`); `strong` alone at weight 1.

    Args:
        strong: the model, given its condition.
        weak: the model given the null label, or a weaker model given the same condition.
        weight: above 1 leads away from what the weak one predicts.
    """
    if weight == 1.0:
        return strong

    def predict(x: Tensor, t: Tensor) -> Tensor:
        away_from = weak(x, t)
        return away_from + weight * (strong(x, t) - away_from)

    return predict
