"""What a corruption is: a change of the training split, and of nothing else.

Test and validation split, the oracle's draws, known densities and the classifiers that measure stay those of the clean
source, so that a run is held against the same truth by the same ruler.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import cast

import torch
from torch import Generator, Tensor

from genfam.sources.base import Source
from genfam.sources.validation import KNOWLEDGE
from genfam.sources.view import View


class Corruption(ABC):
    """A change of the training split, fixed by the source's name: it is the same for every seed and family."""

    def applied(self, source: Source) -> Source:
        """The source as a family sees it."""
        return Corrupted(source, self)

    def require(self, source: Source) -> None:  # noqa: B027  # most can be applied to any source
        """Look whether it can be applied.

        Raises:
            ValueError: it cannot; the message names the key.
        """

    @abstractmethod
    def rows(self, source: Source) -> Tensor:
        """(N,) int64: which training events are shown, in this order."""

    def intruders(self, source: Source) -> tuple[Tensor, Tensor] | None:
        """(M,) int64 places among the shown events, and the (M, *event) that stand there; none by default."""
        return None


class Corrupted(Source):
    """A source with a corrupted training split.

    Args:
        source: clean.
        corruption: of its training split.
    """

    def __init__(self, source: Source, corruption: Corruption) -> None:
        self.source, self.corruption = source, corruption
        self.name, self.event, self.split = source.name, source.event, source.split
        for known in KNOWLEDGE:
            if hasattr(source, known):  # as `ValidationSplit` does: protocols look at what is really there
                setattr(self, known, getattr(source, known))

    def require(self) -> None:
        """The source's, and whether the corruption can be applied."""
        self.source.require()
        self.corruption.require(self.source)

    def count(self) -> int | None:
        """The clean source's: a corruption leaves out but a small part, or repeats what it leaves."""
        return self.source.count()

    def contents(self) -> str | None:
        """The source's."""
        return self.source.contents()

    def remarks(self) -> list[str]:
        """The source's."""
        return self.source.remarks()

    @cached_property
    def fingerprint(self) -> str:
        """The source's: what is measured against is clean."""
        return self.source.fingerprint

    @cached_property
    def _rows(self) -> Tensor:
        self.corruption.require(self.source)
        return self.corruption.rows(self.source)

    @cached_property
    def train(self) -> Tensor:
        """(N, *event): what may be learnt from; made when looked at where the source's is."""
        events, rows, intruders = self.source.train, self._rows, self.corruption.intruders(self.source)
        if isinstance(events, Tensor):
            found = events[rows]
            if intruders is not None:
                found[intruders[0]] = intruders[1]
            return found
        if intruders is None:
            return cast(Tensor, View(len(rows), lambda chosen: events[rows[chosen]]))
        places, others = intruders
        which = torch.full((len(rows),), -1).index_copy_(0, places, torch.arange(len(places)))

        def look(chosen: Tensor) -> Tensor:
            seen = events[rows[chosen]].clone()
            strange = which[chosen]
            seen[strange >= 0] = others[strange[strange >= 0]]
            return seen

        return cast(Tensor, View(len(rows), look))

    @property
    def test(self) -> Tensor:
        """(M, *event): clean."""
        return self.source.test

    @property
    def label_names(self) -> tuple[str, ...]:
        """The source's."""
        return self.source.label_names

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64; an intruder has the label of the event in whose place it stands."""
        return self.source.train_labels[self._rows]

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        return self.source.test_labels

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, *event): fresh real data, clean."""
        return self.source.sample(n, generator=generator)
