"""What single pixels say: exact black and white, the histogram of levels, roughness.

A classifier's features are nearly blind to small errors of this kind: to them a dark grey is black enough.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import jackknife, split
from genfam.types import Estimate, Kind, Measurement

GROUPS = 10  # of the jackknife


def black(x: Tensor, levels: int) -> Tensor:
    """(N, C, H, W) levels -> (N,) share of pixels at the lowest."""
    return (x == 0).double().flatten(1).mean(dim=1)


def white(x: Tensor, levels: int) -> Tensor:
    """(N, C, H, W) levels -> (N,) share of pixels at the highest."""
    return (x == levels - 1).double().flatten(1).mean(dim=1)


def roughness(x: Tensor, levels: int) -> Tensor:
    """(N, C, H, W) levels -> (N,) mean squared difference of neighbours, the whole range being 1.

    Squared: blur spreads an edge without changing the sum of absolute differences across it.
    """
    pixels = x.double() / (levels - 1)
    across, down = pixels.diff(dim=-1).square().flatten(1), pixels.diff(dim=-2).square().flatten(1)
    return torch.cat([across, down], dim=1).mean(dim=1)


def histograms(x: Tensor, levels: int) -> Tensor:
    """(N, C, H, W) levels -> (N, levels) share of pixels at each."""
    flat = x.flatten(1).long()
    counts = torch.zeros(len(x), levels, dtype=torch.float64)
    return counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float64)) / flat.shape[1]


class PixelStatistics(Metric):
    """`black_ratio`, `white_ratio`, `roughness_ratio` (1 is right) and `level_total_variation` (0 is right).

    Ratios are of the samples' mean to the reference's.
    """

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Four measurements; not applicable where events are not images with discrete levels of listed levels."""
        event = evaluation.data.event
        names = ("black_ratio", "white_ratio", "roughness_ratio", "level_total_variation")
        if event.levels is None or len(event.shape) != 3:
            return [
                Measurement.not_applicable(name, "events are not images with discrete levels", kind=Kind.FIDELITY)
                for name in names
            ]
        levels, protocol = event.levels, evaluation.protocol(features=False)
        groups = split(len(evaluation.samples), GROUPS)

        def estimated(statistic: Callable[[Tensor], float], per_event: Tensor) -> Estimate:
            def without(g: int) -> float:
                kept = torch.ones(len(per_event), dtype=torch.bool)
                kept[groups[g]] = False
                return statistic(per_event[kept])

            return Estimate(statistic(per_event), jackknife(without, GROUPS), len(per_event))

        def mean(each: Tensor) -> float:
            return float(each.mean())

        found = []
        for name, measure in zip(names, (black, white, roughness), strict=False):
            truth = float(measure(evaluation.reference, levels).mean())
            if truth == 0.0:
                reason = "the reference has none"
                found.append(Measurement.not_applicable(name, reason, kind=Kind.FIDELITY))
                continue
            ratio = estimated(mean, measure(evaluation.samples, levels) / truth)
            found.append(Measurement(name, "1", None, ratio, protocol, Kind.FIDELITY))
        histogram = histograms(evaluation.reference, levels).mean(dim=0)

        def variation(each: Tensor) -> float:
            return 0.5 * float((each.mean(dim=0) - histogram).abs().sum())

        distance = estimated(variation, histograms(evaluation.samples, levels))
        return [*found, Measurement(names[3], "1", False, distance, protocol, Kind.DISTANCE)]
