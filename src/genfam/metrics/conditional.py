"""How well samples follow their condition, and how varied they are within it.

References:
    Shmelkov, K., Schmid, C. & Alahari, K. 2018. How good is my GAN? https://arxiv.org/abs/1807.09499 (GAN-train and
        GAN-test: a classifier's accuracy on conditional samples)
    DeVries, T. et al. 2019. On the evaluation of conditional GANs. https://arxiv.org/abs/1907.08175 (distances within
        and between classes)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import jackknife, refusal, share, split, widened
from genfam.metrics.frechet import frechet
from genfam.metrics.likelihood import bits_per_dimension, likelihood_protocol, negative_log_likelihood
from genfam.ranges import Count, Several
from genfam.types import Estimate, Kind, Likelihood, Measurement

FEWEST = 20  # events of a value, of samples and of the reference, from which a distance within it is taken
ROUNDING = 1e-12  # of the sum of squares: what is left of a variance of 0
LEAST_MASS = 0.9  # of the reference, that such values must hold


class Conditional(Metric):
    """`class_accuracy`, `<distance>_within`, and the likelihood of events given their condition.

    The accuracy is the share of samples that the extractor's classifier gives the label that they were drawn for. The
    distance is the mean over values, by their share, of the Fréchet distance between samples and held-out events of
    that value: the bias of few events is in it, and in the oracle's too.
    """

    def __init__(self, events: Several = 1000, chunk: Count = 500, groups: Several = 10) -> None:
        """`events`, `chunk`: of the likelihood; `groups`: of the jackknife."""
        self.events, self.chunk, self.groups = events, chunk, groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Four measurements; none of them applies to a model without a condition."""
        return [self._accuracy(evaluation), self._within(evaluation), *self._likelihood(evaluation)]

    def _accuracy(self, evaluation: Evaluation) -> Measurement:
        name, seen, extractor = "class_accuracy", evaluation.condition, evaluation.extractor
        if seen is None or not seen.are_labels or extractor.n_classes != seen.classes:
            reason = "samples have no label that the extractor's classifier could recognise"
            return Measurement.not_applicable(name, reason, kind=Kind.FIDELITY)
        if broken := refusal(evaluation):
            return Measurement.not_applicable(name, broken, kind=Kind.FIDELITY)
        hits = evaluation.sample_classes == seen.of_samples
        return Measurement(name, "1", True, share(hits), evaluation.protocol(classes=seen.classes), Kind.FIDELITY)

    def _within(self, evaluation: Evaluation) -> Measurement:
        name, seen = f"{evaluation.extractor.distance_name}_within", evaluation.condition
        if seen is None:
            return Measurement.not_applicable(name, "the model has no condition", kind=Kind.DISTANCE)
        if broken := refusal(evaluation):
            return Measurement.not_applicable(name, broken, kind=Kind.DISTANCE)
        x, y = evaluation.sample_features, evaluation.reference_features
        value, variance, mass = 0.0, 0.0, 0.0
        for mine, theirs in members(seen.of_samples, seen.of_reference, seen.classes):
            weight = float(theirs.double().mean())
            if int(mine.sum()) < FEWEST or int(theirs.sum()) < FEWEST:
                continue
            distance, stderr = frechet(x[mine], y[theirs], self.groups)
            value, mass = value + weight * distance, mass + weight
            variance += (weight * (stderr or 0.0)) ** 2
        if mass < LEAST_MASS:
            reason = f"values with at least {FEWEST} samples and held-out events have {mass:.0%} of the mass"
            return Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)
        estimate = Estimate(value / mass, math.sqrt(variance) / mass, len(x))
        return Measurement(name, "1", False, estimate, evaluation.protocol(values=seen.classes), Kind.DISTANCE)

    def _likelihood(self, evaluation: Evaluation) -> list[Measurement]:
        names = {"conditional_nll_nats": "nats", "conditional_bits_per_dim": "bits/dim"}

        def refuse(reason: str) -> list[Measurement]:
            return [Measurement.not_applicable(name, reason, unit, Kind.LIKELIHOOD) for name, unit in names.items()]

        seen, event = evaluation.condition, evaluation.data.event
        if seen is None:
            return refuse("the model has no condition")
        if evaluation.model.likelihood_kind in (Likelihood.NONE, Likelihood.UNNORMALISED):
            return refuse("the family declares no likelihood")
        log_prob = evaluation.reference_log_prob(self.events, self.chunk, conditional=True)
        if bad := int((~torch.isfinite(log_prob)).sum()):
            return refuse(f"the model's log_prob is not finite on {bad} of {len(log_prob)} reference events")
        nll = widened(negative_log_likelihood(log_prob), evaluation.integration_error)
        protocol = likelihood_protocol(evaluation, self.events, conditional=True)
        found = [Measurement("conditional_nll_nats", "nats", False, nll, protocol, Kind.LIKELIHOOD)]
        if event.is_discrete:
            bits = bits_per_dimension(nll, event.dimensions)
            return [*found, Measurement("conditional_bits_per_dim", "bits/dim", False, bits, protocol, Kind.LIKELIHOOD)]
        reason = "bits per dimension of a density depend on its units"
        return [*found, Measurement.not_applicable("conditional_bits_per_dim", reason, "bits/dim", Kind.LIKELIHOOD)]


