"""What a source gives: an event, a training and a test split, and fresh real data."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Generator, Tensor

from genfam.seeds import derived_generator
from genfam.types import KNOWN_TRAINING_EVENTS, Event


class Source(ABC):
    """Where data come from.

    Attributes:
        name: as in tables and seeds.
        event: shape and levels of one data point; discrete events are uint8 levels, continuous ones float32.
        split: what `test` is, as fingerprints say it.
        settings: its configuration without its class's defaults; set where it is built from one.
        places: settings that say where its data lie, and not what they are.
    """

    split: str = "test"
    settings: Mapping[str, Any] = MappingProxyType({})
    places: ClassVar[tuple[str, ...]] = ("data_dir", "download")

    name: str
    event: Event

    @property
    @abstractmethod
    def train(self) -> Tensor:
        """(N, *event): what may be learnt from."""

    @property
    @abstractmethod
    def test(self) -> Tensor:
        """(M, *event): the reference split, never trained on."""

    @abstractmethod
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, *event): fresh real data, what the oracle draws."""

    def require(self) -> None:  # noqa: B027  # most sources need no files
        """Look whether its files are there, without reading them.

        Raises:
            FileNotFoundError, ValueError: they are not, or not as they should be.
        """

    def count(self) -> int | None:
        """Number of training events, as far as that is known without reading them."""
        return None

    def contents(self) -> str | None:
        """SHA-256 of the names and bytes of its files; None where its settings alone say what its events are.

        Raises:
            FileNotFoundError, ValueError: as for `require`.
        """
        return None

    def remarks(self) -> list[str]:
        """What a user should know of the files that were found, a sentence each."""
        return []

    @cached_property
    def fingerprint(self) -> str:
        """What its reference hangs on: its class, settings and contents, e.g. `Ring(radius=100.0)`."""
        found = {key: value for key, value in self.settings.items() if key not in self.places}
        contents = self.contents()
        found |= {} if contents is None else {"contents": contents[:12]}
        return f"{type(self).__name__}({', '.join(f'{k}={json.dumps(v, sort_keys=True)}' for k, v in found.items())})"

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the classes that events have, for people; none by default."""
        return ()

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64 class of each training event. Raises ValueError where events have none."""
        raise ValueError(f"source {self.name} has no labels")

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64 class of each event of the reference split. Raises ValueError where events have none."""
        raise ValueError(f"source {self.name} has no labels")


class KnownSource(Source):
    """A source whose p_data can be written down and drawn from at will.

    Its splits are fixed draws (by the source's name, not the run's seed): a million events to learn from, so that
    the table of the training split itself lies within a total variation of √(K / 2πN) of the truth, 0.006 for
    256 states; and 10,000 to measure against.
    """

    train_size: int = KNOWN_TRAINING_EVENTS
    test_size: int = 10_000

    @cached_property
    def train(self) -> Tensor:
        """(train_size, *event)."""
        return self.sample(self.train_size, generator=derived_generator(0, self.name, "train"))

    @cached_property
    def test(self) -> Tensor:
        """(test_size, *event)."""
        return self.sample(self.test_size, generator=derived_generator(0, self.name, "test"))

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) float64 nats, per counting measure or per volume as the event says."""

    def label_of(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) int64: the mode an event comes from. Raises ValueError where it has no label."""
        raise ValueError(f"source {self.name} has no labels")

    @cached_property
    def train_labels(self) -> Tensor:
        """(train_size,) int64."""
        return self.label_of(self.train)

    @cached_property
    def test_labels(self) -> Tensor:
        """(test_size,) int64."""
        return self.label_of(self.test)
