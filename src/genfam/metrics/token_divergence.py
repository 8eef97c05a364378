"""Divergence per token of a known language, by the model's own log-probability or its bound.

Reference:
    T. M. Cover & J. A. Thomas (2006). Elements of Information Theory, section 5.4 (a code for the wrong distribution
    costs its divergence).
"""

from __future__ import annotations

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import mean, widened
from genfam.metrics.likelihood import likelihood_protocol
from genfam.metrics.ngrams import is_sequence
from genfam.ranges import Count, Several
from genfam.types import Kind, KnownDensity, Likelihood, Measurement


class TokenDivergence(Metric):
    """`kl_per_token`: KL(p_data ‖ model) / L in nats, on reference events; lower is better.

    Unlike `kl_divergence` it has a value for bounds on the likelihood, too: then it bounds the divergence from above.
    """

    def __init__(self, events: Several = 1000, chunk: Count = 500) -> None:
        """`events`: how many of the reference, from its start; `chunk`: at once. As for the likelihood."""
        self.events, self.chunk = events, chunk

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable without a known p_data of sequences, or without a likelihood."""
        data = evaluation.data
        if not is_sequence(data.event) or not isinstance(data, KnownDensity):
            return self._refuse(f"{data.name} is no source of sequences with a known p_data")
        if evaluation.model.likelihood_kind in (Likelihood.NONE, Likelihood.UNNORMALISED):
            return self._refuse("the family declares no likelihood")
        x = evaluation.reference[: self.events]
        log_q = evaluation.reference_log_prob(self.events, self.chunk)
        bad = int((~log_q.isfinite()).sum())
        if bad:
            return self._refuse(f"the model's log_prob is not finite on {bad} of {len(x)} reference events")
        length = evaluation.data.event.dimensions
        divergence = mean((data.log_prob(x).double().cpu() - log_q) / length)
        divergence = widened(divergence, evaluation.integration_error / length)
        protocol = likelihood_protocol(evaluation, self.events) | {"kl": "data||model"}
        return [Measurement("kl_per_token", "nats", False, divergence, protocol, Kind.DIVERGENCE)]

    @staticmethod
    def _refuse(reason: str) -> list[Measurement]:
        return [Measurement.not_applicable("kl_per_token", reason, "nats", Kind.DIVERGENCE)]
