"""Fréchet distance with the samples' classes weighted as often as the reference has them: fidelity without masses.

In the features of a classifier the classes lie far apart, and some percent in their frequencies outweigh what the
images of each class look like: two random parts of one set differ by several times what is left at equal frequencies.

References:
    H. Shimodaira (2000). Improving predictive inference under covariate shift by weighting the log-likelihood
    function. https://doi.org/10.1016/S0378-3758(00)00115-4 (weights p / q).
"""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import jackknife, refusal, split
from genfam.metrics.frechet import Moments, distance_name, frechet_distance
from genfam.metrics.modes import mode_counts
from genfam.types import Estimate, Measurement


def class_weights(classes: Tensor, reference: Tensor, count: int) -> Tensor:
    """(N,) and (M,) class indices below `count` -> (N,) float64 weights p / q of mean 1.

    Raises:
        ValueError: the reference has a class that the samples have not: no weight can make up for it.
    """
    have, want = mode_counts(classes, count), mode_counts(reference, count)
    missing = int(((want > 0) & (have == 0)).sum())
    if missing:
        raise ValueError(f"no sample is of {missing} of the reference's {int((want > 0).sum())} classes")
    ratio = (want.double() / len(reference)) / (have.double() / len(classes)).clamp_min(1e-300)
    return ratio[classes]


def weighted_distance(x: Tensor, weights: Tensor, y: Tensor) -> float:
    """Fréchet distance of (N, d) features with (N,) weights of mean 1 to (M, d) features.

    With all weights 1 it is the plain one.
    """
    x = x.double()
    mean = (weights[:, None] * x).mean(dim=0)
    centred = x - mean
    covariance = (weights[:, None] * centred).T @ centred / max(len(x) - 1, 1)
    reference = Moments.of(y)
    return frechet_distance(mean, covariance, reference.mean, reference.covariance)


class FrechetReweighted(Metric):
    """`reweighted_<distance>`: lower is better; beside the distance, whose other part is the classes' frequencies.

    It forgives what it weighs away: a family that draws few of a class is not punished, which is why it stands in no
    suite. What the frequencies cost alone, `mode_reverse_kl` says.
    """

    def __init__(self, groups: int = 10) -> None:
        """`groups`: of the jackknife behind the standard error."""
        self.groups = groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement.

        Not applicable where features are not finite, the extractor has no classes, or the samples lack a class of the
        reference; without an error where they lack it once a group is left out.
        """
        extractor = evaluation.extractor
        name = f"reweighted_{distance_name(extractor)}"
        reason = refusal(evaluation)
        if reason is None and extractor.n_classes == 0:
            reason = f"extractor {extractor.name} has no classes"
        if reason:
            return [Measurement.not_applicable(name, reason)]
        x, y = evaluation.sample_features, evaluation.reference_features
        of_x, of_y = (extractor.classify(z).cpu() for z in (evaluation.samples, evaluation.reference))

        def distance(rows_x: Tensor, rows_y: Tensor) -> float:
            weights = class_weights(of_x[rows_x], of_y[rows_y], extractor.n_classes)
            return weighted_distance(x[rows_x], weights, y[rows_y])

        def without(group: int) -> float:
            kept = [torch.ones(len(z), dtype=torch.bool) for z in (x, y)]
            for mask in kept:
                mask[split(len(mask), self.groups)[group]] = False
            return distance(*kept)

        try:
            value = distance(torch.ones(len(x), dtype=torch.bool), torch.ones(len(y), dtype=torch.bool))
        except ValueError as error:
            return [Measurement.not_applicable(name, str(error))]
        try:
            stderr = jackknife(without, self.groups) if min(len(x), len(y)) >= 2 * self.groups else None
        except ValueError:
            stderr = None
        found = Estimate(value, stderr, len(x))
        return [Measurement(name, "1", False, found, f"{evaluation.fingerprint}|frechet_reweighted")]
