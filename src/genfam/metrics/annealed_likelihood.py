"""Likelihood of a model whose constant is not known, by bounds of the constant.

A model with `normalise(generator, chains=…, temperatures=…)` brackets log Z by annealed importance sampling, forward
and reverse. Half the gap between the two is taken as an error beside the sampling error: where chains do not mix, the
gap shows it.

Reference:
    Burda, Y., Grosse, R. & Salakhutdinov, R. 2015. Accurate and conservative estimates of MRF log-likelihood using
        reverse annealing. https://arxiv.org/abs/1412.8566
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from genfam.metrics.base import Evaluation, Metric, blocks, one_generator_state
from genfam.metrics.estimators import widened
from genfam.metrics.likelihood import negative_log_likelihood
from genfam.ranges import Count, Several
from genfam.types import Kind, Measurement

PURPOSE = 7  # of the evaluation's generators


class AnnealedLikelihood(Metric):
    """`annealed_nll_nats` per event, and `normaliser_gap`, by which the bounds of log Z differ; lower is better.

    With a condition, log p(x) is of the mixture over its values, and the gap the widest of theirs.
    """

    def __init__(
        self, events: Several = 1000, chains: Several = 500, temperatures: Count = 1000, chunk: Count = 500
    ) -> None:
        """Sizes.

        Args:
            events: of the reference, from its start.
            chains: each way.
            temperatures: densities that a chain goes through, with one move at each.
            chunk: events at once, which bounds memory.
        """
        self.events, self.chains, self.temperatures, self.chunk = events, chains, temperatures, chunk

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Two measurements; not applicable where the model is normalised or has no density."""
        if not callable(getattr(evaluation.model, "normalise", None)):
            return self._refuse("the family has no constant to estimate")
        model: Any = copy.deepcopy(evaluation.model)  # whose likelihood stays unnormalised for all other metrics
        sizes = {"chains": self.chains, "temperatures": self.temperatures}
        with one_generator_state():
            brackets = model.normalise(evaluation.generator(PURPOSE), **sizes)
            x = evaluation.reference[: self.events]
            log_prob = torch.cat([model.log_prob(x[rows]).double().cpu() for rows in blocks(len(x), self.chunk)])
        bad = int((~torch.isfinite(log_prob)).sum())
        if bad:
            return self._refuse(f"the model's log_prob is not finite on {bad} of {len(x)} reference events")
        kind, measure = model.likelihood_kind.value, evaluation.data.event.measure
        protocol = evaluation.protocol(
            samples=False, features=False, likelihood=kind, measure=measure, events=self.events, **sizes
        )
        gap = max((each.gap for each in brackets), key=lambda gap: abs(gap.value))
        error = max(float(each.middle.stderr or 0.0) for each in brackets)
        nll = widened(negative_log_likelihood(log_prob), error)
        return [
            Measurement("annealed_nll_nats", "nats", False, nll, protocol, Kind.LIKELIHOOD),
            Measurement("normaliser_gap", "nats", False, gap, protocol, Kind.OTHER),
        ]

    @staticmethod
    def _refuse(reason: str) -> list[Measurement]:
        kinds = {"annealed_nll_nats": Kind.LIKELIHOOD, "normaliser_gap": Kind.OTHER}
        return [Measurement.not_applicable(name, reason, "nats", kind) for name, kind in kinds.items()]
