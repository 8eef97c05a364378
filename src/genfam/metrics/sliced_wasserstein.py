"""Sliced Wasserstein distance between points.

Reference:
    N. Bonneel, J. Rabin, G. Peyré & H. Pfister (2015). Sliced and Radon Wasserstein Barycenters of Measures.
    https://doi.org/10.1007/s10851-014-0506-3 (here averaged over random directions).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import jackknife, split
from genfam.ranges import Count, Several
from genfam.types import Estimate, Kind, Measurement


def directions(dimensions: int, count: int, generator: Generator) -> Tensor:
    """(dimensions, count) float64 unit vectors, uniform on the sphere."""
    w = torch.randn(dimensions, count, generator=generator, dtype=torch.float64)
    unit: Tensor = w / torch.linalg.vector_norm(w, dim=0)
    return unit


def quantile_cells(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the quantile functions of n and of m equally weighted points are both constant.

    Returns:
        (C,) weights that sum to 1, (C,) rank in the first set, (C,) rank in the second; C = n where n = m.
    """
    # In units of 1 / (n m) every jump is an integer: no rounding decides which cell a quantile lies in.
    edges = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).sort().values
    width = edges.diff()
    start, width = edges[:-1][width > 0], width[width > 0]
    return width.double() / (n * m), start // m, start // n


def sliced_wasserstein(x: Tensor, y: Tensor, projections: Tensor, p: int = 2) -> float:
    """(mean over directions of W_p^p)^(1/p), each W_p exact by matching quantiles.

    Args:
        x: (N, d) points.
        y: (M, d) points; M may differ from N.
        projections: (d, P) unit vectors.
        p: order.
    """
    weights, rank_x, rank_y = quantile_cells(len(x), len(y))
    sorted_x = (x.double() @ projections).T.contiguous().sort(dim=1).values
    sorted_y = (y.double() @ projections).T.contiguous().sort(dim=1).values
    costs = (sorted_x[:, rank_x] - sorted_y[:, rank_y]).abs().pow(p) @ weights
    return float(costs.mean() ** (1 / p))


class SlicedWasserstein(Metric):
    """`sliced_wasserstein`, in the unit of the events; for continuous events, in the events themselves.

    The directions are the same for every family with one seed. The standard error (delete-a-group jackknife over both
    sets) is that of drawing other points, for these directions.
    """

    def __init__(self, projections: Count = 128, p: Count = 2, groups: Several = 10) -> None:
        """`projections` random directions, order `p`, `groups` of the jackknife."""
        self.projections, self.p, self.groups = projections, p, groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable to discrete events or where samples are not finite."""
        name, unit = "sliced_wasserstein", "event units"
        if evaluation.data.event.is_discrete:
            reason = "levels of discrete events are compared by total variation and in features"
            return [Measurement.not_applicable(name, reason, unit, Kind.DISTANCE)]
        x, y = evaluation.samples.flatten(1).double(), evaluation.reference.flatten(1).double()
        bad = int((~torch.isfinite(x).all(dim=1)).sum())
        if bad:
            return [Measurement.not_applicable(name, f"{bad} of {len(x)} samples are not finite", unit, Kind.DISTANCE)]
        w = directions(x.shape[1], self.projections, evaluation.generator(2))
        groups_x, groups_y = split(len(x), self.groups), split(len(y), self.groups)

        def without(g: int) -> float:
            keep_x, keep_y = torch.ones(len(x), dtype=torch.bool), torch.ones(len(y), dtype=torch.bool)
            keep_x[groups_x[g]] = False
            keep_y[groups_y[g]] = False
            return sliced_wasserstein(x[keep_x], y[keep_y], w, self.p)

        enough = min(len(x), len(y)) >= 2 * self.groups
        stderr = jackknife(without, self.groups) if enough else None
        estimate = Estimate(sliced_wasserstein(x, y, w, self.p), stderr, len(x))
        protocol = evaluation.protocol(features=False, p=self.p, projections=self.projections)
        return [Measurement(name, unit, False, estimate, protocol, Kind.DISTANCE)]
