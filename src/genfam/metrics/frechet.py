"""Fréchet distance between Gaussians fitted to features.

References:
    D. C. Dowson & B. V. Landau (1982). The Fréchet distance between multivariate normal distributions.
    https://doi.org/10.1016/0047-259X(82)90077-X
    M. Heusel et al. (2017). GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium.
    https://arxiv.org/abs/1706.08500, eq. 6 (in Inception-v3 features: FID).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric, blocks
from genfam.metrics.estimators import jackknife, refusal, split
from genfam.ranges import Count, Several
from genfam.types import Estimate, Kind, Measurement


@dataclass(frozen=True)
class Moments:
    """Sums from which mean and covariance follow; a group's can be taken away again without a second pass.

    Attributes:
        shift: (d,) what the sums are centred on, against cancellation.
        n: number of rows.
        total: (d,) sum of x − shift.
        scatter: (d, d) sum of (x − shift)(x − shift)ᵀ.
    """

    shift: Tensor
    n: int
    total: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, x: Tensor, shift: Tensor | None = None) -> Moments:
        """(N, d) -> moments in float64, centred on `shift` (default: the mean)."""
        x = x.double()
        shift = x.mean(dim=0) if shift is None else shift
        centred = x - shift
        return cls(shift, len(x), centred.sum(dim=0), centred.T @ centred)

    def without(self, group: Moments) -> Moments:
        """The moments of the rows that are not in `group` (of the same shift)."""
        return Moments(self.shift, self.n - group.n, self.total - group.total, self.scatter - group.scatter)

    @property
    def mean(self) -> Tensor:
        """(d,)."""
        return self.shift + self.total / self.n

    @property
    def covariance(self) -> Tensor:
        """(d, d), with n − 1 as is the custom (pytorch-fid, torch-fidelity); zero for a single row."""
        outer = torch.outer(self.total, self.total) / self.n
        return (self.scatter - outer) / max(self.n - 1, 1)


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """‖μ1 − μ2‖² + tr(S1 + S2 − 2 (S1^½ S2 S1^½)^½) (Dowson & Landau), in float64.

    Two symmetric eigendecompositions: with S1 = V diag(w) Vᵀ and R = V diag(√w), RᵀS2R has the eigenvalues of
    S1^½ S2 S1^½. Negative ones are rounding and become zero, so rank-deficient covariances (fewer events than
    features, constant or collinear features) give no NaN.

    Args:
        mean1: (d,).
        covariance1: (d, d) symmetric positive semidefinite.
        mean2: (d,).
        covariance2: (d, d) symmetric positive semidefinite.
    """
    mean1, mean2 = mean1.double(), mean2.double()
    s1, s2 = covariance1.double(), covariance2.double()
    w, v = torch.linalg.eigh(s1)
    root = v * w.clamp_min(0).sqrt()
    cross = torch.linalg.eigvalsh(root.T @ s2 @ root).clamp_min(0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + s1.trace() + s2.trace() - 2 * cross
    return max(float(distance), 0.0)


def frechet(x: Tensor, y: Tensor, groups: int = 10) -> tuple[float, float | None]:
    """Fréchet distance between two sets of features, and its standard error.

    The error is a delete-a-group jackknife: the same interleaved tenth is left out of both sets at a time, by
    subtracting its moment sums. It says how far another draw of samples and reference would lead, not how large the
    bias is that both share (of order d / N; the oracle's value shows it).

    Args:
        x: (N, d) features.
        y: (M, d) features.
        groups: of the jackknife; without an error (None) where a set has fewer than two rows per group.
    """
    return _between(Moments.of(x), Moments.of(y)), _error(x, y, groups, reference_too=True)


def draw_error(x: Tensor, y: Tensor, groups: int = 10) -> float | None:
    """As the error of `frechet`, but groups of x alone are left out: what another draw of samples would show."""
    return _error(x, y, groups, reference_too=False)


def _between(a: Moments, b: Moments) -> float:
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _error(x: Tensor, y: Tensor, groups: int, *, reference_too: bool) -> float | None:
    if min(len(x), len(y)) < 2 * groups:
        return None
    all_x, all_y = Moments.of(x), Moments.of(y)

    def rest(z: Tensor, moments: Moments, g: int) -> Moments:
        return moments.without(Moments.of(z[split(len(z), groups)[g]], moments.shift))

    return jackknife(lambda g: _between(rest(x, all_x, g), rest(y, all_y, g) if reference_too else all_y), groups)


class Frechet(Metric):
    """`fd_<extractor>`: lower is better; its oracle value is not zero but the bias of finite samples."""

    on_curve = True

    def __init__(self, groups: Several = 10) -> None:
        """`groups`: of the jackknife behind the standard error."""
        self.groups = groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where features are not finite."""
        name = evaluation.extractor.distance_name
        reason = refusal(evaluation)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.HEADLINE)]
        x, y = evaluation.sample_features, evaluation.reference_features
        value, stderr = frechet(x, y, self.groups)
        estimate = Estimate(value, stderr, len(evaluation.samples), draw_error(x, y, self.groups))
        return [Measurement(name, "1", False, estimate, evaluation.protocol(), Kind.HEADLINE)]


class FrechetToTraining(Metric):
    """`train_<distance>`: against the whole training split, as most papers measure FID on CIFAR-10.

    It rewards a model that copies what it was trained on, so it stands beside the distance to held-out data, never in
    its place. The features of the training split are computed in blocks, since it may be made when looked at.
    """

    def __init__(self, groups: Several = 10, block: Count = 5000) -> None:
        """`groups`: of the jackknife behind the standard error; `block`: training events at a time."""
        self.groups, self.block = groups, block

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where features are not finite."""
        name = f"train_{evaluation.extractor.distance_name}"
        reason = refusal(evaluation)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)]
        train, features = evaluation.data.train, evaluation.extractor.features
        y = torch.cat([features(train[rows]) for rows in blocks(len(train), self.block)])
        x = evaluation.sample_features
        value, stderr = frechet(x, y, self.groups)
        estimate = Estimate(value, stderr, len(x), draw_error(x, y, self.groups))
        protocol = evaluation.protocol() | {"reference": f"train:{len(train)}"}
        return [Measurement(name, "1", False, estimate, protocol, Kind.DISTANCE)]
