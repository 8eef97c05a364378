"""Fréchet distance extrapolated to infinitely many events: what is left of it without its sample-size bias.

References:
    M. J. Chong & D. Forsyth (2020). Effectively Unbiased FID and Inception Score and where to find them.
    https://arxiv.org/abs/1911.07023, section 4: the bias is linear in 1/N, so a line through distances at several N
    is read off at 1/N = 0. Departure: both sets shrink together, for here the reference is as small as the samples
    and biases the distance as much.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import jackknife, refusal, split
from genfam.metrics.frechet import Moments, frechet_distance
from genfam.ranges import Count, CountOrNone, Several
from genfam.types import Estimate, Kind, Measurement

NAME = "fd_infinity"


def nested_moments(x: Tensor, sizes: list[int]) -> list[Moments]:
    """(N, d), ascending sizes -> moments of the first rows, each block looked at once."""
    found: list[Moments] = []
    shift, done = x.mean(dim=0), 0
    total, scatter = torch.zeros_like(shift), torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    for size in sizes:
        block = Moments.of(x[done:size], shift)
        total, scatter, done = total + block.total, scatter + block.scatter, size
        found.append(Moments(shift, size, total, scatter))
    return found


def frechet_infinity(x: Tensor, y: Tensor, generator: Generator, points: int = 8, repeats: int = 4) -> float:
    """The intercept of distances at shares f of both sets, regressed on 1/f.

    Args:
        x: (N, d) features.
        y: (M, d) features.
        generator: of the subsets, nested within each of `repeats` random orders.
        points: shares, with 1/f evenly spaced from 1 to 2: of fewer events the bias is no longer linear.
        repeats: random orders whose distances enter the regression.

    Returns:
        May be slightly negative, as every unbiased estimate of a zero.
    """
    x, y = x.double(), y.double()
    inverse = np.linspace(2.0, 1.0, points)
    sizes = [[max(2, round(len(z) / i)) for i in inverse] for z in (x, y)]
    distances = np.empty((repeats, points))
    for repeat in range(repeats):
        a, b = (
            nested_moments(z[torch.randperm(len(z), generator=generator)], own)
            for z, own in zip((x, y), sizes, strict=True)
        )
        distances[repeat] = [
            frechet_distance(p.mean, p.covariance, q.mean, q.covariance) for p, q in zip(a, b, strict=True)
        ]
    _, intercept = np.polyfit(np.tile(inverse, repeats), distances.ravel(), 1)
    return float(intercept)


class FrechetInfinity(Metric):
    """`fd_infinity`: lower is better; zero within its error for draws from what the reference was drawn from.

    That is so on known sources. The two splits of a finite set are no draws from one population: on digits and stacked
    digits the oracle's value is near zero, not zero.
    """

    def __init__(
        self, points: Several = 8, repeats: Count = 4, groups: Several = 10, jackknife_up_to: CountOrNone = 256
    ) -> None:
        """Sizes.

        Args:
            points: of the regression.
            repeats: random orders.
            groups: of the jackknife behind the standard error, which goes through the whole estimate `groups` times.
            jackknife_up_to: features; with more, as Inception's 2,048, there is no standard error (None).
        """
        self.points, self.repeats, self.groups, self.jackknife_up_to = points, repeats, groups, jackknife_up_to

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where features are not finite or the sets are too small.

        Too small: fewer than ten rows a group, or than four times the features, for at half of the events the bias must
        still be linear in 1/N.
        """
        reason = refusal(evaluation, at_least=10 * self.groups)
        if reason:
            return [Measurement.not_applicable(NAME, reason, kind=Kind.DISTANCE)]
        x, y = evaluation.sample_features, evaluation.reference_features
        fewest, d = min(len(x), len(y)) // 2, x.shape[1]
        if fewest < 2 * d:
            reason = (
                f"expected at least {4 * d} events for {d} features, got {min(len(x), len(y))}: the bias is not linear"
            )
            return [Measurement.not_applicable(NAME, reason, kind=Kind.DISTANCE)]

        def estimate(a: Tensor, b: Tensor) -> float:
            return frechet_infinity(a, b, evaluation.generator(5), self.points, self.repeats)

        def without(g: int) -> float:
            kept = [torch.ones(len(z), dtype=torch.bool) for z in (x, y)]
            for mask in kept:
                mask[split(len(mask), self.groups)[g]] = False
            return estimate(x[kept[0]], y[kept[1]])

        stderr = jackknife(without, self.groups) if x.shape[1] <= self.jackknife_up_to else None
        found = Estimate(estimate(x, y), stderr, len(x))
        protocol = evaluation.protocol(points=self.points, repeats=self.repeats)
        return [Measurement(NAME, "1", False, found, protocol, Kind.DISTANCE)]
