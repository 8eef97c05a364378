"""A discrete latent variable that no gradient has to learn: in which cluster of the training split an event lies.

p(x) = Σ_k p(k) p(x | k), where k-means says which events have which k, p(k) is its share, and a family models p(x | k)
alone. What is hard for a velocity, to choose among far shapes while all of them are still mixed with noise, the draw
of k has done then. Nothing but the training split is used: no labels.

References:
    Bao, F., Li, C., Sun, J. & Zhu, J. 2022. Why are conditional generative models better than unconditional ones?
        https://arxiv.org/abs/2212.00362 (self-conditioned diffusion, by k-means)
    Adaloglou, N., Kaiser, T., Michels, F. & Kollmann, M. 2025. Rethinking cluster-conditioned diffusion models for
        label-free image synthesis. https://arxiv.org/abs/2403.00570 (how many clusters)
    Sculley, D. 2010. Web-scale k-means clustering. https://doi.org/10.1145/1772690.1772862 (algorithm 1)
"""

from __future__ import annotations

import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from torch import Generator, Tensor, nn

from genfam.seeds import choices

COMPONENTS = 50  # principal components in which distances are taken: enough for images' shapes, a tenth of the time
BATCH = 4096  # events per step of k-means
ROUNDS = 20  # passes over the training split at most


class Clusters(nn.Module):
    """Clusters of events in the scale that a network sees.

    Args:
        count: how many, at least 1.
        shape: of one event.

    Attributes:
        means: (count, *shape) of the training events in each cluster.
        shares: (count,) of all training events; a cluster that lost its events has 0 and is never drawn.
    """

    means: Tensor
    shares: Tensor

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(count, *shape))
        self.register_buffer("shares", torch.full((count,), 1.0 / count))

    def fit(self, x: Tensor) -> None:
        """k-means of (N, *shape) on their first principal components; the same events give the same clusters.

        Raises:
            ValueError: fewer events than clusters.
        """
        count, flat = len(self.means), x.flatten(1).cpu()
        if len(flat) < count:
            raise ValueError(f"clusters: expected at most as many as training events, {len(flat)}, got {count}")
        components = min(COMPONENTS, *flat.shape)
        found = PCA(components, svd_solver="covariance_eigh").fit_transform(flat.numpy())
        kmeans = MiniBatchKMeans(count, max_iter=ROUNDS, batch_size=BATCH, n_init=1, random_state=0)
        labels = torch.from_numpy(kmeans.fit_predict(found)).long()
        sizes = torch.bincount(labels, minlength=count)
        sums = torch.zeros(count, flat.shape[1]).index_add_(0, labels, flat)
        self.means.copy_((sums / sizes.clamp_min(1)[:, None]).view_as(self.means))
        self.shares.copy_(sizes / len(labels))

    def codes(self, size: int) -> Tensor:
        """-> (count, size): the means' first principal coordinates at unit scale, which say what is near what.

        Zeros where there are fewer coordinates.
        """
        means = self.means.flatten(1) - (self.shares @ self.means.flatten(1))
        _, _, directions = torch.linalg.svd(self.shares.sqrt()[:, None] * means, full_matrices=False)
        found = means @ directions[:size].T
        found = found / found.square().mean().sqrt().clamp_min(1e-12)
        return nn.functional.pad(found, (0, size - found.shape[1]))

    def assign(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B,) int64: the cluster with the nearest mean."""
        means = self.means.flatten(1)
        distances = means.square().sum(dim=1) - 2.0 * x.flatten(1) @ means.T  # up to |x|², which all share
        return distances.masked_fill(self.shares == 0, torch.inf).argmin(dim=1)

    def draw(self, n: int, generator: Generator) -> Tensor:
        """-> (n,) int64, by the shares."""
        return choices(self.shares.expand(n, -1), generator).squeeze(1)
