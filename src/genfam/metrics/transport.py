"""How far, and by which way, a family carries one source into another.

* `squared_displacement`: E‖x_1 − x_0‖² between a start and where it goes; of levels in shares of their range.
* `path_energy`: E ∫‖v(x_t, t)‖² dt along a family's path. A map without a path goes straight, so that its energy is its
  squared displacement.
* `normalised_path_energy`: |energy − W₂²| / W₂², with W₂² of the exact optimal plan between as many starts and fresh
  target events: 0 for the optimal flow. Finite samples raise W₂² by about as much as they raise the oracle's energy, so
  the oracle's value is the floor.
* `class_kept`: the share of starts whose class is recognised at their end; where both sources name the same classes and
  the extractor is a classifier.

References:
    Tong, A. et al. 2024. Improving and generalizing flow-based generative models with minibatch optimal transport.
        https://arxiv.org/abs/2302.00482 (section 5.1, normalised path energy)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import mean
from genfam.ranges import Several
from genfam.types import Data, Estimate, Kind, Measurement

NAMES = ("squared_displacement", "path_energy", "normalised_path_energy", "class_kept")


class TransportCost(Metric):
    """All of the above; not applicable where samples begin at noise."""

    def __init__(self, starts: Several = 2000) -> None:
        """Sizes.

        Args:
            starts: events of the first source that are carried: the optimal plan takes their square in memory.
        """
        self.starts = starts

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Four measurements."""
        model: Any = evaluation.model
        init: Data | None = getattr(model, "init", None)
        if init is None:
            return [Measurement.not_applicable(name, "samples begin at noise", kind=Kind.OTHER) for name in NAMES]
        generator = evaluation.generator(6)
        rows = torch.randint(len(init.train), (self.starts,), generator=generator)
        starts = init.train[rows]
        with torch.no_grad():
            ends = model.carry(starts.to(model.device), generator).cpu()
            energy = model.path_energy(starts.to(model.device), generator) if hasattr(model, "path_energy") else None
        moved = squares(starts, ends, init)
        spent = moved if energy is None else energy.double().cpu()
        fresh = evaluation.data.sample(self.starts, generator=evaluation.generator(7))
        least = optimal_cost(starts, fresh, init)
        begun = getattr(init, "fingerprint", init.name)
        protocol = evaluation.protocol(samples=False, features=False, init=begun, starts=self.starts)
        spent_mean = mean(spent)
        gap = Estimate(abs(spent_mean.value - least) / least, (spent_mean.stderr or 0.0) / least, self.starts)
        return [
            Measurement("squared_displacement", "1", None, mean(moved), protocol, Kind.OTHER),
            Measurement("path_energy", "1", None, spent_mean, protocol, Kind.OTHER),
            Measurement("normalised_path_energy", "1", False, gap, protocol, Kind.OTHER),
            self._kept(evaluation, init, rows, ends, protocol),
        ]

    @staticmethod
    def _kept(evaluation: Evaluation, init: Data, rows: Tensor, ends: Tensor, protocol: dict[str, str]) -> Measurement:
        names = tuple(evaluation.data.label_names)
        if not evaluation.extractor.n_classes or not names or names != tuple(init.label_names):
            reason = "the two sources do not name the same classes, or no classifier recognises them"
            return Measurement.not_applicable("class_kept", reason, kind=Kind.OTHER)
        hits = (evaluation.extractor.classify(ends).cpu() == init.train_labels[rows]).double()
        seen = protocol | {"extractor": evaluation.extractor.fingerprint}
        return Measurement("class_kept", "1", True, mean(hits), seen, Kind.OTHER)


def places(x: Tensor, data: Data) -> Tensor:
    """(N, *event) -> (N, D) float64; levels as shares of their range."""
    return x.flatten(1).double() / (data.event.levels or 1)


def squares(starts: Tensor, ends: Tensor, data: Data) -> Tensor:
    """-> (N,) squared distances."""
    return (places(ends, data) - places(starts, data)).square().sum(dim=1)


def optimal_cost(starts: Tensor, ends: Tensor, data: Data) -> float:
    """W₂² between as many starts and ends, exactly."""
    cost = torch.cdist(places(starts, data), places(ends, data)).square().numpy()
    found = float(cost[linear_sum_assignment(cost)].mean())
    return found if found > 0.0 else math.ulp(1.0)
