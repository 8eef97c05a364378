"""Samples that exist already, in the place of a family: what metrics ask a model for, the guest hands out."""

from __future__ import annotations

from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Generator, Tensor

from genfam.families.untrained import WithoutNetwork
from genfam.ranges import Positive
from genfam.types import Data, Event, Likelihood, TooFewSamples


class Guest(WithoutNetwork):
    """Events that were drawn elsewhere, handed out at random and without repetition.

    Its weights are the events (`events`), so that a stored guest can be measured again.

    Args:
        event: of the source.
        contents: SHA-256 of the events, which is what tells one guest from another.
        compute: training FLOPs, as whoever brings the samples states them; None = not stated.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.NONE

    def __init__(self, event: Event, contents: str, compute: Positive | None = None) -> None:
        super().__init__(event)
        self.contents, self.compute = contents, compute
        self.events: Tensor
        kind = torch.uint8 if event.is_discrete else torch.float32
        self.declare("events", torch.zeros((0, *event.shape), dtype=kind), sampling=True)
        self._left: WeakKeyDictionary[Generator, Tensor] = WeakKeyDictionary()  # rows that it has not drawn yet

    def prepare(self, data: Data) -> None:
        """A guest cannot be made from settings.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "family: a guest is its samples, which settings do not hold: genfam-judge samples=… takes them, and "
            "genfam-evaluate run=FOLDER measures a stored guest again"
        )

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event), none that the same generator has drawn before.

        Raises:
            TooFewSamples: so many are not left.
        """
        left = self._left.get(generator)
        if left is None:
            left = torch.randperm(len(self.events), generator=generator)
        if n > len(left):
            asked = len(self.events) - len(left) + n
            raise TooFewSamples(f"needs {asked:,} samples or more, and there are {len(self.events):,}")
        self._left[generator] = left[n:]
        return self.events[left[:n].to(self.device)]
