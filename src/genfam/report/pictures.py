"""What a run drew: samples as they came, unpicked, and how often it hit each mode."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genfam.report.series import mass_ratios
from genfam.report.style import TRUTH, Look, label, save

SHOWN_IMAGES = 32
MANY = 8  # families from which on each has one line of pictures
ROW_IMAGES = 10  # of one value of the condition
MOST_ROWS = 20  # values of the condition that are shown
SHOWN_POINTS = 2500
MOST_BARS = 40
MOST_LETTERS = 60  # of all names below an axis, that stand side by side
MOST_STATES = 4096
MOST_TIMES = 16  # of a trajectory


@dataclass(frozen=True)
class Drawn:
    """A run's samples.npz.

    Attributes:
        seed: of the run.
        samples, reference: (N, *event) of the model and of held-out real data.
        levels: discrete values per dimension; None where continuous.
        mode_counts: (K,) samples per mode, and `mode_masses` (K,) the truth; None where modes are unknown.
        mode_total: how many samples were counted, those off every mode included; 0 = as many as `samples` holds.
        mode_centres: (K, 2) where points have modes at places, else None.
        states: (S, *event) every state of a small enumerable source, with `state_counts` (S,) of the samples and
            `state_masses` (S,) the truth; all None elsewhere.
        nearest: (n, *event) the training image nearest to each of the first n samples; None but for images.
        conditions, reference_conditions: (N,) value of the condition of each event; None without a condition.
        condition_names: of the values.
        mode_names: (K,) for people; None where modes have none.
        texts, reference_texts: (n,) how the first samples and real events read; None but for sequences.
        trajectory: (T, n, *event) states of sampling, not a number where a scalar is still to come, at
            `trajectory_times` (T,) from 0 to 1; `trajectory_kind` () says what they are, and `trajectory_texts` (T, n)
            how sequences read. All None where samples are drawn at once.
        trajectory_exact: (T, m, *event) draws of the exact p_t, and `trajectory_divergence` (T, 2), the total variation
            of the states from it and that of as many exact draws; None where p_t is not known.
    """

    seed: int
    samples: NDArray[np.generic]
    reference: NDArray[np.generic]
    levels: int | None
    mode_counts: NDArray[np.int64] | None = None
    mode_masses: NDArray[np.float64] | None = None
    mode_total: int = 0
    mode_centres: NDArray[np.float64] | None = None
    states: NDArray[np.generic] | None = None
    state_counts: NDArray[np.int64] | None = None
    state_masses: NDArray[np.float64] | None = None
    nearest: NDArray[np.generic] | None = None
    conditions: NDArray[np.int64] | None = None
    reference_conditions: NDArray[np.int64] | None = None
    condition_names: NDArray[np.str_] | None = None
    mode_names: NDArray[np.str_] | None = None
    texts: NDArray[np.str_] | None = None
    reference_texts: NDArray[np.str_] | None = None
    trajectory: NDArray[np.floating[Any]] | None = None
    trajectory_times: NDArray[np.float64] | None = None
    trajectory_kind: NDArray[np.str_] | None = None
    trajectory_texts: NDArray[np.str_] | None = None
    trajectory_exact: NDArray[np.floating[Any]] | None = None
    trajectory_divergence: NDArray[np.float64] | None = None

    @property
    def has_rows(self) -> bool:
        """Whether its images can be shown with a row per value of the condition."""
        return self.is_image and self.conditions is not None and self.condition_names is not None

    @property
    def is_image(self) -> bool:
        """Whether events are (C, H, W)."""
        return self.samples.ndim == 4

    @property
    def is_plane(self) -> bool:
        """Whether events are points in the plane."""
        return self.levels is None and self.samples.ndim == 2 and self.samples.shape[1] == 2

    @property
    def spelled(self) -> tuple[NDArray[np.str_] | None, NDArray[np.str_] | None]:
        """Texts of the samples and of real events."""
        return self.texts, self.reference_texts

    def frequencies(self) -> tuple[NDArray[np.float64], NDArray[np.float64], bool] | None:
        """(sample frequencies, true masses, whether those are the truth and not held-out frequencies) per mode.

        Without known modes the states of a small discrete event stand in. Samples off every mode keep their share:
        frequencies then sum to less than one. None where there is nothing to count.
        """
        if self.mode_counts is not None and self.mode_masses is not None:
            # Without a total, a file that keeps fewer samples than were counted has none but the sum of the counts.
            total = self.mode_total or max(1, len(self.samples), int(self.mode_counts.sum()))
            return self.mode_counts / total, self.mode_masses, True
        dimensions = int(np.prod(self.samples.shape[1:]))
        if self.levels is None or dimensions * np.log(max(self.levels, 2)) > np.log(MOST_STATES):
            return None
        places = np.int64(self.levels) ** np.arange(dimensions, dtype=np.int64)
        own, other = (
            np.bincount(x.reshape(len(x), -1).astype(np.int64) @ places, minlength=int(self.levels) ** dimensions)
            for x in (self.samples, self.reference)
        )
        return own / max(1, own.sum()), other / max(1, other.sum()), False


def load_drawn(path: Path, seed: int) -> Drawn | None:
    """Read a samples.npz; None where there is none, and with a warning where it is broken."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        levels = int(content["levels"]) if content.get("levels") is not None and content["levels"].size else 0
        drawn = Drawn(
            seed, content["samples"], content["reference"], levels if levels > 0 else None,
            content.get("mode_counts"), content.get("mode_masses"), int(content.get("mode_total", 0)),
            *(content.get(name) for name in (
                "mode_centres", "states", "state_counts", "state_masses", "nearest", "conditions",
                "reference_conditions", "condition_names", "mode_names", "texts", "reference_texts", "trajectory",
                "trajectory_times", "trajectory_kind", "trajectory_texts", "trajectory_exact", "trajectory_divergence",
            )),
        )  # fmt: skip
        if drawn.conditions is not None and len(drawn.conditions) != len(drawn.samples):
            raise ValueError(
                f"expected a condition for each of {len(drawn.samples)} samples, got {len(drawn.conditions)}"
            )
        if drawn.samples.shape[1:] != drawn.reference.shape[1:] or drawn.samples.ndim < 2 or not len(drawn.reference):
            raise ValueError(f"samples of shape {drawn.samples.shape}, reference of shape {drawn.reference.shape}")
        counts, masses = drawn.mode_counts, drawn.mode_masses
        if (counts is None) != (masses is None) or (
            counts is not None and masses is not None and (counts.ndim != 1 or counts.shape != masses.shape)
        ):
            raise ValueError("expected mode_counts and mode_masses of one shape (K,), or neither")
        listed = [len(part) for part in (drawn.states, drawn.state_counts, drawn.state_masses) if part is not None]
        if listed and (len(listed) != 3 or len(set(listed)) != 1):
            raise ValueError(f"expected states, state_counts and state_masses of one length, got {listed}")
        if any(part is not None and (part.ndim != 1 or part.dtype.kind != "U") for part in drawn.spelled):
            raise ValueError("expected rows of texts")
        _check_trajectory(drawn)
        return drawn
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"left out broken samples, {path}: {error}", stacklevel=2)
        return None