class WithinClassVariance(Metric):
    """`within_class_variance`: that of the samples' features over that of the held-out events'; 1 = as varied.

    A value is the condition, or else the known mode or the class that the extractor's classifier sees. Guidance and low
    temperatures lower it, which a Fréchet distance need not show.
    """

    on_curve = True

    def __init__(self, groups: Several = 10) -> None:
        """`groups`: of the jackknife."""
        self.groups = groups

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where events have no classes."""
        name = "within_class_variance"
        values = classes_of(evaluation)
        if values is None:
            reason = f"{evaluation.data.name} has no classes and extractor {evaluation.extractor.name} sees none"
            return [Measurement.not_applicable(name, reason, kind=Kind.FIDELITY)]
        if broken := refusal(evaluation):
            return [Measurement.not_applicable(name, broken, kind=Kind.FIDELITY)]
        mine, theirs, count = values
        x, y = evaluation.sample_features, evaluation.reference_features

        def ratio(keep_x: Tensor, keep_y: Tensor) -> float:
            held_out = variance_within(y[keep_y], theirs[keep_y], count)
            return variance_within(x[keep_x], mine[keep_x], count) / held_out if held_out > 0.0 else math.nan

        def without(group: int) -> float:
            kept = [torch.ones(len(z), dtype=torch.bool) for z in (x, y)]
            for mask in kept:
                mask[split(len(mask), self.groups)[group]] = False
            return ratio(kept[0], kept[1])

        value = ratio(torch.ones(len(x), dtype=torch.bool), torch.ones(len(y), dtype=torch.bool))
        if not math.isfinite(value):
            reason = "no class has two samples and held-out events that vary"
            return [Measurement.not_applicable(name, reason, kind=Kind.FIDELITY)]
        stderr = jackknife(without, self.groups) if min(len(x), len(y)) >= 2 * self.groups else None
        estimate = Estimate(value, stderr, len(x))
        return [Measurement(name, "1", None, estimate, evaluation.protocol(values=count), Kind.FIDELITY)]


def classes_of(evaluation: Evaluation) -> tuple[Tensor, Tensor, int] | None:
    """(N,) values of the samples, (M,) of the reference, their number; −1 where an event is off every mode."""
    seen, extractor = evaluation.condition, evaluation.extractor
    if seen is not None:
        return seen.of_samples, seen.of_reference, seen.classes
    assign, masses = getattr(evaluation.data, "assign", None), getattr(evaluation.data, "mode_masses", None)
    if assign is not None and masses is not None:
        return assign(evaluation.samples), assign(evaluation.reference), len(masses)
    if extractor.n_classes:
        return evaluation.sample_classes, evaluation.reference_classes, extractor.n_classes
    return None


def variance_within(features: Tensor, values: Tensor, count: int) -> float:
    """(N, d), (N,) -> the mean squared distance to the mean of an event's own class, over classes with two or more."""
    kept = values >= 0
    features, values = features[kept].double(), values[kept]
    sizes = values.bincount(minlength=count)
    sums = torch.zeros(count, features.shape[1], dtype=torch.float64).index_add_(0, values, features)
    squares = torch.zeros(count, dtype=torch.float64).index_add_(0, values, features.square().sum(dim=1))
    scatter = squares - sums.square().sum(dim=1) / sizes.clamp_min(1)
    scatter[scatter <= ROUNDING * squares] = 0.0  # equal events
    freedom = int((sizes - 1).clamp_min(0).sum())
    return float(scatter[sizes > 1].sum()) / freedom if freedom else math.nan


def members(of_samples: Tensor, of_reference: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Masks of each value's samples and reference events."""
    for value in range(count):
        yield of_samples == value, of_reference == value
