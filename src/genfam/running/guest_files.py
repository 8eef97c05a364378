"""Samples from elsewhere as a source's events: read, told apart, and checked before anything is measured."""

from __future__ import annotations

import glob
import hashlib
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genfam.build import ConfigurationError
from genfam.sources.listing import list_images, printable
from genfam.types import Event

LAYOUTS = ("NCHW", "NHWC")
SUFFIXES = (".npz", ".npy", ".csv")
SLACK = 1e-6  # of the range, by which floats may be outside: rounding of float32


@dataclass(frozen=True)
class Reading:
    """What a user says of arrays, where they do not say it themselves.

    Attributes:
        range: the values that stand for the lowest and the highest level.
        layout: of images: `NCHW` or `NHWC`.
        key: of an .npz file with several arrays.
    """

    range: tuple[float, float] | None = None
    layout: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigurationError: a range without width, or no such layout."""
        if self.range is not None and not (np.isfinite(self.range).all() and self.range[0] < self.range[1]):
            raise ConfigurationError(f"range: expected [LOW,HIGH] with LOW below HIGH, got {list(self.range)}")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ConfigurationError(f"layout: expected NCHW or NHWC, got {self.layout!r}")


def paths_of(samples: str | Path) -> list[Path]:
    """A file, a folder of images, a pattern (`run*.npz`), or several of these with commas, sorted within a pattern.

    Raises:
        ConfigurationError: nothing there.
    """
    whole = Path(samples).expanduser()
    if whole.exists():
        return [whole]
    found: list[Path] = []
    for part in (part.strip() for part in str(samples).strip("[]").split(",")):
        there = sorted(Path(name) for name in glob.glob(str(Path(part).expanduser()))) if part else []
        if not there:
            raise ConfigurationError(f"samples: expected a file, a folder of images or a pattern, found no {part!r}")
        found += there
    return found


def read(path: Path, event: Event, reading: Reading) -> Tensor:
    """One file's or folder's samples as (N, *event).

    Raises:
        ConfigurationError: it cannot be read, or holds no such events; one line that names the file.
    """
    said = f"samples, {printable(path)}"
    if path.is_dir():
        return events_of(_images(path, event, said), event, reading, said)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigurationError(f"{said}: expected {', '.join(SUFFIXES)} or a folder of images")
    try:
        array = _table(path, said) if path.suffix.lower() == ".csv" else _array(path, reading, said)
    except ConfigurationError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:  # numpy's and pandas', of a torn file
        raise ConfigurationError(f"{said}: cannot be read: {' '.join(str(error).split())}") from error
    return events_of(array, event, reading, said)


def events_of(array: Any, event: Event, reading: Reading, said: str = "samples") -> Tensor:
    """An array (numpy, torch, or what numpy takes) as events: levels as uint8, points as float32.

    Whole numbers are levels; with `range`, they and floats are placed on the levels and rounded to the nearest.

    Args:
        array: (N, *event), or (N, H, W, C) of images, or with images of one channel (N, H, W) or (N, H·W).
        event: of the source.
        reading: what the user says.
        said: what it is called in errors.

    Raises:
        ConfigurationError: another shape, one that can be read in two ways, values that are no numbers or outside.
    """
    x = np.asarray(array.detach().cpu() if isinstance(array, Tensor) else array)
    if x.dtype.kind not in "buif":
        raise ConfigurationError(f"{said}: expected numbers, got {x.dtype}")
    x = _shaped(x, event, reading.layout, said)
    bad = 0 if x.dtype.kind != "f" else int((~np.isfinite(x)).reshape(len(x), -1).any(axis=1).sum())
    if bad:
        raise ConfigurationError(f"{said}: expected finite numbers, got NaN or infinity in {bad} of {len(x)} samples")
    if event.levels is None:
        if reading.range is not None:
            raise ConfigurationError("range: expected none, for the source's events have no levels: give its own units")
        with np.errstate(over="ignore"):
            points = x.astype(np.float32)
        if not np.isfinite(points).all():
            raise ConfigurationError(f"{said}: expected numbers within float32, got up to {np.abs(x).max():.3g}")
        return torch.from_numpy(points)
    return torch.from_numpy(_levels(x, event.levels, reading.range, said))


def contents_of(events: Tensor) -> str:
    """SHA-256 of the events, whatever file they came in."""
    return hashlib.sha256(f"{tuple(events.shape)}".encode() + events.contiguous().numpy().tobytes()).hexdigest()


def _levels(x: NDArray[Any], levels: int, given: tuple[float, float] | None, said: str) -> NDArray[np.uint8]:
    low, high = x.min(), x.max()
    if given is None:
        if x.dtype.kind == "f":
            raise ConfigurationError(
                f"range: expected range=[LOW,HIGH], the floats that stand for levels 0 and {levels - 1}, got none; "
                f"{said} holds {low:.4g} to {high:.4g}"
            )
        if low < 0 or high > levels - 1:
            raise ConfigurationError(
                f"{said}: expected levels 0 to {levels - 1}, got {low} to {high}; if they stand for another range, say "
                "so: range=[LOW,HIGH]"
            )
        return x.astype(np.uint8)
    slack = SLACK * (given[1] - given[0])
    if low < given[0] - slack or high > given[1] + slack:
        raise ConfigurationError(
            f"{said}: expected values in range=[{given[0]:g},{given[1]:g}], got {low:.4g} to {high:.4g}"
        )
    share = (x.astype(np.float64) - given[0]) / (given[1] - given[0])
    placed: NDArray[np.uint8] = np.rint(share * (levels - 1)).clip(0, levels - 1).astype(np.uint8)
    return placed


def _shaped(x: NDArray[Any], event: Event, layout: str | None, said: str) -> NDArray[Any]:
    """(N, *event), from any layout that the event's shape tells apart."""
    shape = event.shape
    if len(shape) != 3:
        if layout is not None:
            raise ConfigurationError("layout: expected none, for the source's events are no images")
        if x.ndim == 1 and shape == (1,):
            x = x[:, None]
        if x.shape[1:] != shape or not len(x):
            raise ConfigurationError(f"{said}: expected shape (N, {_text(shape)}), got ({_text(x.shape)})")
        return x
    channels, height, width = shape
    last = (height, width, channels)
    flat = x.shape[1:] == (event.dimensions,)
    fits = {"NCHW": x.shape[1:] == shape or flat, "NHWC": x.shape[1:] == last or flat}
    if channels == 1 and (flat or x.shape[1:] == (height, width)):
        fits = dict.fromkeys(fits, True)
    chosen = [name for name, does in fits.items() if does and layout in (None, name)]
    if not chosen or not len(x):
        also = f" or (N, {_text((height, width))})" if channels == 1 else ""
        wanted = {None: f"(N, {_text(shape)}) or (N, {_text(last)}){also}", "NCHW": f"(N, {_text(shape)})"}
        expected = wanted.get(layout, f"(N, {_text(last)})")
        raise ConfigurationError(f"{said}: expected shape {expected}, got ({_text(x.shape)})")
    if len(chosen) == 2 and channels > 1:
        raise ConfigurationError(
            f"layout: expected layout=NCHW or layout=NHWC, for ({_text(x.shape)}) in {said} can be read in both ways"
        )
    if channels == 1 or chosen[0] == "NCHW":
        return x.reshape(len(x), *shape)
    return np.moveaxis(x.reshape(len(x), *last), 3, 1)


