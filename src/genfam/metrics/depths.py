"""Fréchet and kernel distances between features of several depths of one network.

Most of the variance of a classifier's last features lies between its classes: a distance there asks whether the classes
are clear and occur as often as they should. Early features see grain and edges, middle ones strokes and their places.
All are standardised, so that none outweighs the others by its scale.

Reference:
    R. Zhang, P. Isola, A. Efros, E. Shechtman & O. Wang (2018). The Unreasonable Effectiveness of Deep Features as a
    Perceptual Metric. https://arxiv.org/abs/1801.03924 (normalised activations of several layers, for pairs of images)
"""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.metrics.base import DEPTHS, Evaluation, Metric
from genfam.metrics.frechet import Moments, draw_error, frechet, frechet_distance
from genfam.metrics.kernel import squared_mmd
from genfam.ranges import Several
from genfam.types import Estimate, Kind, Measurement

JOINT = "depths"  # the features of all of them beside each other
RULERS = {"fd": "standardised", "kd": "standardised, (xy/d+1)^3, unbiased"}


class Depths(Metric):
    """`fd_<extractor>_<depth>` and `kd_<extractor>_<depth>`: `early`, `middle`, `late`, and `depths` for all together.

    Lower is better, and none has an upper bound. The Fréchet distances have a bias that grows with features over
    events, which the oracle shows; the kernel distances have none.
    """

    on_curve = True

    def __init__(self, most: Several = 10_000, groups: Several = 10) -> None:
        """`most`: the first so many of either set enter; `groups`: of the Fréchet distances' jackknife."""
        self.most, self.groups = most, groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Eight measurements; not applicable to an extractor with one kind of features, or to ones not finite."""
        own = evaluation.extractor.name
        mine, theirs = (
            {name: part[: self.most] for name, part in found.items()}
            for found in (evaluation.sample_depths, evaluation.reference_depths)
        )
        reason = ""
        if not mine:
            reason = f"extractor {own} has features of one depth"
        elif not all(torch.isfinite(part).all() for part in (*mine.values(), *theirs.values())):
            reason = "features are not finite"
        else:
            for found in (mine, theirs):
                found[JOINT] = torch.cat([found[name] for name in DEPTHS], dim=1)
        measured = []
        for ruler, about in RULERS.items():
            protocol = evaluation.protocol(depths=about, most=self.most)
            for depth in (*DEPTHS, JOINT):
                name = f"{ruler}_{own}_{depth}"
                if reason:
                    measured.append(Measurement.not_applicable(name, reason, kind=Kind.DISTANCE))
                    continue
                x, y = mine[depth], theirs[depth]
                estimate = squared_mmd(x, y) if ruler == "kd" else self._frechet(x, y, evaluation.in_training)
                measured.append(Measurement(name, "1", False, estimate, protocol, Kind.DISTANCE))
        return measured

    def _frechet(self, x: Tensor, y: Tensor, in_training: bool) -> Estimate:
        """With its errors, which a curve has no place for."""
        if in_training:
            a, b = Moments.of(x), Moments.of(y)
            return Estimate(frechet_distance(a.mean, a.covariance, b.mean, b.covariance), None, len(x))
        value, stderr = frechet(x, y, self.groups)
        return Estimate(value, stderr, len(x), draw_error(x, y, self.groups))
