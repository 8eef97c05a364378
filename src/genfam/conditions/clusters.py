"""Clusters of the training split: a discrete latent variable that no gradient has to learn.

An event has the value of the nearest of k-means' means. Nothing but the training split is used: no labels.

References:
    Bao, F., Li, C., Sun, J. & Zhu, J. 2022. Why are conditional generative models better than unconditional ones?
        https://arxiv.org/abs/2212.00362 (self-conditioned diffusion, by k-means)
    Adaloglou, N., Kaiser, T., Michels, F. & Kollmann, M. 2025. Rethinking cluster-conditioned diffusion models for
        label-free image synthesis. https://arxiv.org/abs/2403.00570 (how many clusters)
    Sculley, D. 2010. Web-scale k-means clustering. https://doi.org/10.1145/1772690.1772862 (algorithm 1)
"""

from __future__ import annotations

import warnings

import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from genfam.conditions.base import Condition
from genfam.ranges import Count, ShareBelowOne
from genfam.types import Data

COMPONENTS = 50  # principal components in which k-means works: enough for the shapes of images, in a tenth of the time
BATCH = 4096  # events per step of k-means, and per pass of `of`
ROUNDS = 20  # passes over them at most
MOST = 60_000  # events that principal components and k-means look at, the first ones
LARGE = 4096  # dimensions above which components are found at random: their matrix of products would not fit


class Clusters(Condition):
    """k-means on principal components; the same training split gives the same clusters.

    Args:
        count: number of clusters; those without a training event are left out.
        dropout: see `Condition`.
        threads: of k-means and its linear algebra; the last digits of their sums depend on it.

    Attributes:
        means: (classes, D) of the events, standardised by dimension.
        centre, scale: (D,) by which events are standardised.
    """

    means: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, count: Count = 10, dropout: ShareBelowOne = 0.0, threads: Count = 1) -> None:
        super().__init__(dropout)
        if count < 1:
            raise ValueError(f"condition.count: expected at least 1, got {count}")
        self.count, self.threads = count, threads
        self.register_buffer("means", torch.zeros(0, 0))
        self.register_buffer("centre", torch.zeros(0))
        self.register_buffer("scale", torch.zeros(0))

    def fit(self, data: Data) -> None:
        """Raises ValueError: fewer training events than clusters."""
        seen = data.train[:MOST].flatten(1).float()
        if len(seen) < self.count:
            raise ValueError(f"condition.count: expected at most {len(seen)} (the training events), got {self.count}")
        # One scale for all dimensions of discrete events, whose levels are alike; each its own for continuous ones.
        self.centre = seen.mean(dim=0)
        spread = seen.std(dim=0) if data.event.levels is None else seen.std().expand(seen.shape[1]).clone()
        self.scale = spread.clamp_min(1e-6)
        standard = ((seen - self.centre) / self.scale).numpy()
        solver = "covariance_eigh" if seen.shape[1] <= LARGE else "randomized"
        components = PCA(min(COMPONENTS, *seen.shape), svd_solver=solver, random_state=0)
        kmeans = MiniBatchKMeans(self.count, max_iter=ROUNDS, batch_size=BATCH, n_init=1, random_state=0)
        with threadpool_limits(self.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct events than clusters
            found = torch.from_numpy(kmeans.fit_predict(components.fit_transform(standard))).long()
        sizes = found.bincount(minlength=self.count)
        sums = torch.zeros(self.count, seen.shape[1]).index_add_(0, found, torch.from_numpy(standard))
        self.means = (sums / sizes.clamp_min(1)[:, None])[sizes > 0]
        # by the rule that training and likelihood go by: nearness in 50 components is not quite nearness
        kept = self._of_all(data.train).bincount(minlength=len(self.means)) > 0
        self.means = self.means[kept]
        self.settle(self._of_all(data.train), tuple(f"cluster {index}" for index in range(len(self.means))))

    def attend(self, data: Data) -> None:
        """See `Condition.attend`."""
        self.of_training = self._of_all(data.train)

    def expected(self, data: Data) -> int:
        """The count."""
        return self.count

    def _of_all(self, x: Tensor) -> Tensor:
        """(N, *event), which may be made when looked at -> (N,) int64."""
        return torch.cat([self.of(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])

    def of(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) int64: the cluster with the nearest mean."""
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would give one event in twenty to another cluster
            products = ((x.flatten(1).float() - self.centre) / self.scale) @ self.means.T
        return (self.means.square().sum(dim=1) - 2.0 * products).argmin(dim=1)  # up to |x|², which all share