def _check_trajectory(drawn: Drawn) -> None:
    """Raise ValueError where states, times, kind and texts do not belong together."""
    states, times, kind, texts = (
        drawn.trajectory, drawn.trajectory_times, drawn.trajectory_kind, drawn.trajectory_texts,
    )  # fmt: skip
    if states is None:
        if texts is not None or drawn.trajectory_exact is not None or drawn.trajectory_divergence is not None:
            raise ValueError("expected states beside the texts or the exact draws of a trajectory")
        return
    exact, divergence = drawn.trajectory_exact, drawn.trajectory_divergence
    if (exact is None) != (divergence is None) or (
        exact is not None
        and divergence is not None
        and (exact.dtype.kind, exact.ndim, len(exact), exact.shape[2:], divergence.shape, divergence.dtype.kind)
        != ("f", states.ndim, len(states), states.shape[2:], (len(states), 2), "f")
    ):
        raise ValueError("expected exact draws and two divergences at each time of a trajectory, or neither")
    fits = states.dtype.kind == "f" and states.ndim == drawn.samples.ndim + 1 and states.size > 0
    if not fits or states.shape[2:] != drawn.samples.shape[1:] or len(states) > MOST_TIMES:
        raise ValueError(f"expected at most {MOST_TIMES} states of events, got shape {states.shape}")
    if times is None or times.shape != states.shape[:1] or times.dtype.kind != "f" or not np.isfinite(times).all():
        raise ValueError("expected a finite time for each state of a trajectory")
    if kind is None or kind.shape or kind.dtype.kind != "U":
        raise ValueError("expected the kind of a trajectory as a text")
    if texts is not None and (texts.shape != states.shape[:2] or texts.dtype.kind != "U"):
        raise ValueError("expected a text for each state of a trajectory")


def samples_figure(drawn: Mapping[str, Drawn], families: Mapping[str, Look], path: Path, source: str) -> bool:
    """The first samples of each family beside real data; False where events are neither images nor points."""
    first = next(iter(drawn.values()))
    if first.is_image:
        figure = _image_rows(drawn)
    elif first.is_plane:
        figure = _scatters(drawn, families)
    else:
        return False
    seeds = ", ".join(str(seed) for seed in sorted({entry.seed for entry in drawn.values()}))
    figure.suptitle(f"{label(source)}: first samples of seed {seeds}, unpicked", fontsize=10)
    save(figure, path)
    return True


