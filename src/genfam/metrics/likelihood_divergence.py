"""Feature likelihood divergence: fidelity, diversity and copying in one number.

Every sample becomes the centre of a Gaussian. The widths are fitted to the training split, and the mixture's likelihood
is taken on held-out data: around a copy of a training event the width shrinks to nothing, and held-out data are then
unlikely.

Reference:
    M. Jiralerspong et al. (2023). Feature Likelihood Divergence: Evaluating the Generalization of Generative Models
    Using Samples. https://arxiv.org/abs/2302.04440, section 3. The authors' code fits the widths by 50 steps of Adam,
    with a broad Gaussian at the training mean beside the samples; here expectation-maximisation climbs the same
    likelihood.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import refusal, split
from genfam.ranges import Count, Several
from genfam.types import Estimate, Kind, Measurement

NEAR = 1e-3  # added to a sample's squared distance to its nearest training event, which is the first width times d
LEAST, MOST = math.exp(-40.0), math.exp(20.0)  # of a variance, as in the authors' code
SHRINK = 0.81  # of squared distances from the training mean in the broad Gaussian, as in the authors' code
GROUPS = 10  # of the jackknife


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, d), (M, d) float64 -> (N, M), by differences: the width at a copy hangs on its distance being 0."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def log_densities(squares: Tensor, variances: Tensor, dimensions: int) -> Tensor:
    """(N, M) squared distances, (M,) variances per axis -> (N, M) nats of every event in every Gaussian."""
    return -0.5 * squares / variances - 0.5 * dimensions * torch.log(2 * math.pi * variances)


def fit_variances(centres: Tensor, x: Tensor, steps: int) -> Tensor:
    """(M, d), (N, d) -> (M + 1,) variances that make x likely: of Gaussians of equal weight, and of a broad one.

    Expectation-maximisation, so that no step lowers the likelihood. A broad Gaussian at the mean of x, whose variance
    is fitted too and whose weight is one, gives every event some likelihood, as in the authors' code.

    Args:
        centres: of the Gaussians.
        x: what they are fitted to.
        steps: of expectation-maximisation.
    """
    dimensions = x.shape[1]
    squares = torch.cat([squared_distances(x, centres), SHRINK * squared_distances(x, x.mean(dim=0, keepdim=True))], 1)
    variances = (squares.min(dim=0).values + NEAR) / dimensions
    variances[-1] = 1.0
    weights = torch.full((len(variances),), -math.log(len(centres)), dtype=torch.float64)
    weights[-1] = 0.0
    for _ in range(steps):
        shares = torch.softmax(log_densities(squares, variances, dimensions) + weights, dim=1)
        mass = shares.sum(dim=0)
        fitted = (shares * squares).sum(dim=0) / (dimensions * mass)
        variances = torch.where(mass > 0, fitted, variances).clamp(LEAST, MOST)
    return variances


def mixture(x: Tensor, centres: Tensor, variances: Tensor) -> Tensor:
    """(N, d) -> (N, G) nats of the mixture without each of the `GROUPS` groups of centres, and of all in column 0."""
    each = log_densities(squared_distances(x, centres), variances, x.shape[1])
    found = [torch.logsumexp(each, dim=1) - math.log(len(centres))]
    for group in split(len(centres), GROUPS):
        kept = torch.ones(len(centres), dtype=torch.bool)
        kept[group] = False
        found.append(torch.logsumexp(each[:, kept], dim=1) - math.log(int(kept.sum())))
    return torch.stack(found, dim=1)


def likelihood_divergence(
    samples: Tensor, held_out: Tensor, train: Tensor, steps: int, split_by: torch.Generator
) -> tuple[float, float]:
    """100 nats per dimension by which held-out data are less likely than with training events in place of samples.

    Args:
        samples: (N, d) features.
        held_out: (M, d).
        train: (T, d); half of them, at most N, are the centres of the mixture that is compared with.
        steps: of each fit.
        split_by: halves the training events.

    Returns:
        The divergence and its standard error, a delete-a-group jackknife over samples and held-out events with the
        widths as they are.
    """
    mean, spread = held_out.mean(dim=0), held_out.std(dim=0)
    spread = torch.where(spread > 0, spread, 1.0)
    samples, held_out, train = ((part.double() - mean) / spread for part in (samples, held_out, train))
    order = torch.randperm(len(train), generator=split_by)
    size = min(len(samples), len(train) // 2)
    real, rest = train[order[:size]], train[order[size:]]
    mine = mixture(held_out, samples, fit_variances(samples, train, steps)[:-1])
    theirs = mixture(held_out, real, fit_variances(real, rest, steps)[:-1])[:, :1]
    less = 100.0 * (theirs - mine) / held_out.shape[1]
    replicates = []
    for g, group in enumerate(split(len(held_out), GROUPS), start=1):
        kept = torch.ones(len(held_out), dtype=torch.bool)
        kept[group] = False
        replicates.append(float(less[kept, g].mean()))
    spread_of = torch.tensor(replicates, dtype=torch.float64).var(correction=0)
    return float(less[:, 0].mean()), math.sqrt((GROUPS - 1) * float(spread_of))


class LikelihoodDivergence(Metric):
    """`fld_<extractor>`: lower is better; about 0 for fresh data, large for copies as for samples off the data."""

    def __init__(self, events: Several = 2000, train: Several = 4000, steps: Count = 50) -> None:
        """Sizes: time and memory grow with events × train.

        Args:
            events: samples and held-out events, at most.
            train: training events, at most, drawn at random.
            steps: of expectation-maximisation.
        """
        self.events, self.train, self.steps = events, train, steps

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where features are not finite or sets too small."""
        name = f"fld_{evaluation.extractor.name}"
        size = len(evaluation.data.train)
        reason = refusal(evaluation, at_least=2 * GROUPS)
        if reason is None and size < 4 * GROUPS:
            reason = f"expected at least {4 * GROUPS} training events, got {size}"
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)]
        generator = evaluation.generator(6)
        chosen = torch.randperm(size, generator=generator)[: self.train].sort().values
        train = evaluation.extractor.features(evaluation.data.train[chosen])
        x, y = evaluation.sample_features[: self.events], evaluation.reference_features[: self.events]
        value, stderr = likelihood_divergence(x, y, train, self.steps, generator)
        protocol = evaluation.protocol(events=self.events, train=len(train), steps=self.steps)
        return [Measurement(name, "100 nats/dim", False, Estimate(value, stderr, len(x)), protocol, Kind.DISTANCE)]
