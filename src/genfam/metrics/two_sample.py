"""Classifier two-sample test: can a small network tell samples from held-out data?

Its cross-validated accuracy is about ½ where it cannot, 1 where it always can. Fresh training data may exceed ½ where
the splits differ: compare with the oracle. It detects what the network can learn, in the events themselves or in an
extractor's features. It is nearly blind to flaws of few samples, and repeated samples raise it, since copies fall into
different folds.

Reference:
    D. Lopez-Paz & M. Oquab (2017). Revisiting classifier two-sample tests. https://arxiv.org/abs/1610.06545
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import refusal, share
from genfam.ranges import Count, Several
from genfam.types import Kind, Measurement


class TwoSample(Metric):
    """`c2st_event` or `c2st_features`: lower is better; the oracle's value is the floor."""

    def __init__(
        self, space: Literal["event", "features"] = "event", events: Several = 1000, hidden: Count = 64
    ) -> None:
        """Sizes.

        Args:
            space: what the network sees.
            events: of either kind, at most.
            hidden: units of its one hidden layer.
        """
        self.space, self.events, self.hidden = space, events, hidden
        self.name = f"c2st_{space}"

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable to too few events or ones that are not finite."""
        reason = refusal(evaluation, at_least=50)
        if reason is not None:
            return [Measurement.not_applicable(self.name, reason, kind=Kind.DISTANCE)]
        seen = [evaluation.samples, evaluation.reference]
        if self.space == "features":
            seen = [evaluation.sample_features, evaluation.reference_features]
        n = min(self.events, *map(len, seen))
        x = torch.cat([part[:n].flatten(1).double() for part in seen]).numpy()
        hits = self._hits(x, np.repeat([0, 1], n), evaluation.seed % 2**31)
        protocol = evaluation.protocol(
            features=self.space == "features", events=n, network=f"one layer of {self.hidden}"
        )
        return [Measurement(self.name, "1", False, share(torch.from_numpy(hits)), protocol, Kind.DISTANCE)]

    def _hits(self, x: NDArray[np.float64], y: NDArray[Any], seed: int) -> NDArray[np.bool_]:
        """(2n, d), (2n,) -> (2n,) whether each is told right by a network that was not fitted on it."""
        from sklearn.exceptions import ConvergenceWarning  # here: a second that most runs do not need
        from sklearn.model_selection import StratifiedKFold
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        hits = np.zeros(len(y), dtype=bool)
        for fit, held_out in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y):
            network = MLPClassifier((self.hidden,), alpha=1.0, max_iter=40, random_state=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # forty passes are what it gets
                model = make_pipeline(StandardScaler(), network).fit(x[fit], y[fit])
            hits[held_out] = model.predict(x[held_out]) == y[held_out]
        return hits
