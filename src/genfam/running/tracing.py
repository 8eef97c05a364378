"""What a run's trace looks at: modes, quality and critic of the live players, again and again during training.

`genfam.metrics.failures` reads the traces; nothing here judges.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genfam.families.base import Family
from genfam.metrics.base import Extractor, one_generator_state
from genfam.metrics.neighbours import distances, radii_of
from genfam.seeds import derive_seed, derived_generator
from genfam.sources.base import Source
from genfam.types import Batch, KnownModes, Trace, TracePoint

COUNTABLE = 64  # modes; of more, a few hundred samples say nothing about any single one
NEIGHBOURS = 5
REFERENCE = 1000  # real events that span the manifold


class Tracer:
    """Looks at a family in training; its random numbers are its own, and the same at every look.

    High quality is to lie on a known mode (within 3σ, PacGAN's rule) or, for images, in the ball of a real event's
    five nearest neighbours (the terms of improved precision, Kynkäänniemi et al. 2019, equation 1).

    Args:
        source: whose modes are counted.
        extractor: whose classes are the modes where the source does not know its own.
        samples: per look.
        seed: of the run.
    """

    def __init__(self, source: Source, extractor: Extractor, samples: int, seed: int) -> None:
        self.source, self.samples, self.seed = source, samples, seed
        self.assign: Callable[[Tensor], Tensor] | None = None
        self.modes = 0
        self.good: Callable[[Tensor], Tensor]
        if isinstance(source, KnownModes):
            self.assign, self.modes = source.assign, len(source.mode_masses)
        elif extractor.n_classes:
            self.assign, self.modes = extractor.classify, extractor.n_classes
        if not isinstance(source, KnownModes):
            self.good = manifold(extractor, source.test[:REFERENCE])
        fresh = source.sample(samples, generator=derived_generator(seed, source.name, "oracle"))
        self.oracle_modes, self.oracle_quality, _ = self.seen(fresh)

    def look(self, family: Family) -> TracePoint:
        """The live players now; training's random state is left as it was."""
        with one_generator_state(), family.without_average():
            samples = family.sample(self.samples, generator=derived_generator(self.seed, self.source.name, "trace"))
            torch.manual_seed(derive_seed(self.seed, self.source.name, "trace"))
            of_training = family.condition.of_training
            values = None if of_training is None else of_training[: self.samples]
            real = Batch(self.source.train[: self.samples], values).to(family.device)
            critic_accuracy = family.diagnostics(real).get("critic_accuracy")
        modes, quality, counts = self.seen(samples.cpu())
        return TracePoint(family.updates, modes, quality, counts, critic_accuracy)

    def seen(self, samples: Tensor) -> tuple[int, float, tuple[int, ...]]:
        """(N, *event) -> number of modes reached, share of high quality, samples per mode."""
        assigned = self.assign(samples) if self.assign is not None else torch.full((len(samples),), -1)
        counts = assigned[assigned >= 0].bincount(minlength=self.modes)
        if isinstance(self.source, KnownModes):
            quality = float((assigned >= 0).double().mean())
        else:
            quality = float(self.good(samples).double().mean())
        listed = tuple(int(count) for count in counts) if self.modes <= COUNTABLE else ()
        return int((counts > 0).sum()), quality, listed

    def trace(self, points: list[TracePoint]) -> Trace:
        """The points, beside what fresh real events show."""
        return Trace(self.samples, float(self.oracle_modes), self.oracle_quality, tuple(points))


def manifold(extractor: Extractor, real: Tensor) -> Callable[[Tensor], Tensor]:
    """(M, *event) real events -> (N, *event) to (N,) bool: whether a sample lies in a real event's ball."""
    features = extractor.features(real)
    radii = radii_of(features, min(NEIGHBOURS, len(features) - 1), 1000)

    def inside(samples: Tensor) -> Tensor:
        return (distances(extractor.features(samples), features) <= radii).any(dim=1)

    return inside