def _image_rows(drawn: Mapping[str, Drawn]) -> Figure:
    first = next(iter(drawn.values()))
    rows = [("data", first.reference, first.levels)] + [(f, d.samples, d.levels) for f, d in drawn.items()]
    channels, tall, wide = first.samples.shape[1:]
    lines = 1 if len(rows) > MANY else 2  # of pictures per family
    width = 0.36 * SHOWN_IMAGES / 2  # inches
    height = width * lines * (tall + 1) / (SHOWN_IMAGES / 2 * (wide * _tiles(channels) + 1))
    figure = Figure(figsize=(width + 1.3, len(rows) * (max(height, 0.2) + 0.1) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (name, images, levels) in zip(axes, rows, strict=True):
        picture = strip(images[: lines * SHOWN_IMAGES // 2], levels, lines=lines)
        axis.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        axis.set_ylabel(label(name, 20), rotation=0, ha="right", va="center", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    return figure


def _tiles(channels: int) -> int:
    """Three channels make a colour picture; any other number stands side by side in grey."""
    return 1 if channels == 3 else channels


def by_row(
    images: NDArray[np.generic], values: NDArray[np.int64], count: int, levels: int | None
) -> NDArray[np.float64]:
    """(N, C, H, W), (N,) -> a picture with a line of the first `ROW_IMAGES` images of each of the first values."""
    lines = min(count, MOST_ROWS)
    blank = np.full_like(images[:1], (levels or 2) - 1)
    shown = []
    for value in range(lines):
        own = images[values == value][:ROW_IMAGES]
        shown += [own, np.repeat(blank, ROW_IMAGES - len(own), axis=0)]
    return strip(np.concatenate(shown), levels, ROW_IMAGES, lines)


def classes_figure(drawn: Mapping[str, Drawn], path: Path, source: str) -> bool:
    """Images with a row per value of the condition, by family; False where there are none."""
    shown = {name: entry for name, entry in drawn.items() if entry.has_rows}
    if not shown:
        return False
    first = next(iter(shown.values()))
    assert first.condition_names is not None and first.reference_conditions is not None
    names = [label(name, 14) for name in first.condition_names[:MOST_ROWS].tolist()]
    panels = [("held-out data", first.reference, first.reference_conditions)]
    panels += [(name, d.samples, d.conditions) for name, d in shown.items() if d.conditions is not None]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(2.7 * columns + 0.8, lines * (0.25 * len(names) + 0.4) + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for place, axis in enumerate(axes):
        axis.set_visible(place < len(panels))
        if place >= len(panels):
            continue
        name, images, values = panels[place]
        picture = by_row(images, values, len(first.condition_names), first.levels)
        axis.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        axis.set_title(label(name), fontsize=8)
        step = (picture.shape[0] + 1) / len(names)
        ticks = [step * (row + 0.5) for row in range(len(names))] if place % columns == 0 else []
        axis.set_yticks(ticks, names if ticks else [], fontsize=6)
        axis.set_xticks([])
    figure.suptitle(f"{label(source, 40)}: the first samples of each value", fontsize=9)
    save(figure, path)
    return True


def strip(
    images: NDArray[np.generic], levels: int | None, per_line: int = SHOWN_IMAGES // 2, lines: int = 2
) -> NDArray[np.float64]:
    """(n ≤ lines · per_line, C, H, W) -> lines of pictures as one (rows, columns[, 3]) in [0, 1], a pixel between."""
    x = images.astype(np.float64)
    x = x / max(1, levels - 1) if levels else (x - np.nanmin(x)) / max(1e-12, float(np.ptp(x)))
    x = np.clip(np.nan_to_num(x), 0.0, 1.0)
    channels, height = x.shape[1:3]
    x = np.moveaxis(x, 1, -1) if channels == 3 else np.concatenate([x[:, c, :, :, None] for c in range(channels)], 2)
    wide = x.shape[2]
    picture = np.ones((lines * (height + 1) - 1, per_line * (wide + 1) - 1, x.shape[3]))
    for index, image in enumerate(x):
        top, left = (index // per_line) * (height + 1), (index % per_line) * (wide + 1)
        picture[top : top + height, left : left + wide] = image
    return picture if channels == 3 else picture[:, :, 0]


def _scatters(drawn: Mapping[str, Drawn], families: Mapping[str, Look]) -> Figure:
    first = next(iter(drawn.values()))
    truth = first.reference[:SHOWN_POINTS].astype(np.float64)
    low, high = plane_limits(truth)
    columns = min(4, len(drawn) + 1)
    lines = -(-(len(drawn) + 1) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    panels = [("data", truth, TRUTH)] + [
        (family, entry.samples[:SHOWN_POINTS].astype(np.float64), families[family].colour)
        for family, entry in drawn.items()
    ]
    for axis, (name, points, colour) in zip(axes, panels, strict=False):
        if points is not truth:
            axis.scatter(truth[:, 0], truth[:, 1], s=4, c="#DDDDDD", linewidths=0)
        finite = points[np.isfinite(points).all(axis=1)]
        axis.scatter(finite[:, 0], finite[:, 1], s=1.5, c=colour, linewidths=0)
        inside = ((points >= low) & (points <= high)).all(axis=1).mean() if len(points) else 1.0
        outside = f" ({100 * (1 - inside):.1f} % outside)" if inside < 1.0 else ""
        axis.set_title(label(name) + outside, fontsize=8)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=7)
    axes[0].set_xlim(low[0], high[0])
    axes[0].set_ylim(low[1], high[1])
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return figure


def plane_limits(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) real points -> (2,) lower and (2,) upper limits of a picture of them, with a margin of 15 %."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-6)
    return low - margin, high + margin


def mode_shares(
    drawn: Mapping[str, Drawn],
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64], bool] | None:
    """(family -> share per mode, true masses, whether those are the truth), see `Drawn.frequencies`; None without any.

    Families that were counted on another number of modes than the first are left out.
    """
    counted = {family: found for family, entry in drawn.items() if (found := entry.frequencies()) is not None}
    if not counted:
        return None
    _, masses, exact = next(iter(counted.values()))
    return {family: found[0] for family, found in counted.items() if found[0].shape == masses.shape}, masses, exact


def modes_figure(drawn: Mapping[str, Drawn], families: Mapping[str, Look], path: Path, source: str) -> bool:
    """Model against true mass per mode: bars for few modes, the sorted ratio for many; False where none are known."""
    counted = mode_shares(drawn)
    if counted is None:
        return False
    shares, masses, exact = counted
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axis = figure.subplots()
    name = "true mass" if exact else "held-out frequency"
    if len(masses) <= MOST_BARS:
        _bars(axis, shares, masses, families, name, mode_names(drawn, len(masses)))
    else:
        _ratios(axis, shares, masses, families, name)
    axis.set_title(f"{label(source)}: {len(masses)} modes", fontsize=10)
    figure.legend(fontsize=7, loc="outside right center", frameon=False)
    save(figure, path)
    return True


def mode_names(drawn: Mapping[str, Drawn], count: int) -> list[str]:
    """Of `count` modes, for people: their numbers where a source has no names for them."""
    for one in drawn.values():
        if one.mode_names is not None and one.mode_names.shape == (count,):
            return [str(name) for name in one.mode_names]
    return [str(number) for number in range(count)]


def _bars(
    axis: Axes, shares: Mapping[str, NDArray[np.float64]], masses: NDArray[np.float64],
    families: Mapping[str, Look], name: str, modes: Sequence[str],
) -> None:  # fmt: skip
    x = np.arange(len(masses))
    width = 0.84 / len(shares)
    for index, (family, share) in enumerate(shares.items()):
        axis.bar(x - 0.42 + (index + 0.5) * width, share, width, color=families[family].colour, label=label(family))
    axis.hlines(masses, x - 0.46, x + 0.46, colors=TRUTH, linewidth=1.2, label=name)
    axis.set_xlabel("mode")
    long = max(map(len, modes)) * len(modes) > MOST_LETTERS
    axis.set_xticks(
        x, [label(mode) for mode in modes], fontsize=9 if len(x) <= 25 else 6,
        rotation=30 if long else 0, ha="right" if long else "center",
    )  # fmt: skip
    axis.set_ylabel("share of samples")
    axis.set_ylim(bottom=0.0)


def _ratios(
    axis: Axes, shares: Mapping[str, NDArray[np.float64]], masses: NDArray[np.float64],
    families: Mapping[str, Look], name: str,
) -> None:  # fmt: skip
    highest = 2.0
    for family, share in shares.items():
        ratio = mass_ratios(share, masses)
        missed = int((ratio == 0.0).sum())
        title = label(family) + (f" ({missed} missed)" if missed else "")
        axis.step(np.arange(len(ratio)), ratio, where="mid", color=families[family].colour, linewidth=1.3, label=title)
        highest = max(highest, float(np.quantile(ratio, 0.98)) * 1.2)
    axis.axhline(1.0, color=TRUTH, linewidth=1.0, linestyle="--", label=name)
    axis.set_ylim(0.0, min(highest, 8.0))
    axis.set_xlabel("modes, most oversampled first (each family in its own order)")
    axis.set_ylabel(f"share of samples / {name}")
