"""Fréchet distance within classes: blind to how often each class occurs, and to how far apart classes lie.

Every event is taken relative to the held-out events of the class that the extractor's classifier sees in it, and
samples are weighted so that each class has as much mass as among the held-out events. What is left is what events of a
class look like: their mean, and how they vary about it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import jackknife, refusal, split
from genfam.metrics.frechet import frechet_distance
from genfam.ranges import Several
from genfam.types import Estimate, Kind, Measurement

FEWEST = 10  # held-out events of a class, for the class to count


class WithinClassDistance(Metric):
    """`fd_<extractor>_class_centred`: lower is better; classes of few held-out events or no samples are left out.

    A missing class is not seen, as its frequency is not: `modes_covered` and `mode_reverse_kl` are for that.
    """

    on_curve = True

    def __init__(self, groups: Several = 10) -> None:
        """`groups`: of the jackknife."""
        self.groups = groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where the extractor sees no classes or features are not finite."""
        extractor = evaluation.extractor
        name = f"{extractor.distance_name}_class_centred"
        reason = f"extractor {extractor.name} sees no classes" if not extractor.n_classes else refusal(evaluation)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)]
        x, y = evaluation.sample_features, evaluation.reference_features
        of_x, of_y = evaluation.sample_classes, evaluation.reference_classes
        value = centred_distance(x, y, of_x, of_y)
        if value is None:
            reason = f"no class has {FEWEST} held-out events and a sample"
            return [Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)]

        def without(g: int) -> float:
            rest = [torch.ones(len(z), dtype=torch.bool) for z in (x, y)]
            for mask in rest:
                mask[split(len(mask), self.groups)[g]] = False
            found = centred_distance(x[rest[0]], y[rest[1]], of_x[rest[0]], of_y[rest[1]])
            return value if found is None else found

        enough = min(len(x), len(y)) >= 2 * self.groups and not evaluation.in_training
        estimate = Estimate(value, jackknife(without, self.groups) if enough else None, len(x))
        protocol = evaluation.protocol(classes=extractor.n_classes, fewest=FEWEST)
        return [Measurement(name, "1", False, estimate, protocol, Kind.DISTANCE)]


def centred_distance(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor) -> float | None:
    """Fréchet distance of events less the mean of the held-out events of their class, weighted by held-out shares.

    A held-out event is taken relative to the *others* of its class, as a sample is, or it would seem too near its mean.

    Args:
        x: (N, d) features of samples.
        y: (M, d) of held-out events.
        of_x: (N,) int64 classes.
        of_y: (M,) int64 classes.

    Returns:
        None where no class has `FEWEST` held-out events and a sample.
    """
    x, y = x.double(), y.double()
    count = int(max(of_x.max(), of_y.max())) + 1
    mine, theirs = of_x.bincount(minlength=count), of_y.bincount(minlength=count)
    counted = (theirs >= FEWEST) & (mine > 0)
    if not counted.any():
        return None
    means = torch.zeros(count, y.shape[1], dtype=torch.float64).index_add_(0, of_y, y) / theirs.clamp_min(1)[:, None]
    keep_x, keep_y = counted[of_x], counted[of_y]
    x, y, of_x, of_y = x[keep_x], y[keep_y], of_x[keep_x], of_y[keep_y]
    others = theirs[of_y].double()
    weights = theirs[of_x].double() / mine[of_x]
    apart = (y - means[of_y]) * (others / (others - 1))[:, None]
    return frechet_distance(*_moments(x - means[of_x], weights), *_moments(apart, torch.ones_like(others)))


def _moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """(d,) mean and (d, d) covariance of weighted rows; weights are frequencies, of the sum's scale alone."""
    share = weights / weights.sum()
    mean = share @ x
    centred = x - mean
    return mean, (centred * share[:, None]).T @ centred / (1 - share.square().sum()).clamp_min(1e-12)
