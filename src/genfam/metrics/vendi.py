"""Vendi score: the effective number of different samples.

Reference:
    D. Friedman & A. B. Dieng (2023). The Vendi Score: A Diversity Evaluation Metric for Machine Learning.
    https://arxiv.org/abs/2210.02410, definition 3.1 and section 3 (from the features' covariance where the kernel is
    linear).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import jackknife, refusal, split
from genfam.ranges import Several
from genfam.types import Estimate, Kind, Measurement

NAMES = ("vendi", "vendi_ratio")


def directions(x: Tensor) -> Tensor:
    """(N, d) features -> the same with length one, so that their products are cosines; rows of zeros stay."""
    x = x.double()
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / torch.where(lengths > 0, lengths, 1.0)


def vendi_score(moment: Tensor) -> float:
    """exp(−Σ λ log λ), λ the eigenvalues of K / n: of n equal events 1, of n orthogonal ones n.

    Args:
        moment: (d, d) Σ x xᵀ / n of features of length one, which has the eigenvalues of the (n, n) matrix of cosines
            over n, apart from zeros.
    """
    eigenvalues = torch.linalg.eigvalsh(moment).clamp_min(0)
    return math.exp(-float(torch.xlogy(eigenvalues, eigenvalues).sum()))


class Vendi(Metric):
    """`vendi` of the samples, and `vendi_ratio` to that of as many held-out events: 1 is right.

    Neither has a direction: junk is diverse. The kernel is the cosine between features, as in the paper; rectified
    features have no negative ones, which keeps the score low.
    """

    def __init__(self, groups: Several = 10) -> None:
        """`groups`: of the jackknife."""
        self.groups = groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Two measurements; not applicable where features are not finite."""
        reason = refusal(evaluation)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.COVERAGE) for name in NAMES]
        n = min(len(evaluation.samples), len(evaluation.reference))
        mine, theirs = directions(evaluation.sample_features), directions(evaluation.reference_features[:n])
        found = []
        protocol = evaluation.protocol(kernel="cosine of features")
        for name, x, y in ((NAMES[0], mine, None), (NAMES[1], mine[:n], theirs)):
            estimate = self._estimate(x, y)
            found.append(Measurement(name, "1", None, estimate, protocol, Kind.COVERAGE))
        return found

    def _estimate(self, x: Tensor, y: Tensor | None) -> Estimate:
        """The score, or its ratio to that of `y`, with the error of leaving groups out of both."""
        value = self._score(x) / (1.0 if y is None else self._score(y))
        if len(x) < 2 * self.groups:
            return Estimate(value, None, len(x))

        def without(g: int) -> float:
            return self._score(x, g) / (1.0 if y is None else self._score(y, g))

        return Estimate(value, jackknife(without, self.groups), len(x))

    def _score(self, x: Tensor, left_out: int | None = None) -> float:
        total, n = x.T @ x, len(x)
        if left_out is not None:
            group = x[split(n, self.groups)[left_out]]
            total, n = total - group.T @ group, n - len(group)
        return vendi_score(total / n)
