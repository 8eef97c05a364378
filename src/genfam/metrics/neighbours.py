"""Precision, recall, density and coverage from nearest neighbours in feature space.

References:
    T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen & T. Aila (2019). Improved Precision and Recall Metric for
    Assessing Generative Models. https://arxiv.org/abs/1904.06991, eqs. 1 and 2.
    M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi & J. Yoo (2020). Reliable Fidelity and Diversity Metrics for Generative
    Models. https://arxiv.org/abs/2002.09797, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric, blocks
from genfam.metrics.estimators import mean, refusal, share
from genfam.ranges import Count, Several
from genfam.types import Kind, Measurement

KINDS = {
    "precision": Kind.FIDELITY, "recall": Kind.COVERAGE, "density": Kind.FIDELITY, "coverage": Kind.COVERAGE,
}  # fmt: skip


@dataclass(frozen=True)
class Neighbours:
    """Per event, what the four scores average.

    Attributes:
        precise: (N,) bool: the sample lies in a real event's ball.
        density: (N,) float64: number of real balls that hold the sample, divided by k.
        recalled: (M,) bool: the real event lies in a sample's ball.
        covered: (M,) bool: the real event's ball holds a sample.
    """

    precise: Tensor
    density: Tensor
    recalled: Tensor
    covered: Tensor


def distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, d), (M, d) float64 -> (N, M) Euclidean distances by differences.

    Matrix products would be faster, and wrong: of events far from the origin, or beside one far outlier, they leave
    little but rounding.
    """
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def radii_of(x: Tensor, k: int, block_size: int) -> Tensor:
    """(N, d) -> (N,) distance to the k-th nearest other row."""
    radii = torch.empty(len(x), dtype=x.dtype)
    for rows in blocks(len(x), block_size):
        # The row itself is among its k + 1 nearest.
        radii[rows] = distances(x[rows], x).topk(k + 1, dim=1, largest=False).values[:, -1]
    return radii


def neighbours(real: Tensor, fake: Tensor, k: int = 5, block_size: int = 1000) -> Neighbours:
    """The four scores' terms; memory grows with block_size · max(N, M), not with N · M.

    Balls are closed (≤, as in Kynkäänniemi et al. eq. 1): on discrete events whole neighbourhoods lie at distance
    zero, and open balls would be empty. On continuous features that makes no difference.

    Args:
        real: (M, d) features of real events, M > k.
        fake: (N, d) features of samples, N > k.
        k: neighbours that a ball reaches.
        block_size: rows at a time.

    Raises:
        ValueError: a set has no k-th neighbour.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"expected more than k = {k} rows in both sets, got {len(real)} and {len(fake)}")
    real, fake = real.double(), fake.double()
    real_radii, fake_radii = radii_of(real, k, block_size), radii_of(fake, k, block_size)
    balls = torch.zeros(len(fake), dtype=torch.float64)
    recalled = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for rows in blocks(len(real), block_size):
        between = distances(real[rows], fake)
        in_real = between <= real_radii[rows, None]
        balls += in_real.sum(dim=0)
        covered[rows] = in_real.any(dim=1)
        recalled[rows] = (between <= fake_radii[None, :]).any(dim=1)
    return Neighbours(balls > 0, balls / k, recalled, covered)


class NearestNeighbours(Metric):
    """`precision`, `density` (fidelity), `recall`, `coverage` (diversity): higher is better.

    Standard errors are conditional on the balls: over samples for the first two, over real events for the others.
    """

    on_curve = True

    def __init__(self, k: Count = 5, most: Several = 2500, block_size: Count = 1000) -> None:
        """Sizes.

        Args:
            k: neighbours; 5 is the default of Naeem et al.
            most: the first so many of either set enter: time grows with the product of their sizes.
            block_size: bounds memory only.
        """
        self.k, self.most, self.block_size = k, most, block_size

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Four measurements; not applicable where features are not finite or fewer than k + 1."""
        reason = refusal(evaluation, at_least=self.k + 1)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=kind) for name, kind in KINDS.items()]
        real, fake = evaluation.reference_features[: self.most], evaluation.sample_features[: self.most]
        found = neighbours(real, fake, self.k, self.block_size)
        estimates = {
            "precision": share(found.precise),
            "recall": share(found.recalled),
            "density": mean(found.density),
            "coverage": share(found.covered),
        }
        protocol = evaluation.protocol(k=self.k, most=self.most)
        return [Measurement(name, "1", True, found, protocol, KINDS[name]) for name, found in estimates.items()]
