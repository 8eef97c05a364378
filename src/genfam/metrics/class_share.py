"""How often a model draws one class: what becomes of a class that is rare in training.

A class is a known mode, or a class of the extractor's classifier. Its share is small, so more samples are drawn than
the other metrics see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import share
from genfam.ranges import Count, CountOrNone
from genfam.types import Data, Estimate, Kind, KnownModes, Measurement

NAMES = ("class_share", "class_share_ratio")


class ClassShare(Metric):
    """`class_share`, of the samples, and `class_share_ratio`, that over the share of the training split (1 is right).

    A sample that is on no known mode is of no class.
    """

    def __init__(self, of_class: CountOrNone = 0, samples: Count = 20_000, sample_chunk: Count = 2500) -> None:
        """The class, and sizes.

        Args:
            of_class: index of the class.
            samples: drawn afresh.
            sample_chunk: drawn at once, which bounds memory.
        """
        self.of_class, self.samples, self.sample_chunk = of_class, samples, sample_chunk

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Two measurements; not applicable where there are no labels, or nothing tells them from an event."""
        data = evaluation.data
        known = isinstance(data, KnownModes)
        classes = len(data.mode_masses) if isinstance(data, KnownModes) else evaluation.extractor.n_classes
        if not data.label_names or classes != len(data.label_names) or self.of_class >= classes:
            reason = f"{data.name} has no class {self.of_class} that could be told from an event"
            return [Measurement.not_applicable(name, reason, kind=Kind.COVERAGE) for name in NAMES]
        x = self._draw(evaluation)
        bad = int((~torch.isfinite(x.double()).flatten(1).all(dim=1)).sum())
        if bad:
            reason = f"{bad} of {len(x)} samples are not finite"
            return [Measurement.not_applicable(name, reason, kind=Kind.COVERAGE) for name in NAMES]
        drawn = share(self._classes(evaluation, x) == self.of_class)
        trained = self.share_of_training(data)
        about = {"class": self.of_class, "drawn": len(x), "of_training": f"{trained:.4g}"}
        protocol = evaluation.protocol(samples=False, features=not known, **about)
        first = Measurement("class_share", "1", None, drawn, protocol, Kind.COVERAGE)
        if trained == 0.0:
            reason = "the training split has none of the class"
            return [first, Measurement.not_applicable("class_share_ratio", reason, kind=Kind.COVERAGE)]
        assert drawn.stderr is not None
        ratio = Estimate(drawn.value / trained, drawn.stderr / trained, drawn.n)
        return [first, Measurement("class_share_ratio", "1", None, ratio, protocol, Kind.COVERAGE)]

    def share_of_training(self, data: Data) -> float:
        """The class's share of the training split, by its labels."""
        return float((data.train_labels == self.of_class).double().mean())

    def _draw(self, evaluation: Evaluation) -> Tensor:
        """(N, *event): fresh samples; those that there are where the model gives no others."""
        sample = getattr(evaluation.model, "sample", None)
        if sample is None:
            return evaluation.samples
        generator = evaluation.generator(7)
        sizes = [min(self.sample_chunk, self.samples - at) for at in range(0, self.samples, self.sample_chunk)]
        return torch.cat([sample(size, generator=generator).cpu() for size in sizes])

    @staticmethod
    def _classes(evaluation: Evaluation, x: Tensor) -> Tensor:
        """(N, *event) -> (N,) int64; −1 for none."""
        data = evaluation.data
        if isinstance(data, KnownModes):
            return data.assign(x).cpu()
        return evaluation.extractor.classify(x).cpu()
