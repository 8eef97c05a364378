"""Negative log-likelihood of held-out data, with its kind.

Reference:
    L. Theis, A. van den Oord & M. Bethge (2016). A note on the evaluation of generative models.
    https://arxiv.org/abs/1511.01844, section 3.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import mean, widened
from genfam.ranges import Count, Several
from genfam.types import Estimate, Kind, Likelihood, Measurement


def negative_log_likelihood(log_prob: Tensor) -> Estimate:
    """(N,) nats -> the mean of −log q with its standard error."""
    return mean(-log_prob)


def bits_per_dimension(nll: Estimate, dimensions: int) -> Estimate:
    """Nats per event -> bits per dimension: divide by D ln 2."""
    scale = 1.0 / (dimensions * math.log(2.0))
    return Estimate(nll.value * scale, None if nll.stderr is None else nll.stderr * scale, nll.n)


def likelihood_protocol(evaluation: Evaluation, events: int, *, conditional: bool = False) -> dict[str, str]:
    """Of what a model's log-likelihood is, on how many reference events; no samples and no features enter it."""
    model = evaluation.model
    kind, method = model.likelihood_kind, model.likelihood_method
    if conditional:
        kind, method = model.density_kind, model.density_method
    about = {"likelihood": kind.value, "measure": evaluation.data.event.measure, "events": events}
    about |= {"by": method} if method else {}
    return evaluation.protocol(samples=False, features=False, **about)


class NegativeLogLikelihood(Metric):
    """`nll_nats` per event and `bits_per_dim`; lower is better, and only within one kind and one measure."""

    def __init__(self, events: Several = 1000, chunk: Count = 500) -> None:
        """`events`: how many of the reference, from its start; `chunk`: at once, which bounds memory.

        A bound or an estimate draws the same random numbers in each chunk: smaller ones make its errors more alike.
        """
        self.events, self.chunk = events, chunk

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Two measurements; not applicable without a likelihood, bits not for densities."""
        event = evaluation.data.event
        if evaluation.model.likelihood_kind in (Likelihood.NONE, Likelihood.UNNORMALISED):
            reason = "the family declares no likelihood"
            return self._refuse(reason)
        x = evaluation.reference[: self.events]
        log_prob = evaluation.reference_log_prob(self.events, self.chunk)
        bad = int((~torch.isfinite(log_prob)).sum())
        if bad:
            return self._refuse(f"the model's log_prob is not finite on {bad} of {len(x)} reference events")
        nll = widened(negative_log_likelihood(log_prob), evaluation.integration_error)
        protocol = likelihood_protocol(evaluation, self.events)
        measurements = [Measurement("nll_nats", "nats", False, nll, protocol, Kind.LIKELIHOOD)]
        if event.is_discrete:
            bits = bits_per_dimension(nll, event.dimensions)
            measurements.append(Measurement("bits_per_dim", "bits/dim", False, bits, protocol, Kind.LIKELIHOOD))
        else:
            reason = "bits per dimension of a density depend on its units"
            measurements.append(Measurement.not_applicable("bits_per_dim", reason, "bits/dim", Kind.LIKELIHOOD))
        return measurements

    @staticmethod
    def _refuse(reason: str) -> list[Measurement]:
        units = {"nll_nats": "nats", "bits_per_dim": "bits/dim"}
        return [Measurement.not_applicable(name, reason, unit, Kind.LIKELIHOOD) for name, unit in units.items()]