def _text(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))


def _array(path: Path, reading: Reading, said: str) -> NDArray[Any]:
    with open(path, "rb") as opened:
        found = np.load(opened, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        names = list(found)
        key = reading.key or ("samples" if "samples" in names else names[0] if len(names) == 1 else None)
        if key is None or key not in names:
            got = "none" if reading.key is None else repr(reading.key)
            raise ConfigurationError(f"key: expected one of {', '.join(names) or 'nothing'} in {said}, got {got}")
        chosen: NDArray[Any] = found[key]
        return chosen


def _table(path: Path, said: str) -> NDArray[Any]:
    """Rows of numbers with commas; a first row that holds other than numbers is a heading."""
    frame = pd.read_csv(path, header=None, skipinitialspace=True, low_memory=False)
    if not all(re.fullmatch(r"[-+.\deE]+|nan|inf|-inf", str(cell)) for cell in frame.iloc[0]):
        frame = pd.read_csv(path, skipinitialspace=True)
    words = [str(name) for name, kind in frame.dtypes.items() if kind.kind not in "buif"]
    if words:
        raise ConfigurationError(f"{said}: expected numbers, got text in column {words[0]}")
    found: NDArray[Any] = frame.to_numpy()
    return found


def _images(folder: Path, event: Event, said: str) -> NDArray[np.uint8]:
    """(N, H, W, C): every image below a folder, by name, as it is."""
    from PIL import Image

    if len(event.shape) != 3 or event.shape[0] not in (1, 3):
        raise ConfigurationError(f"{said}: expected a file, for the source's events are no images of 1 or 3 channels")
    try:
        names = list_images(folder, said).images
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if not names:
        raise ConfigurationError(f"{said}: expected images in the folder, found none")
    channels, height, width = event.shape
    found = np.empty((len(names), height, width, channels), dtype=np.uint8)
    for place, name in enumerate(names):
        what = f"{said}, {printable(name)}"
        try:
            with Image.open(folder / name) as image:
                deep = image.mode.startswith(("I", "F"))
                pixels = np.asarray(image.convert("RGBA"))
        except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError and others of its own
            raise ConfigurationError(f"{what}: cannot be read: {' '.join(str(error).split())}") from error
        if pixels.shape[:2] != (height, width):
            got = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise ConfigurationError(f"{what}: expected {width} x {height} pixels, got {got}")
        if deep or (pixels[..., 3] != 255).any():
            raise ConfigurationError(f"{what}: expected opaque pixels of 8 bits, got {'more' if deep else 'others'}")
        if channels == 1 and (pixels[..., :1] != pixels[..., 1:3]).any():
            raise ConfigurationError(f"{what}: expected grey pixels, got colours")
        found[place] = pixels[..., :channels]
    return found
