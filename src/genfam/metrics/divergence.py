"""True divergence between model and data, where p_data is known.

Enumerable sources: total variation ½ Σ |q − p| and reverse KL Σ q log(q / p) over the table. The model's own table
stands for q where its likelihood is exact (no standard error); else the frequencies of `table_samples` samples do,
which adds about √(K / 2πN) to the total variation and (K − 1) / 2N to the KL of a perfect model. Both estimate the same
quantities, so they share a fingerprint. In the middle of training the few samples that there are stand for every model.

Known densities: KL(p_data ‖ model) = E_p[log p − log q] and total variation E_p[(1 − q/p)₊] on reference events. The
latter equals ½ ∫ |p − q|, since p − q integrates to zero, and is bounded: ½ E_p|1 − q/p| would have heavy tails and
overlook the model's mass where p_data has next to none.

Reference:
    A. B. Tsybakov (2009). Introduction to Nonparametric Estimation, lemma 2.1 (forms of total variation) and
    section 2.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric, blocks
from genfam.metrics.estimators import mean, plug_in_kl, widened
from genfam.ranges import Count, Positive, Several
from genfam.types import Enumerable, Estimate, Kind, KnownDensity, Likelihood, Measurement

NAMES = {"total_variation": "1", "kl_divergence": "nats"}
IMPOSSIBLE = 3.0  # standard errors below zero
# How far a model's table in float32 may be from summing to one.
SUM_TOLERANCE = 1e-3


def total_variation(q: Tensor, p: Tensor) -> float:
    """½ Σ |q − p|, mass that q has off the support included.

    Args:
        q: (K,) probabilities of the model, summing to at most one.
        p: (K,) probabilities of the data.
    """
    off = max(1.0 - float(q.sum()), 0.0)
    return 0.5 * (float((q - p).abs().sum()) + off)


def reverse_kl(q: Tensor, p: Tensor) -> float:
    """KL(q ‖ p) in nats; infinite where q has mass and p has none."""
    return float((torch.xlogy(q, q) - torch.xlogy(q, p)).sum())


def total_variation_stderr(counts: Tensor, n: int, p: Tensor) -> float:
    """Delta-method standard error of the plug-in total variation: ½ sd(sign(q − p)) / √N.

    Where q = p the total variation has a kink, and this is an upper bound.

    Args:
        counts: (K,) samples in each state.
        n: all samples, those off the support included.
        p: (K,) probabilities of the data.
    """
    q = counts.double() / n
    off = 1.0 - float(q.sum())
    sign = torch.sign(q - p)
    first = float((q * sign).sum()) + off
    second = float((q * sign.square()).sum()) + off
    return 0.5 * math.sqrt(max(second - first**2, 0.0) / n)


def state_counts(x: Tensor, support: Tensor, levels: int) -> Tensor:
    """How often each state occurs: (N, *event), (K, *event) -> (K,) int64; events off the support are not counted.

    Raises:
        ValueError: too many states to be numbered, or a state that is listed twice.
    """
    dimensions = support[0].numel()
    if dimensions * math.log2(levels) >= 62:
        raise ValueError(f"expected at most 2^62 possible events, got {levels}^{dimensions}")
    radix = levels ** torch.arange(dimensions)
    states, order = (support.flatten(1).long() @ radix).sort()
    if (states.diff() == 0).any():
        raise ValueError("expected every state of the support once, got duplicates")
    codes = x.flatten(1).long() @ radix
    places = torch.searchsorted(states, codes).clamp_max(len(states) - 1)
    found = torch.bincount(places[states[places] == codes], minlength=len(states))
    counts = torch.empty_like(found)
    counts[order] = found
    return counts


class Divergence(Metric):
    """`total_variation` and `kl_divergence` (nats): lower is better. In training, of tables alone: densities take long.

    The KL is KL(model ‖ p_data) on enumerable sources, where the frequencies of samples would make the other direction
    infinite, and KL(p_data ‖ model) on densities; the fingerprint says which.
    """

    on_curve = True

    def __init__(
        self,
        noise: Positive = 0.014,
        least_samples: Count = 20_000,
        likelihood_events: Several = 1000,
        chunk: Count = 500,
        sample_chunk: Count = 10_000,
    ) -> None:
        """Sizes; the chunks bound memory.

        Args:
            noise: total variation that a perfect model would show by the noise of its frequencies: N samples of K
                states are about √(K / 2πN) from the truth, so N = K / 2π noise².
            least_samples: N at least.
            likelihood_events: reference events at which densities are compared.
            chunk: events per call of `log_prob`.
            sample_chunk: events per call of the model's `sample`.
        """
        self.noise, self.least_samples, self.sample_chunk = noise, least_samples, sample_chunk
        self.likelihood_events, self.chunk = likelihood_events, chunk

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Two measurements; not applicable where p_data is unknown or the model cannot be compared with it."""
        support = states(evaluation.data)
        if support is not None:
            return self._tables(evaluation, *support)
        if evaluation.in_training:
            return refuse("in the middle of training tables alone are compared")
        if isinstance(evaluation.data, KnownDensity):
            return self._densities(evaluation, evaluation.data)
        return refuse(f"p_data of {evaluation.data.name} is not known")

    def table_samples(self, states: int) -> int:
        """Samples drawn for the frequencies of so many states."""
        return max(self.least_samples, math.ceil(states / (2 * math.pi * self.noise**2)))

    def _tables(self, evaluation: Evaluation, support: Tensor, p: Tensor) -> list[Measurement]:
        model = evaluation.model
        drawn = len(evaluation.samples) if evaluation.in_training else self.table_samples(len(p))
        sizes = {"states": len(p), "table_samples": drawn, "kl": "model||data"}
        protocol = evaluation.protocol(samples=False, features=False, **sizes)
        samples_only = bool(getattr(model, "samples_only", False))
        if model.likelihood_kind is Likelihood.EXACT and not samples_only and not evaluation.in_training:
            q = torch.cat(
                [model.log_prob(support[rows]).double().cpu() for rows in blocks(len(support), self.sample_chunk)]
            ).exp()
            total = float(q.sum())
            if not total <= 1 + SUM_TOLERANCE:
                raise ValueError(f"expected an exact model's table to sum to one, got {total}")
            # Rounding in float32 is not mass off the support.
            q = q / total if abs(total - 1) <= SUM_TOLERANCE else q
            variation = Estimate(total_variation(q, p), 0.0, len(p))
            divergence = (reverse_kl(q, p), 0.0, len(p))
            off = 1.0 - float(q.sum())
        else:
            n, counts = self._count(evaluation, support)
            q = counts.double() / n
            variation = Estimate(total_variation(q, p), total_variation_stderr(counts, n, p), n)
            off = 1.0 - float(q.sum())
            divergence = (*plug_in_kl(counts, p), n) if counts.any() else (math.inf, 0.0, n)
        first = Measurement("total_variation", "1", False, variation, protocol, Kind.DIVERGENCE)
        if off > SUM_TOLERANCE * 1e-3 or not math.isfinite(divergence[0]):
            reason = "infinite: the model gives mass to states that p_data does not have"
            return [first, Measurement.not_applicable("kl_divergence", reason, "nats", Kind.DIVERGENCE)]
        second = Measurement("kl_divergence", "nats", False, Estimate(*divergence), protocol, Kind.DIVERGENCE)
        return [first, second]

    def _count(self, evaluation: Evaluation, support: Tensor) -> tuple[int, Tensor]:
        """Number of samples and how often each state occurs: fresh samples where the model offers them."""
        levels = evaluation.data.event.levels
        if levels is None:
            raise ValueError(f"{evaluation.data.name}: expected discrete events from an enumerable source")
        sample: Callable[..., Tensor] | None = getattr(evaluation.model, "sample", None)
        if sample is None or evaluation.in_training:
            return len(evaluation.samples), state_counts(evaluation.samples, support, levels)
        generator = evaluation.generator(4)
        counts = torch.zeros(len(support), dtype=torch.int64)
        n = self.table_samples(len(support))
        for rows in blocks(n, self.sample_chunk):
            drawn = sample(rows.stop - rows.start, generator=generator).cpu()
            counts += state_counts(drawn, support, levels)
        return n, counts

    def _densities(self, evaluation: Evaluation, data: KnownDensity) -> list[Measurement]:
        kind = evaluation.model.likelihood_kind
        if kind not in (Likelihood.EXACT, Likelihood.ESTIMATE):
            return refuse(f"the family's likelihood is {kind.value}: it has no density to compare with p_data's")
        x = evaluation.reference[: self.likelihood_events]
        log_p = data.log_prob(x).double().cpu()
        log_q = evaluation.reference_log_prob(self.likelihood_events, self.chunk)
        ratio = log_q - log_p
        about: dict[str, object] = {"events": self.likelihood_events, "kl": "data||model"}
        if method := evaluation.model.likelihood_method:  # a bound, or of another flow than the samples come from
            about["by"] = method
        protocol = evaluation.protocol(samples=False, features=False, **about)
        bad = int(ratio.isnan().sum())
        if bad:
            return refuse(f"the model's log_prob is not a number on {bad} of {len(x)} reference events")
        # (1 − q/p)₊ = 1 − exp(min(log q/p, 0)): it cannot overflow.
        variation = widened(mean(-torch.expm1(ratio.clamp_max(0.0))), evaluation.integration_error)
        measurements = [Measurement("total_variation", "1", False, variation, protocol, Kind.DIVERGENCE)]
        bad = int((~ratio.isfinite()).sum())
        if bad:
            reason = f"infinite: the model's log_prob is not finite on {bad} of {len(x)} reference events"
            return [*measurements, Measurement.not_applicable("kl_divergence", reason, "nats", Kind.DIVERGENCE)]
        divergence = widened(mean(-ratio), evaluation.integration_error)
        if divergence.value < -IMPOSSIBLE * (divergence.stderr or 0.0):
            raise ValueError(
                f"kl_divergence on {evaluation.data.name}: expected no divergence below 0, got {divergence.value:.3g} "
                f"± {divergence.stderr:.2g}: the model's density does not integrate to one"
            )
        second = Measurement("kl_divergence", "nats", False, divergence, protocol, Kind.DIVERGENCE)
        return [*measurements, second]


def states(data: object) -> tuple[Tensor, Tensor] | None:
    """(K, *event) states and (K,) float64 probabilities; None where the source cannot list them, or not so many."""
    if not isinstance(data, Enumerable):
        return None
    try:
        support = data.support()
    except ValueError:
        # Listing is a capability of the class, but 256 levels make too many states.
        return None
    return support, data.table().double().cpu()


def refuse(reason: str) -> list[Measurement]:
    """Both measurements as not applicable."""
    return [Measurement.not_applicable(name, reason, unit, Kind.DIVERGENCE) for name, unit in NAMES.items()]
