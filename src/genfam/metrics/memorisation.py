"""Does the model copy its training split? The C_T test and the share of authentic samples.

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
from genfam.metrics.estimators import refusal, share
from genfam.metrics.neighbours import distances, radii_of
from genfam.ranges import Count, Share
from genfam.types import Estimate, Kind, Measurement

NAMES = ("data_copying", "authenticity")


def nearest(x: Tensor, to: Tensor, block_size: int = 1000) -> tuple[Tensor, Tensor]:
    """(N, d), (M, d) float64 -> (N,) distance to the nearest row of `to`, and (N,) its index."""
    found = [distances(x[rows], to).min(dim=1) for rows in blocks(len(x), block_size)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


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
    train: Tensor, held_out: Tensor, generated: Tensor, cells: int, least_share: float, seed: int
) -> tuple[float, float]:
    """C_T: the mean of Z_U over the k-means cells of the training split, weighted by the held-out events in each.

    Cells with fewer than `least_share` of the generated events, or with none held out, are left out, as in Meehan
    et al. section 2.3.

    Args:
        train: (T, d) features.
        held_out: (M, d).
        generated: (N, d).
        cells: of k-means.
        least_share: of the generated events.
        seed: of k-means.

    Returns:
        C_T (below −3: copies; far above 0: too far from the data) and its standard error √Σw² / Σw, the cells'
        scores having a variance of 1 each; (NaN, NaN) where no cell counts.
    """
    kmeans = KMeans(n_clusters=cells, n_init=1, random_state=seed).fit(train.numpy())
    distance = {name: nearest(x, train)[0].numpy() for name, x in (("p", held_out), ("q", generated))}
    cell = {"p": kmeans.predict(held_out.numpy()), "q": kmeans.predict(generated.numpy())}
    scores, weights = [], []
    for c in range(cells):
        q, p = distance["q"][cell["q"] == c], distance["p"][cell["p"] == c]
        if len(p) and len(q) >= max(1.0, least_share * len(generated)):
            scores.append(z_u(q, p))
            weights.append(len(p))
    if not scores:
        return math.nan, math.nan
    w = np.asarray(weights, dtype=np.float64)
    return float(np.average(scores, weights=w)), math.sqrt(float((w**2).sum())) / float(w.sum())


def authentic(train: Tensor, generated: Tensor) -> Tensor:
    """(T, d), (N, d) -> (N,) bool: the nearest training event has another one at least as near as the sample.

    Written as in Alaa et al.: a sample is a copy where it is closer to its training neighbour than that neighbour's
    own nearest training event is. Copies of one event count as copies also where training events repeat.
    """
    distance, index = nearest(generated, train)
    own = radii_of(train, 1, 1000)[index]
    return (distance >= own) & (distance > 0)


class Memorisation(Metric):
    """`data_copying` (C_T) and `authenticity`, against the whole training split; neither has a direction.

    Both are read beside the oracle's values: C_T below −3 is copying, and a model far from the data is authentic too.
    """

    def __init__(self, cells: Count = 5, least_share: Share = 0.01, most: Count = 20_000) -> None:
        """Sizes.

        Args:
            cells: of C_T.
            least_share: of the samples, for a cell to count.
            most: training events up to which the test is made: of more, none is seen often enough to be copied.
        """
        self.cells, self.least_share, self.most = cells, least_share, most

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Two measurements; not applicable where the training split is too large or features are not finite."""
        size = len(evaluation.data.train)
        reason = refusal(evaluation)
        if reason is None and size > self.most:
            reason = f"{size} training events are more than {self.most}: none is seen often enough to be copied"
        if reason is None and size < 2 * self.cells:
            reason = f"expected at least {2 * self.cells} training events, got {size}"
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.COPYING) for name in NAMES]
        train = evaluation.extractor.features(evaluation.data.train[:])  # a view becomes a tensor
        generated, held_out = evaluation.sample_features, evaluation.reference_features
        seed = evaluation.generator(4).initial_seed() % 2**31
        copying, stderr = data_copying(train, held_out, generated, self.cells, self.least_share, seed)
        protocol = evaluation.protocol(train=size)
        found = share(authentic(train, generated))
        second = Measurement("authenticity", "1", None, found, protocol, Kind.COPYING)
        if math.isnan(copying):
            reason = "no cell holds enough samples and held-out events"
            return [Measurement.not_applicable("data_copying", reason, kind=Kind.COPYING), second]
        cells = protocol | {"cells": str(self.cells), "least": str(self.least_share)}
        estimate = Estimate(copying, stderr, len(generated))
        return [Measurement("data_copying", "1", None, estimate, cells, Kind.COPYING), second]
