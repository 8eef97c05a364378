"""What every metric sees, and what it must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from genfam.seeds import random_state, set_random_state
from genfam.types import Data, Measurement, Model, TooFewSamples

DEPTHS = ("early", "middle", "late")  # of a network, from its input on


class Extractor(ABC):
    """The feature space of a Fréchet distance; its name is part of the metric's name.

    Attributes:
        name: e.g. `identity`, `digits_cnn`, `inception`.
        n_classes: classes that `classify` tells apart; 0 where it cannot.
    """

    name: str
    n_classes: int = 0

    @property
    def distance_name(self) -> str:
        """Of a Fréchet distance in these features; FID is kept for Inception-v3's."""
        return f"fd_{self.name}"

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """(N, *event) -> (N, d) float64 on the CPU."""

    def depths(self, x: Tensor) -> dict[str, Tensor]:
        """(N, *event) -> features by `DEPTHS`, each (N, d) float64, standardised on data that the extractor knows.

        Empty where it has features of one depth only.
        """
        return {}

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Name, weights' hash, resize and rounding: all that could change the features."""

    def classify(self, x: Tensor) -> Tensor:
        """(N, *event) -> (N,) int64 class. Raises NotImplementedError unless `n_classes` > 0."""
        raise NotImplementedError(f"extractor {self.name} has no classes")

    def view(self, x: Tensor) -> View:
        """(N, *event) -> features, depths and classes; an extractor that has them from one pass overrides it."""
        return View(self, x)


@dataclass
class View:
    """What an extractor sees of events. Each part is worked out when it is first asked for, and kept."""

    extractor: Any
    x: Tensor

    @cached_property
    def features(self) -> Tensor:
        """(N, d) float64."""
        found: Tensor = self.extractor.features(self.x)
        return found

    @cached_property
    def depths(self) -> dict[str, Tensor]:
        """By depth, each (N, d) float64; see `Extractor.depths`."""
        found: dict[str, Tensor] = self.extractor.depths(self.x)
        return found

    @cached_property
    def classes(self) -> Tensor:
        """(N,) int64."""
        found: Tensor = self.extractor.classify(self.x)
        return found


@dataclass(frozen=True)
class Seen:
    """What the events of an evaluation are conditioned on.

    Attributes:
        classes: number of values.
        are_labels: whether the values are the source's labels.
        of_samples: (N,) int64.
        of_reference: (M,) int64.
    """

    classes: int
    are_labels: bool
    of_samples: Tensor
    of_reference: Tensor


