"""A discrete latent variable that no gradient has to learn: in which cluster of the training split an event lies.

p(x) = Σ_k p(k) p(x | k), where an event has the k of the nearest of k-means' means, p(k) is its share, and a family
models p(x | k) alone. What is hard for a velocity, to choose among far shapes while all of them are still mixed with
noise, the draw of k has done then. Nothing but the training split is used: no labels.

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
ROUNDS = 20  # passes over them at most
MOST = 60_000  # events that principal components and k-means look at, the first ones
LARGE = 4096  # dimensions above which components are found at random: their matrix of products would not fit


class Clusters(nn.Module):
    """Clusters of events in the scale that a network sees.

    Args:
        count: how many, at least 1.
        shape: of one event.

    Attributes:
        means: (count, *shape) what k-means found.
        shares: (count,) of all training events, those nearest to each mean; one with none is never drawn or assigned.
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
        count, seen = len(self.means), x[:MOST].flatten(1).cpu()
        if len(x) < count:
            raise ValueError(f"clusters: expected at most as many as training events, {len(x)}, got {count}")
        solver = "covariance_eigh" if seen.shape[1] <= LARGE else "randomized"
        components = PCA(min(COMPONENTS, *seen.shape), svd_solver=solver, random_state=0)
        kmeans = MiniBatchKMeans(count, max_iter=ROUNDS, batch_size=BATCH, n_init=1, random_state=0)
        labels = torch.from_numpy(kmeans.fit_predict(components.fit_transform(seen.numpy()))).long()
        sizes = torch.bincount(labels, minlength=count)
        sums = torch.zeros(count, seen.shape[1]).index_add_(0, labels, seen)
        self.means.copy_((sums / sizes.clamp_min(1)[:, None]).view_as(self.means))
        self.shares.copy_(sizes / len(seen))
        # by the rule that training and likelihood go by: nearness in 50 components is not quite nearness
        nearest = torch.cat([self.assign(part.to(self.means.device)) for part in torch.split(x, BATCH)])
        self.shares.copy_(torch.bincount(nearest, minlength=count) / len(x))

    def codes(self, size: int) -> Tensor:
        """-> (count, size): the means' first principal coordinates at unit scale, which say what is near what.

        Zeros for clusters without events, and where there are fewer coordinates.
        """
        means = self.means.flatten(1) - (self.shares @ self.means.flatten(1))
        _, _, directions = torch.linalg.svd(self.shares.sqrt()[:, None] * means, full_matrices=False)
        found = (means @ directions[:size].T).masked_fill((self.shares == 0)[:, None], 0.0)
        found = found / (self.shares @ found.square()).mean().sqrt().clamp_min(1e-12)
        return nn.functional.pad(found, (0, size - found.shape[1]))

    def assign(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B,) int64: the cluster with the nearest mean."""
        centre = self.means.mean(dim=0)
        means = (self.means - centre).flatten(1)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would give one event in twenty to another cluster
            products = (x.float() - centre).flatten(1) @ means.T
        distances = means.square().sum(dim=1) - 2.0 * products  # up to |x|², which all share
        return distances.masked_fill(self.shares == 0, torch.inf).argmin(dim=1)

    def draw(self, n: int, generator: Generator) -> Tensor:
        """-> (n,) int64, by the shares."""
        return choices(self.shares.expand(n, -1), generator).squeeze(1)
