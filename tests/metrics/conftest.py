"""Toy sources, models and extractors: just enough for one evaluation."""

from types import SimpleNamespace

import pytest
import torch

from genfam.metrics.base import Evaluation, Extractor
from genfam.metrics.extractors import Identity
from genfam.types import Event, Likelihood


@pytest.fixture
def evaluate():
    """An evaluation of samples against a reference, toys standing in for what is not given."""

    def build(samples, reference, *, data=None, model=None, extractor: Extractor | None = None, seed=0):
        levels = None if samples.is_floating_point() else 256
        event = Event(tuple(samples.shape[1:]), levels)
        return Evaluation(
            data or SimpleNamespace(name="toy", event=event),
            samples,
            reference,
            extractor or Identity(),
            model or SimpleNamespace(event=event, likelihood_kind=Likelihood.NONE, likelihood_method=""),
            seed,
        )

    return build


@pytest.fixture
def by_name():
    """Measurements of a metric, by their names."""

    def measure(metric, evaluation):
        return {found.name: found for found in metric.measure(evaluation)}

    return measure


@pytest.fixture
def normal():
    """Seeded standard normal float64 points."""

    def draw(n, d, seed=0):
        return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return draw
