"""Does the model copy its training split? The C_T test, the share of authentic samples, and how near samples lie.

Fréchet distances and neighbour scores reward a copier: its samples are real data.

References:
    C. Meehan, K. Chaudhuri & S. Dasgupta (2020). A Non-Parametric Test to Detect Data-Copying in Generative Models.
    https://arxiv.org/abs/2004.05675, sections 2.2 (Z_U) and 2.3 (C_T: the mean over cells).
    A. M. Alaa, B. van Breugel, E. Saveliev & M. van der Schaar (2022). How Faithful is your Synthetic Data?
    https://arxiv.org/abs/2102.08921, section 3.3 (authenticity).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import KMeans
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric, blocks
from genfam.metrics.estimators import mean, refusal, share
from genfam.ranges import Count, Share
from genfam.types import Estimate, Kind, Measurement

NAMES = ("data_copying", "authenticity", "train_distance_ratio")
ENTRIES = 4_000_000  # of a matrix of distances at a time


def nearest(x: Tensor, to: Tensor, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(N, d), (M, d) float64 -> (N,) distance to the nearest row of `to`, and (N,) its index; memory does not grow.

    A matrix product finds the nearest, seconds for 10,000 × 60,000 rows, and its distance is then computed by
    differences: a copy is at distance 0. Products are of the rows less the median of `to`, so that neither a place far
    from the origin nor an outlier leaves nothing but rounding; among rows whose distances differ by less than 10⁻⁷ of
    the spread of `to`, any may be called the nearest.

    Args:
        x: rows that look for their neighbours.
        to: rows among which they look.
        own: (N,) index of a row of `to` that each must not find: itself.
    """
    centre = to.median(dim=0).values
    centred = to - centre
    squares = centred.square().sum(dim=1)
    found = torch.empty(len(x), dtype=torch.int64)
    for rows in blocks(len(x), max(1, ENTRIES // len(to))):
        scores = torch.addmm(squares, x[rows] - centre, centred.T, alpha=-2.0)
        if own is not None:
            scores[torch.arange(len(scores)), own[rows]] = math.inf
        found[rows] = scores.argmin(dim=1)
    return torch.linalg.vector_norm(x - to[found], dim=1), found


def z_u(generated: NDArray[np.float64], held_out: NDArray[np.float64]) -> float:
    """Mann-Whitney's U of distances to the training split, as a standard score corrected for ties.

    Negative: generated events lie closer to the training split than held-out ones do. 0 where all are equal.
    """
    n, m = len(generated), len(held_out)
    ranks = stats.rankdata(np.concatenate([generated, held_out]))
    u = float(ranks[:n].sum()) - n * (n + 1) / 2.0
    ties = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    spread = n * m / 12.0 * ((n + m + 1) - float((ties**3 - ties).sum()) / ((n + m) * (n + m - 1)))
    return (u - n * m / 2.0) / math.sqrt(spread) if spread > 0.0 else 0.0


def data_copying(
    train: Tensor,
    held_out: tuple[Tensor, Tensor],
    generated: tuple[Tensor, Tensor],
    cells: int,
    least_share: float,
    seed: int,
) -> tuple[float, float]:
    """C_T: the mean of Z_U over the k-means cells of the training split, weighted by the held-out events in each.

    Cells with fewer than `least_share` of the generated events, or with none held out, are left out, as in Meehan
    et al. section 2.3.

    Args:
        train: (T, d) features.
        held_out: (M, d) and (M,) distance to the training split.
        generated: (N, d) and (N,), likewise.
        cells: of k-means.
        least_share: of the generated events.
        seed: of k-means.

    Returns:
        C_T (below −3: copies; far above 0: too far from the data) and its standard error √Σw² / Σw, the cells'
        scores having a variance of 1 each; (NaN, NaN) where no cell counts.
    """
    kmeans = KMeans(n_clusters=cells, n_init=1, random_state=seed).fit(train.numpy())
    (theirs, theirs_away), (mine, mine_away) = (
        (kmeans.predict(x.numpy()), distance.numpy()) for x, distance in (held_out, generated)
    )
    scores, weights = [], []
    for c in range(cells):
        q, p = mine_away[mine == c], theirs_away[theirs == c]
        if len(p) and len(q) >= max(1.0, least_share * len(mine)):
            scores.append(z_u(q, p))
            weights.append(len(p))
    if not scores:
        return math.nan, math.nan
    w = np.asarray(weights, dtype=np.float64)
    return float(np.average(scores, weights=w)), math.sqrt(float((w**2).sum())) / float(w.sum())


def authentic(train: Tensor, distance: Tensor, index: Tensor) -> Tensor:
    """(T, d), (N,), (N,) -> (N,) bool: the nearest training event has another one at least as near as the sample.

    Written as in Alaa et al.: a sample is a copy where it is closer to its training neighbour than that neighbour's
    own nearest training event is. Copies of one event count as copies also where training events repeat.

    Args:
        train: features.
        distance: of every sample to its nearest training event, as `nearest` finds them.
        index: of that event.
    """
    neighbours, which = index.unique(return_inverse=True)
    own = nearest(train[neighbours], train, neighbours)[0][which]
    return (distance >= own) & (distance > 0)


def distance_ratio(generated: Tensor, held_out: Tensor) -> Estimate | None:
    """(N,), (M,) distances to the training split -> the ratio of their means; None where held-out events repeat it.

    1 is right, copies lower it, samples off the data raise it. The standard error is the delta method's.
    """
    mine, theirs = mean(generated), mean(held_out)
    if not theirs.value > 0.0:
        return None
    ratio = mine.value / theirs.value
    draw = (mine.stderr or 0.0) / theirs.value
    return Estimate(ratio, math.hypot(draw, ratio * (theirs.stderr or 0.0) / theirs.value), mine.n, draw)


class Memorisation(Metric):
    """`data_copying` (C_T), `authenticity` and `train_distance_ratio`, against the whole training split.

    None has a direction. All are read beside the oracle's values: C_T below −3 is copying, and a model far from the
    data is authentic too.
    """

    def __init__(self, cells: Count = 5, least_share: Share = 0.01, most: Count = 100_000) -> None:
        """Sizes.

        Args:
            cells: of C_T.
            least_share: of the samples, for a cell to count.
            most: training events up to which the test is made. Time grows with them, memory does not; none of a
                million events that are drawn from a known distribution is seen often enough to be copied.
        """
        self.cells, self.least_share, self.most = cells, least_share, most

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Three measurements; not applicable where the training split is too large or features are not finite."""
        size = len(evaluation.data.train)
        reason = refusal(evaluation)
        if reason is None and size > self.most:
            reason = f"{size} training events are more than metrics.memorisation.most={self.most}"
        if reason is None and size < 2 * self.cells:
            reason = f"expected at least {2 * self.cells} training events, got {size}"
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.COPYING) for name in NAMES]
        events, features = evaluation.data.train, evaluation.extractor.features
        train = torch.cat([features(events[rows]) for rows in blocks(size, 5000)])  # they may be made when looked at
        generated, held_out = evaluation.sample_features, evaluation.reference_features
        mine, neighbour = nearest(generated, train)
        theirs, _ = nearest(held_out, train)
        seed = evaluation.generator(4).initial_seed() % 2**31
        protocol = evaluation.protocol(train=size)
        cells = protocol | {"cells": str(self.cells), "least": str(self.least_share)}

        def found(name: str, estimate: Estimate | None, reason: str, protocol: dict[str, str]) -> Measurement:
            if estimate is None or math.isnan(estimate.value):
                return Measurement.not_applicable(name, reason, kind=Kind.COPYING)
            return Measurement(name, "1", None, estimate, protocol, Kind.COPYING)

        copying = data_copying(train, (held_out, theirs), (generated, mine), self.cells, self.least_share, seed)
        of_cells = Estimate(*copying, len(generated))
        originals = share(authentic(train, mine, neighbour))
        return [
            found(NAMES[0], of_cells, "no cell holds enough samples and held-out events", cells),
            found(NAMES[1], originals, "", protocol),
            found(NAMES[2], distance_ratio(mine, theirs), "every held-out event repeats a training event", protocol),
        ]