@dataclass
class Evaluation:
    """All that a metric may look at: samples of the model beside held-out real data.

    Attributes:
        data: the source.
        samples: (N, *event) drawn from the model.
        reference: (M, *event) real data that was not trained on.
        extractor: feature space.
        model: the trained family, for likelihoods.
        seed: for metrics that draw at random (subsets, projections).
        condition: of the events; None for an unconditional model.
        integration_error: nats by which the log-probabilities asked for so far may be off on average.
        in_training: whether this is a look in the middle of training: metrics draw no samples beside these.
    """

    data: Data
    samples: Tensor
    reference: Tensor
    extractor: Extractor
    model: Model
    seed: int = 0
    condition: Seen | None = None
    integration_error: float = 0.0
    in_training: bool = False

    @cached_property
    def sample_view(self) -> View:
        """What the extractor sees of the samples."""
        return self.extractor.view(self.samples)

    @cached_property
    def reference_view(self) -> View:
        """What it sees of the reference."""
        return self.extractor.view(self.reference)

    @property
    def sample_features(self) -> Tensor:
        """(N, d) float64."""
        return self.sample_view.features

    @property
    def reference_features(self) -> Tensor:
        """(M, d) float64."""
        return self.reference_view.features

    @property
    def sample_depths(self) -> dict[str, Tensor]:
        """Features by depth, each (N, d) float64; see `Extractor.depths`."""
        return self.sample_view.depths

    @property
    def reference_depths(self) -> dict[str, Tensor]:
        """Likewise, each (M, d)."""
        return self.reference_view.depths

    @property
    def sample_classes(self) -> Tensor:
        """(N,) int64 as the extractor's classifier sees them."""
        return self.sample_view.classes.cpu()

    @property
    def reference_classes(self) -> Tensor:
        """(M,) likewise."""
        return self.reference_view.classes.cpu()

    @cached_property
    def _log_probs(self) -> dict[tuple[int, bool], Tensor]:
        return {}

    def reference_log_prob(self, n: int, chunk: int, *, conditional: bool = False) -> Tensor:
        """(min(n, M),) float64 nats of the model on the first reference events; computed once for all metrics.

        With `conditional`, given each event's own value of the condition.

        Estimates draw at random (importance samples, Hutchinson probes): the global random state is seeded for the
        call and left as it was, so that the same weights give the same number whatever was measured before.
        """
        if (n, conditional) not in self._log_probs:
            x = self.reference[:n]
            values = self.condition.of_reference[:n] if conditional and self.condition is not None else None
            with one_generator_state():
                if hasattr(self.model, "integration_error"):
                    self.model.integration_error = 0.0
                torch.manual_seed(self.generator(3).initial_seed() % 2**63)
                parts = [
                    self.model.log_prob(*((x[rows],) if values is None else (x[rows], values[rows])))
                    for rows in blocks(len(x), chunk)
                ]
            self._log_probs[n, conditional] = torch.cat([part.detach().double().cpu() for part in parts])
            self.integration_error = max(self.integration_error, getattr(self.model, "integration_error", 0.0))
        return self._log_probs[n, conditional]

    def with_samples(self, samples: Tensor, values: Tensor | None = None) -> Evaluation:
        """The same evaluation of other samples, drawn for other values; what is known of the reference is kept."""
        condition = self.condition
        if condition is not None and values is not None:
            condition = replace(condition, of_samples=values)
        other = replace(self, samples=samples, condition=condition)
        other.__dict__["reference_view"] = self.reference_view
        return other

    def generator(self, purpose: int = 0) -> Generator:
        """A fresh seeded generator: each metric's draws are its own."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + purpose) % 2**63)

    def protocol(self, *, samples: bool = True, features: bool = True, **more: object) -> dict[str, str]:
        """How something was measured: source and reference split, then what matters for it.

        Args:
            samples: whether the number of samples does.
            features: whether the feature space does.
            more: settings of the metric.
        """
        split = getattr(self.data, "split", "test")
        found = {"source": self.data.name} | ({"data": data} if (data := getattr(self.data, "fingerprint", "")) else {})
        found |= {"samples": str(len(self.samples))} if samples else {}
        found |= {"reference": f"{split}:{len(self.reference)}"}
        found |= {"extractor": self.extractor.fingerprint} if features else {}
        return found | {key: str(value) for key, value in more.items()}


class Metric(ABC):
    """One idea of quality. Called once per run; returns one or several measurements.

    Attributes:
        on_curve: whether it is cheap enough to be measured in the middle of training.
    """

    on_curve: ClassVar[bool] = False

    @abstractmethod
    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """All measurements of this metric; where it does not apply, `Measurement.not_applicable`."""


def measure_all(
    metrics: Mapping[str, Metric],
    evaluation: Evaluation,
    report: Callable[[float, str], None] = lambda share, key: None,
) -> list[Measurement]:
    """Every metric on one evaluation, names checked to be unique.

    A metric that draws more samples than there are does not apply, and stands by its key.

    Args:
        metrics: by key.
        evaluation: what they look at.
        report: called before each metric with the share of them that is done, in [0, 1), and its key.

    Raises:
        ValueError: two metrics answer with one name.
    """
    found: dict[str, Measurement] = {}
    with one_generator_state():
        for number, (key, metric) in enumerate(metrics.items()):
            report(number / len(metrics), key)
            try:
                measurements = metric.measure(evaluation)
            except TooFewSamples as error:
                measurements = [Measurement.not_applicable(key, str(error))]
            for measurement in measurements:
                if measurement.name in found:
                    raise ValueError(f"metric {key}: the name {measurement.name!r} is taken by another metric")
                found[measurement.name] = measurement
    return list(found.values())


@contextmanager
def one_generator_state() -> Iterator[None]:
    """Leave torch's global random states as they were: measuring must not change training."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


def blocks(n: int, size: int) -> Sequence[slice]:
    """Slices that cover 0..n in blocks of at most `size`: bounded memory for n × n distances."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
