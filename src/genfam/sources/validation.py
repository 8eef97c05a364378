"""The validation split (`split=validation`): what tuning may look at, so that the test split stays unseen.

The rule: of a source whose training split is all there is, the last tenth after a permutation seeded by the source's
name, to be learnt from the rest. Of a known source, whose data are fresh draws, a second draw beside the test split's.
A source may have a part of its own for it (`for_validation`) where single events would not do, since they overlap.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Generator, Tensor

from genfam.seeds import derived_generator
from genfam.sources.base import KnownSource, Source
from genfam.sources.images import draw
from genfam.sources.view import View

VALIDATION_SHARE = 0.1
SPLITS = ("test", "validation")
# What a source may know of itself beside its splits: the optional protocols of `genfam.types`.
KNOWLEDGE = (
    "mode_masses",
    "assign",
    "modes",
    "log_prob",
    "entropy",
    "support",
    "table",
    "classifier_images",
    "label_of",
    "placed",
    "ngrams",
    "text",
    "columns",
    "values",
    "decode",
)


@runtime_checkable
class PartForValidation(Protocol):
    """A source that sets a part of its own apart."""

    def for_validation(self) -> Tensor:
        """(M, *event): in no training split."""
        ...


class ValidationSplit(Source):
    """A source seen through its training split alone: learnt from one part, measured against the other.

    Of sources made of another set's images (stacks) events are set apart, not the images that they are made of.
    Classifiers of the source are the tables' own, so that the ruler is the same; they were trained on the whole
    training split, and its test images serve for nothing but the accuracy that they state.

    Args:
        source: whose `test` is never asked for.

    Attributes:
        split: `validation`, as it stands in fingerprints.
    """

    split = "validation"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name, self.event = source.name, source.event
        for known in KNOWLEDGE:
            # Copied, not handed on by `__getattr__`: from Python 3.12 on protocols look at what is really there.
            if hasattr(source, known):
                setattr(self, known, getattr(source, known))
        self._apart = isinstance(source, KnownSource | PartForValidation)  # all of the training split is learnt

    def require(self) -> None:
        """See `Source.require`."""
        self.source.require()

    def count(self) -> int | None:
        """Without what is set apart, as far as it is known."""
        there = self.source.count()
        return there if there is None or self._apart else there - max(1, round(VALIDATION_SHARE * there))

    def contents(self) -> str | None:
        """The source's."""
        return self.source.contents()

    def remarks(self) -> list[str]:
        """The source's."""
        return self.source.remarks()

    @cached_property
    def fingerprint(self) -> str:
        """The source's; `split` tells them apart."""
        return self.source.fingerprint

    @property
    def label_names(self) -> tuple[str, ...]:
        """The source's."""
        return self.source.label_names

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64."""
        labels = self.source.train_labels
        return labels if isinstance(self.source, KnownSource) else labels[self._rows[0]]

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        if isinstance(self.source, KnownSource):
            return self.source.label_of(self.test)
        return self.source.train_labels[self._rows[1]]

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        """Indices of the training split to learn from, and to measure against."""
        size = len(self.source.train)
        order = torch.randperm(size, generator=derived_generator(0, self.name, "validation"))
        kept = size - max(1, round(VALIDATION_SHARE * size))
        return order[:kept], order[kept:]

    @cached_property
    def train(self) -> Tensor:
        """(N, *event): the training split, without its last tenth unless other events are measured against."""
        events = self.source.train
        if self._apart:
            return events
        rows = self._rows[0]
        if isinstance(events, Tensor):
            return events[rows]
        return cast(Tensor, View(len(rows), lambda chosen: events[rows[chosen]]))

    @cached_property
    def test(self) -> Tensor:
        """(M, *event): the validation split."""
        if isinstance(self.source, KnownSource):
            generator = derived_generator(0, self.name, "validation")
            return self.source.sample(self.source.test_size, generator=generator)
        if isinstance(self.source, PartForValidation):
            return self.source.for_validation()
        return self.source.train[self._rows[1]]

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, *event): real data that is not in the validation split."""
        if isinstance(self.source, KnownSource):
            return self.source.sample(n, generator=generator)
        return draw(self.train, n, generator)


def seen_through(split: str, source: Source) -> Source:
    """The source as `split` asks for it.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {list(SPLITS)}, got {split!r}")
    return ValidationSplit(source) if split == "validation" else source
