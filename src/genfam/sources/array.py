"""A user's NumPy array: points, images, or rows of a few levels.

A file is `.npy`, or `.npz` with one array of events and, if there are labels, another called `y`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genfam.build import ConfigurationError
from genfam.sources.own import OwnFile
from genfam.sources.table import Rows
from genfam.types import Event

FEW_LEVELS = 32  # of whole numbers, up to which they are levels and no points
MOST_CLASSES = 1000
KINDS = ("array", "level_array", "image_array")


def load(path: Path, where: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The events of a file, and its labels where it has some; nothing in it is run.

    Args:
        path: of the file.
        where: for errors.

    Raises:
        ConfigurationError: no array of numbers, or several.
    """
    if not path.is_file():
        raise ConfigurationError(f"{where}: expected a file at {path.absolute()}, got none")
    try:
        found = np.load(path, allow_pickle=False)
        named = {key: found[key] for key in found.files} if isinstance(found, np.lib.npyio.NpzFile) else {"": found}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigurationError(
            f"{where}: expected numbers in an .npy or .npz file at {path}, got what NumPy does not load without "
            f"running what is in it: {str(error).strip().splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    labels = named.pop("y", None)
    if len(named) != 1:
        raise ConfigurationError(
            f"{where}: expected one array of events in {path.name}, beside labels called y, got "
            f"{', '.join(sorted(named)) or 'none'}"
        )
    (events,) = named.values()
    if events.dtype.kind not in "buif":
        raise ConfigurationError(f"{where}: expected an array of numbers in {path.name}, got {events.dtype}")
    if labels is not None and (labels.shape != events.shape[:1] or labels.dtype.kind not in "buiUS"):
        raise ConfigurationError(
            f"{where}: expected {len(events) if events.ndim else 0} whole numbers or texts as labels y, got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    return events, labels


def kind_of(events: NDArray[Any]) -> str | None:
    """The source that reads such an array, of `KINDS`; None where none does.

    Bytes and truth values of three or four axes are images. Numbers of one or two axes are rows: levels, if they are
    whole and from 0 to at most 31, else points.
    """
    if events.ndim in (3, 4):
        return "image_array" if events.dtype in (np.uint8, np.bool_) else None
    if events.ndim not in (1, 2) or not events.size:
        return None
    if events.dtype.kind == "f":
        return "array"
    return "level_array" if events.min() >= 0 and events.max() < FEW_LEVELS else "array"


def array_in(path: Path, where: str, kind: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """As `load`; raises ConfigurationError where another source is the one that reads such an array."""
    events, labels = load(path, where)
    found = kind_of(events)
    if found == kind:
        return events, labels
    other = (
        f"source={found} reads it"
        if found
        else "images are bytes (uint8: of floats in [0, 1] take (255 * x).round().astype('uint8')) or truth values, "
        "points are rows of floats"
    )
    wanted = {
        "array": "points, floats of shape (N,) or (N, D)",
        "level_array": f"whole numbers from 0 to at most {FEW_LEVELS - 1} of shape (N,) or (N, D)",
        "image_array": "images, uint8 or bool of shape (N, H, W), (N, H, W, C) or (N, C, H, W)",
    }
    raise ConfigurationError(
        f"{where}: expected {wanted[kind]} in {path.name}, got {events.dtype} of shape {events.shape}: {other}"
    )


class _Labelled(OwnFile):
    """Labels of a file's events, if it has some."""

    _kind: ClassVar[str]

    @cached_property
    def _loaded(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        events, labels = array_in(self.path, f"source {self.name}", self._kind)
        if labels is not None and len(np.unique(labels)) > MOST_CLASSES:
            raise self.wrong(f"at most {MOST_CLASSES} classes in y", str(len(np.unique(labels))))
        return events, labels

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], Tensor]:
        """Names, and the (N,) int64 class of each event; none where all are of one class."""
        labels = self._loaded[1]
        names, codes = (np.array([]), None) if labels is None else np.unique(labels, return_inverse=True)
        if codes is None or len(names) < 2:
            return (), torch.zeros(len(self._loaded[0]), dtype=torch.int64)
        return tuple(str(name) for name in names.tolist()), torch.from_numpy(codes).long()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The different values of `y`, if there are two or more; else none."""
        return self._classes[0]

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64."""
        return self._classes[1][self._rows[0]]

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        return self._classes[1][self._rows[1]]

    def remarks(self) -> list[str]:
        """See `Source.remarks`."""
        events, names = self._loaded[0], self.label_names
        of = (
            f"{len(names)} classes ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})" if names else "no classes"
        )
        return [f"{events.dtype} of shape {events.shape}, {of}", *super().remarks()]


class Array(_Labelled, Rows):
    """Rows of numbers as points; each column is standardised, and its rounding undone (`genfam.sources.columns`).

    Args:
        path, data_dir, name: see `OwnFile`.

    Raises:
        ConfigurationError: at the first look, where the array cannot serve.
    """

    _kind = "array"

    def __init__(self, path: str, data_dir: str | Path | None = None, name: str = "array") -> None:
        Rows.__init__(self, path, data_dir, "refuse", (), (), name)

    def read(self) -> pd.DataFrame:
        """See `Rows.read`."""
        events = self._loaded[0].reshape(len(self._loaded[0]), -1)
        bad = int((~np.isfinite(events)).any(axis=1).sum())
        if bad:
            raise self.wrong("finite numbers", f"{bad} of {len(events)} rows that are not (NaN or infinite)")
        return pd.DataFrame(events, columns=[f"x{number}" for number in range(events.shape[1])])

    def _is_categorical(self, values: pd.Series[Any]) -> bool:
        return False


class LevelArray(_Labelled):
    """Rows of whole numbers from 0 to at most 31, whose order is of no account.

    Args:
        path, data_dir, name: see `OwnFile`.

    Raises:
        ConfigurationError: at the first look, where the array cannot serve.
    """

    _kind = "level_array"

    def __init__(self, path: str, data_dir: str | Path | None = None, name: str = "level_array") -> None:
        super().__init__(path, data_dir, name)

    @cached_property
    def event(self) -> Event:  # type: ignore[override]  # known once the file is read
        """Levels up to the largest number of the file."""
        return Event((self._events.shape[1],), max(2, int(self._events.max()) + 1))

    @cached_property
    def _events(self) -> Tensor:
        """(N, D) uint8."""
        events = self._loaded[0]
        return torch.from_numpy(events.reshape(len(events), -1).astype(np.uint8))

    @cached_property
    def _held_out(self) -> NDArray[np.bool_]:
        return self.split_of(row.tobytes() for row in self._events.numpy())

    @property
    def columns(self) -> dict[str, int]:
        """Name of each column -> its number of levels."""
        assert self.event.levels is not None
        return {f"x{number}": self.event.levels for number in range(self.event.dimensions)}

    def values(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D) float64: the levels as they are."""
        return x.double().cpu()

    def decode(self, x: Tensor) -> pd.DataFrame:
        """(B, D) -> B rows of levels."""
        return pd.DataFrame(x.cpu().numpy(), columns=list(self.columns))


class ImageArray(_Labelled):
    """Images of bytes or truth values.

    Levels: 2 of truth values; of bytes as many as the largest needs up to 32 (scans of 17 grey levels), else 256.

    Args:
        path, data_dir, name: see `OwnFile`.
        layout: of four axes, where 1 or 3 channels might be the second or the last of them.

    Raises:
        ConfigurationError: at the first look, where the array cannot serve.
    """

    _kind = "image_array"

    def __init__(
        self,
        path: str,
        data_dir: str | Path | None = None,
        layout: Literal["NHWC", "NCHW"] | None = None,
        name: str = "image_array",
    ) -> None:
        super().__init__(path, data_dir, name)
        self.layout = layout

    @cached_property
    def _events(self) -> Tensor:
        """(N, C, H, W) uint8."""
        events = self._loaded[0]
        if events.ndim == 3:
            return torch.from_numpy(events[:, None].astype(np.uint8))
        layout = self._layout(events.shape)
        return torch.from_numpy(
            events.astype(np.uint8).transpose(0, 3, 1, 2).copy() if layout == "NHWC" else events.astype(np.uint8)
        )

    def _layout(self, shape: Sequence[int]) -> str:
        possible = [name for name, axis in (("NHWC", 3), ("NCHW", 1)) if shape[axis] in (1, 3)]
        if self.layout is not None and self.layout in possible:
            return self.layout
        if len(possible) == 1 and self.layout is None:
            return possible[0]
        ask = "source.layout=NHWC or source.layout=NCHW, since either may be meant" if possible else "1 or 3 channels"
        raise self.wrong(ask, f"an array of shape {tuple(shape)}" + (f" and {self.layout}" if self.layout else ""))

    @cached_property
    def event(self) -> Event:  # type: ignore[override]  # known once the file is read
        """(C, H, W) and its levels."""
        most = int(self._events.max()) + 1
        few = 2 if self._loaded[0].dtype == np.bool_ else max(2, most)
        channels, height, width = self._events.shape[1:]
        return Event((channels, height, width), few if few <= FEW_LEVELS else 256)

    @cached_property
    def _held_out(self) -> NDArray[np.bool_]:
        return self.split_of(image.tobytes() for image in self._events.numpy())

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Train images and labels, test images and labels, for an extractor to learn classes from.

        Raises:
            ValueError: no classes, or one without training images.
        """
        if not self.label_names:
            raise ValueError(
                f"source {self.name}: expected labels called y in {self.path.name} (an .npz file); without classes use "
                "extractor=inception (or identity, for images of few pixels)"
            )
        counts = self.train_labels.bincount(minlength=len(self.label_names))
        if not counts.all():
            raise self.wrong("training images of every class", f"none of {self.label_names[int(counts.argmin())]}")
        return self.train, self.train_labels, self.test, self.test_labels

    def remarks(self) -> list[str]:
        """See `Source.remarks`."""
        channels, height, width = self.event.shape
        return [
            *super().remarks(),
            f"{height} x {width} pixels, {channels} channel{'s' * (channels > 1)}, {self.event.levels} levels",
        ]
