"""Small pictures of samples during training, in milliseconds: made of arrays, without axes or a plotting library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genfam.types import Data, KnownModes

Picture = NDArray[np.uint8]

TILES = 8  # images in a row, and rows
MOST_ROWS = 20  # values of a condition
LEAST_TILE = 24  # pixels
PLANE = 240  # pixels of a side
MOST_BARS = 64
BAR_HEIGHT = 120
PAPER, MODEL, DATA = (255, 255, 255), (31, 90, 166), (240, 160, 70)


class Sketcher:
    """Draws samples of one source.

    Args:
        source: whose training data fix the window of a plane, and its known modes the bars' truth.
        assign: (N, *event) -> (N,) mode index, −1 = off every mode; None where modes are unknown.
    """

    def __init__(self, source: Data, assign: Callable[[Tensor], Tensor] | None) -> None:
        self.levels = source.event.levels
        self.reference = source.train[:1000].numpy()
        self.assign = assign
        self.masses = source.mode_masses.numpy() if isinstance(source, KnownModes) else None

    def __call__(self, samples: Tensor) -> dict[str, Picture]:
        """(N, *event) -> the samples, and how they fall on the modes, as far as either can be drawn."""
        found = {"samples": draw(samples.numpy(), self.reference, self.levels)}
        if self.assign is not None:
            assigned = self.assign(samples)
            size = len(self.masses) if self.masses is not None else int(assigned.max().clamp(min=0)) + 1
            counts = torch.bincount(assigned[assigned >= 0], minlength=size).numpy()
            found["modes"] = bars(counts / max(1, len(samples)), self.masses)
        return {name: picture for name, picture in found.items() if picture is not None}


def of_file(path: Path) -> dict[str, Picture]:
    """What a run's samples.npz holds: `samples`, the `data` beside them, `modes`, and `classes`, a row for each.

    Empty where there is no file.
    """
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        content: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
    samples, reference = content["samples"], content["reference"]
    levels = int(content["levels"]) or None
    found = {"samples": draw(samples, reference, levels)}
    if samples.ndim == 4:
        found["data"] = draw(reference, reference, levels)
    if "conditions" in content and samples.ndim == 4:
        found["classes"] = by_row(samples, content["conditions"], len(content["condition_names"]), levels)
    if "mode_counts" in content:
        found["modes"] = bars(content["mode_counts"] / max(1, int(content["mode_total"])), content["mode_masses"])
    return {name: picture for name, picture in found.items() if picture is not None}


def draw(samples: NDArray[Any], reference: NDArray[Any], levels: int | None) -> Picture | None:
    """(N, C, H, W) images as a mosaic, (N, 2) points as a plane over real ones; None for anything else."""
    if samples.ndim == 4:
        return mosaic(samples, levels)
    return plane(samples, reference) if samples.ndim == 2 and samples.shape[1] == 2 and levels is None else None


def by_row(images: NDArray[Any], values: NDArray[Any], count: int, levels: int | None) -> Picture:
    """(N, C, H, W), (N,) values -> a row of the first 8 images of each of the first values; white where few are."""
    blank = np.full_like(images[:1], (levels or 2) - 1)
    rows = [images[values == value][:TILES] for value in range(min(count, MOST_ROWS))]
    filled = [np.concatenate([row, np.repeat(blank, TILES - len(row), axis=0)]) for row in rows]
    return mosaic(np.concatenate(filled), levels, len(filled))


def mosaic(images: NDArray[Any], levels: int | None, lines: int = TILES) -> Picture:
    """The first of (N, C, H, W), unpicked, 8 in a row; levels 0..levels−1, or numbers in [0, 1] where None."""
    shown = images[: TILES * lines].astype(np.float64) / (levels - 1 if levels else 1)
    if shown.shape[1] != 3:  # no colours: grey
        shown = np.repeat(shown.mean(axis=1, keepdims=True), 3, axis=1)
    pixels = (255 * np.nan_to_num(shown).clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    zoom = max(1, -(-LEAST_TILE // max(pixels.shape[1:3])))
    pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)
    pixels = np.pad(pixels, ((0, -len(pixels) % TILES), (0, 2), (0, 2), (0, 0)), constant_values=255)
    rows, tall, wide = len(pixels) // TILES, pixels.shape[1], pixels.shape[2]
    grid = pixels.reshape(rows, TILES, tall, wide, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(rows * tall, TILES * wide, 3))


def plane(samples: NDArray[Any], reference: NDArray[Any]) -> Picture:
    """(N, 2) samples as dark dots over real events as light ones; the window is the real events' with a margin."""
    low, high = reference.min(axis=0), reference.max(axis=0)
    margin = 0.15 * (high - low) + 1e-9
    low, high = low - margin, high + margin
    picture = np.full((PLANE, PLANE, 3), PAPER, dtype=np.uint8)
    for points, colour in ((reference, DATA), (samples, MODEL)):
        cells = np.floor((points - low) / (high - low) * PLANE)
        x, y = cells[((cells >= 0) & (cells < PLANE - 1)).all(axis=1)].astype(int).T
        for step in ((0, 0), (0, 1), (1, 0), (1, 1)):  # dots of 2 × 2 pixels
            picture[PLANE - 1 - (y + step[0]), x + step[1]] = colour
    return picture


def bars(shares: NDArray[Any], masses: NDArray[Any] | None) -> Picture | None:
    """(K,) shares of the samples as bars, (K,) true masses as lines across them; None for more than 64 modes."""
    if len(shares) > MOST_BARS:
        return None
    width = max(5, 2 * PLANE // len(shares))
    top = 1.1 * max(float(shares.max()), 0.0 if masses is None else float(masses.max()), 1e-9)
    picture = np.full((BAR_HEIGHT, width * len(shares), 3), PAPER, dtype=np.uint8)
    for mode, value in enumerate(shares):
        left, right = mode * width + 1, (mode + 1) * width - 1
        picture[BAR_HEIGHT - round(BAR_HEIGHT * float(value) / top) :, left:right] = MODEL
        if masses is not None:
            line = BAR_HEIGHT - round(BAR_HEIGHT * float(masses[mode]) / top)
            picture[max(0, line - 1) : line + 1, left:right] = DATA
    return picture
