"""Standard errors that the metrics share: means, shares, jackknife, plug-in divergence of counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation
from genfam.types import Estimate


def mean(values: Tensor) -> Estimate:
    """(N,) -> the mean with its standard error (None where N = 1)."""
    values = values.double()
    n = len(values)
    stderr = float(values.std()) / math.sqrt(n) if n > 1 else None
    return Estimate(float(values.mean()), stderr, n)


def widened(estimate: Estimate, error: float) -> Estimate:
    """With a systematic error beside the sampling error, in quadrature."""
    stderr = error if estimate.stderr is None else math.hypot(estimate.stderr, error)
    return replace(estimate, stderr=stderr)


def share(hits: Tensor) -> Estimate:
    """(N,) booleans -> the share that is true.

    The standard error is of the share (h + 2) / (n + 4), which stays positive where all or none are true (Agresti &
    Coull 1998, "Approximate is better than exact"): 500 of 500 is not certainty.
    """
    n, count = len(hits), int(hits.sum())
    smoothed = (count + 2) / (n + 4)
    return Estimate(count / n, math.sqrt(smoothed * (1 - smoothed) / (n + 4)), n)


def jackknife(statistic: Callable[[int], float], groups: int) -> float:
    """Delete-a-group jackknife standard error (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 11).

    Args:
        statistic: group index g -> the statistic without group g.
        groups: G ≥ 2, of (nearly) equal size.
    """
    replicates = torch.tensor([statistic(g) for g in range(groups)], dtype=torch.float64)
    return math.sqrt((groups - 1) * float(replicates.var(correction=0)))


def plug_in_kl(counts: Tensor, masses: Tensor) -> tuple[float, float]:
    """KL(counts / N ‖ masses) in nats and its delta-method standard error sqrt(Var_q(log q/p) / N).

    Biased upwards by (K − 1) / 2N where the counts are drawn from the masses (Miller 1955). The same first-order
    error also covers the χ² fluctuation at that point, where it is √2 too large.

    Args:
        counts: (K,) non-negative counts, at least one positive.
        masses: (K,) probabilities, positive wherever the counts are.
    """
    counts, masses = counts.double(), masses.double()
    n = float(counts.sum())
    seen = counts > 0
    q = counts[seen] / n
    log_ratio = torch.log(q / masses[seen])
    value = float((q * log_ratio).sum())
    variance = float((q * (log_ratio - value).square()).sum())
    return value, math.sqrt(variance / n)


def split(n: int, groups: int) -> Sequence[slice]:
    """Interleaved groups of 0..n: each is a fair sample even where the rows are sorted (by class, say)."""
    return [slice(g, n, groups) for g in range(groups)]


def refusal(evaluation: Evaluation, at_least: int = 2) -> str | None:
    """Why metrics on features cannot be computed; None if they can."""
    for name, x in (("samples", evaluation.sample_features), ("reference", evaluation.reference_features)):
        if len(x) < at_least:
            return f"expected at least {at_least} events, got {len(x)} in {name}"
        bad = int((~torch.isfinite(x).all(dim=1)).sum())
        if bad:
            return f"{bad} of {len(x)} {name} are not finite"
    return None
