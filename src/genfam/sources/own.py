"""Events of a user's own file: found, split by what they are, and drawn from again as the oracle does."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from genfam.build import ConfigurationError
from genfam.files import contents_of
from genfam.sources.base import Source
from genfam.sources.images import draw

TEST_SHARE, FEWEST_TEST, MOST_TEST = 0.2, 50, 10_000
FEWEST_TRAIN = 100


def held_out(rows: Iterable[bytes]) -> NDArray[np.bool_]:
    """Which of N rows are for testing: the fifth with the smallest SHA-256, at least 50 of them and at most 10,000.

    A row's contents decide, so that the order of rows changes nothing, and equal rows lie on the same side.

    Returns:
        (N,) mask; somewhat more are held out where the last of them is one of several equal rows.
    """
    keys = np.array([int.from_bytes(hashlib.sha256(row).digest()[:8], "big") for row in rows], dtype=np.uint64)
    wanted = min(MOST_TEST, max(FEWEST_TEST, round(TEST_SHARE * len(keys))), len(keys))
    last = np.partition(keys, wanted - 1)[wanted - 1]
    found: NDArray[np.bool_] = keys <= last
    return found


class OwnFile(Source):
    """Events of one file of a user's, split by `held_out`. The oracle draws from the training split.

    Args:
        path: below `data_dir`, or absolute.
        data_dir: where `path` lies.
        name: of the source.

    Raises:
        ConfigurationError: at the first look, where the file cannot serve.
    """

    places = ("data_dir", "path", "download")

    def __init__(self, path: str, data_dir: str | Path | None, name: str) -> None:
        self.path = Path(data_dir or ".").expanduser() / Path(path).expanduser()
        self.name = name

    @property
    @abstractmethod
    def _events(self) -> Tensor:
        """(N, *event): all that the file has."""

    @property
    @abstractmethod
    def _held_out(self) -> NDArray[np.bool_]:
        """(N,): see `held_out`."""

    def wrong(self, expected: str, got: str) -> ConfigurationError:
        """What is said of the file."""
        return ConfigurationError(f"source {self.name}: expected {expected}, got {got}")

    def check_file(self) -> None:
        """Raise ConfigurationError where there is no file."""
        if not self.path.is_file():
            raise self.wrong(
                f"a file at {self.path.absolute()} (source.path=…, below data_dir=… where that is given)", "none"
            )

    def split_of(self, rows: Iterable[bytes]) -> NDArray[np.bool_]:
        """(N,): `held_out`. Raises ConfigurationError where either side is too small."""
        listed = list(rows)
        mask = held_out(listed) if listed else np.zeros(0, dtype=bool)
        tested, trained = int(mask.sum()), int((~mask).sum())
        if tested < FEWEST_TEST or trained < FEWEST_TRAIN:
            raise self.wrong(
                f"at least {FEWEST_TEST + FEWEST_TRAIN} rows, so that {FEWEST_TEST} can be held out and "
                f"{FEWEST_TRAIN} learnt from (equal rows lie on one side)",
                f"{len(mask)} in {self.path.name}, of which {tested} would be held out",
            )
        return mask

    def require(self) -> None:
        """See `Source.require`; the file is read for it, since it must be whole and finite."""
        assert len(self._events)

    def count(self) -> int | None:
        """Events that are not held out."""
        return int((~self._held_out).sum())

    def contents(self) -> str | None:
        """See `Source.contents`."""
        self.check_file()
        return contents_of(self.path.parent, [Path(self.path.name)])

    def remarks(self) -> list[str]:
        """See `Source.remarks`."""
        tested = int(self._held_out.sum())
        return [f"{len(self._held_out)} rows; {tested} for testing, chosen by the hash of their contents"]

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        """Indices of training and of test events."""
        mask = torch.from_numpy(self._held_out)
        return (~mask).nonzero()[:, 0], mask.nonzero()[:, 0]

    @cached_property
    def train(self) -> Tensor:
        """(N, *event)."""
        return self._events[self._rows[0]]

    @cached_property
    def test(self) -> Tensor:
        """(M, *event)."""
        return self._events[self._rows[1]]

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, *event) of the training split, without repetition as long as they last."""
        return draw(self.train, n, generator)
