"""Kernel distance: squared maximum mean discrepancy with a cubic polynomial kernel.

References:
    M. Bińkowski, D. J. Sutherland, M. Arbel & A. Gretton (2018). Demystifying MMD GANs.
    https://arxiv.org/abs/1801.01401, section 4 (in Inception-v3 features: KID).
    A. Gretton et al. (2012). A Kernel Two-Sample Test. JMLR 13, eq. 3.
    W. Hoeffding (1948). A Class of Statistics with Asymptotically Normal Distribution. Ann. Math. Statist. 19.
    D. J. Sutherland & N. Deka (2019). Unbiased estimators for the variance of MMD estimators.
    https://arxiv.org/abs/1906.02104
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric, blocks
from genfam.metrics.estimators import refusal
from genfam.ranges import Several
from genfam.types import Estimate, Kind, Measurement

ENTRIES = 400_000  # of a kernel matrix at a time: they stay in a processor's cache
KernelFunction = Callable[[Tensor, Tensor], Tensor]


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (xᵀy / d + 1)³ (Bińkowski et al. section 4): (N, d), (M, d) -> (N, M) float64."""
    base = x.double() @ y.double().T / x.shape[1] + 1.0
    return base.square().mul_(base)


def squared_mmd(x: Tensor, y: Tensor, kernel: KernelFunction = cubic_kernel) -> Estimate:
    """The unbiased estimator over all pairs (Gretton et al. 2012 eq. 3; it may be negative), with standard errors.

    The variance is that of Hoeffding's decomposition, both orders, for sets of any two sizes:

        4/n Var g(x) + 4/m Var f(y) + 2 ζ_xx / n(n−1) + 2 ζ_yy / m(m−1) + 4 ζ_xy / nm,

    g(x) = E k(x, x′) − E k(x, y), f(y) likewise, ζ the mean square of the doubly centred kernel. The second order is
    all that is left where both distributions agree. Row means estimate g and f; the variance of their own noise, which
    is second order again, is taken off.

    Args:
        x: (N, d), N ≥ 2.
        y: (M, d), M ≥ 2.
        kernel: (N, d), (M, d) -> (N, M) float64, symmetric.
    """
    n, m = len(x), len(y)
    mean_x, zeta_x = _within(x, kernel)
    mean_y, zeta_y = _within(y, kernel)
    of_x, of_y, zeta = _between(x, y, kernel)
    value = float(mean_x.mean() + mean_y.mean() - 2 * of_x.mean())
    pairs_x, pairs_y, pairs = 2 * zeta_x / (n * (n - 1)), 2 * zeta_y / (m * (m - 1)), 4 * zeta / (n * m)
    spread_x, spread_y = 4 * float((mean_x - of_x).var()) / n, 4 * float((mean_y - of_y).var()) / m
    # Noise of the row means: of g, ζ_xx / (n − 1) + ζ_xy / m, which 4/n turns into twice the pairs' terms.
    first = max(spread_x + spread_y - 2 * (pairs_x + pairs_y + pairs), 0.0)
    of_draw = max(spread_x - 2 * pairs_x, 0.0)  # of samples alone: the mean over y is as it is
    variance = first + pairs_x + pairs_y + pairs
    return Estimate(value, math.sqrt(variance), n, math.sqrt(of_draw + pairs_x))


def _within(x: Tensor, kernel: KernelFunction) -> tuple[Tensor, float]:
    """(N,) each row's mean kernel with the others, and the mean square of the doubly centred kernel over pairs."""
    n = len(x)
    sums, squares = torch.zeros(n, dtype=torch.float64), 0.0
    for rows in blocks(n, max(1, ENTRIES // n)):
        k = kernel(x[rows], x[rows.start :])  # the kernel is symmetric: pairs with earlier rows have been counted
        own = k[:, : len(k)].fill_diagonal_(0.0)
        sums[rows] += k.sum(dim=1)
        sums[rows.start + len(k) :] += k[:, len(k) :].sum(dim=0)
        squares += 2 * float(k.flatten() @ k.flatten()) - float(own.square().sum())
    means = sums / (n - 1)
    return means, _centred_square(squares / (n * (n - 1)), means, means)


def _between(x: Tensor, y: Tensor, kernel: KernelFunction) -> tuple[Tensor, Tensor, float]:
    """(N,) and (M,) mean kernels with the other set, and the mean square of the doubly centred kernel."""
    n, m = len(x), len(y)
    of_x, of_y, squares = torch.empty(n, dtype=torch.float64), torch.zeros(m, dtype=torch.float64), 0.0
    for rows in blocks(n, max(1, ENTRIES // m)):
        k = kernel(x[rows], y)
        of_x[rows] = k.mean(dim=1)
        of_y += k.sum(dim=0) / n
        squares += float(k.flatten() @ k.flatten())
    return of_x, of_y, _centred_square(squares / (n * m), of_x, of_y)


def _centred_square(square: float, rows: Tensor, columns: Tensor) -> float:
    """E k̃² = E k² − E[(E k|x)²] − E[(E k|y)²] + (E k)²."""
    return max(square - float(rows.square().mean() + columns.square().mean() - rows.mean() * columns.mean()), 0.0)


class Kernel(Metric):
    """`kd_<extractor>`: lower is better; unbiased, so the oracle's value is zero up to its error."""

    def __init__(self, most: Several = 10_000) -> None:
        """`most`: the first so many of either set enter; time grows with the product of their sizes."""
        self.most = most

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where features are not finite."""
        name = f"kd_{evaluation.extractor.name}"
        reason = refusal(evaluation)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)]
        x, y = evaluation.sample_features[: self.most], evaluation.reference_features[: self.most]
        protocol = evaluation.protocol(kernel="(xy/d+1)^3, unbiased", most=self.most)
        return [Measurement(name, "1", False, squared_mmd(x, y), protocol, Kind.DISTANCE)]
