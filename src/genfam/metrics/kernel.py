"""Kernel distance: squared maximum mean discrepancy with a cubic polynomial kernel.

References:
    M. Bińkowski, D. J. Sutherland, M. Arbel & A. Gretton (2018). Demystifying MMD GANs.
    https://arxiv.org/abs/1801.01401, section 4 (in Inception-v3 features: KID).
    A. Gretton et al. (2012). A Kernel Two-Sample Test. JMLR 13, eq. 3.
    J. Shao & C. F. J. Wu (1989). A general theory for jackknife variance estimation. Ann. Statist. 17.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import refusal
from genfam.ranges import Several
from genfam.types import Estimate, Kind, Measurement


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (xᵀy / d + 1)³ (Bińkowski et al. section 4): (N, d), (M, d) -> (N, M) float64."""
    return (x.double() @ y.double().T / x.shape[1] + 1.0) ** 3


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimator, Gretton et al. 2012 eq. 3; it may be negative.

    Args:
        x: (N, d), N ≥ 2.
        y: (M, d), M ≥ 2.
    """
    n, m = len(x), len(y)
    kxx, kyy, kxy = cubic_kernel(x, x), cubic_kernel(y, y), cubic_kernel(x, y)
    within_x = (kxx.sum() - kxx.trace()) / (n * (n - 1))
    within_y = (kyy.sum() - kyy.trace()) / (m * (m - 1))
    return float(within_x + within_y - 2 * kxy.mean())


def kernel_distance(x: Tensor, y: Tensor, subsets: int, size: int, generator: Generator) -> tuple[float, float]:
    """Mean of `squared_mmd` over random subsets, and its standard error.

    The subsets overlap, since they come from the same events, so std / √subsets alone would be far too small:
    variance ≈ std² (1 / subsets + size / (n − size)) with n the smaller of both sets (delete-d jackknife, Shao & Wu
    1989, d = n − size). Where both distributions agree it errs on the large side.

    Args:
        x: (N, d) features.
        y: (M, d) features.
        subsets: number of pairs of subsets, at least 2.
        size: events in each, at least 2 and fewer than min(N, M).
        generator: draws them without replacement.

    Raises:
        ValueError: `subsets` or `size` out of range.
    """
    smallest = min(len(x), len(y))
    if subsets < 2 or not 2 <= size < smallest:
        raise ValueError(f"expected subsets >= 2 and 2 <= size < {smallest}, got subsets={subsets}, size={size}")
    values = torch.empty(subsets, dtype=torch.float64)
    for i in range(subsets):
        rows_x = torch.randperm(len(x), generator=generator)[:size]
        rows_y = torch.randperm(len(y), generator=generator)[:size]
        values[i] = squared_mmd(x[rows_x], y[rows_y])
    stderr = float(values.std()) * math.sqrt(1 / subsets + size / (smallest - size))
    return float(values.mean()), stderr


class Kernel(Metric):
    """`kd_<extractor>`: lower is better; unbiased, so the oracle's value is zero up to its error."""

    def __init__(self, subsets: Several = 50, subset_size: Several = 100) -> None:
        """`subsets` pairs of `subset_size` events (at most half of what there is; the fingerprint says)."""
        self.subsets, self.subset_size = subsets, subset_size

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where features are not finite."""
        name = f"kd_{evaluation.extractor.name}"
        reason = refusal(evaluation, at_least=4)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)]
        x, y = evaluation.sample_features, evaluation.reference_features
        size = min(self.subset_size, min(len(x), len(y)) // 2)
        value, stderr = kernel_distance(x, y, self.subsets, size, evaluation.generator(1))
        protocol = evaluation.protocol(kernel="(xy/d+1)^3, unbiased", subsets=f"{self.subsets}x{size}")
        return [Measurement(name, "1", False, Estimate(value, stderr, len(x)), protocol, Kind.DISTANCE)]
