"""Sampling step by step: a strip of pictures of one run, or a row for each family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genfam.report.pictures import Drawn, plane_limits, strip
from genfam.report.style import TRUTH, Look, label, save

Limits = tuple[NDArray[np.float64], NDArray[np.float64]]
UNSAID = "#B8C9DD"  # of pixels that are still to come
SHOWN = {True: 6, False: 400}  # images, points


def path_figure(shown: Sequence[Any], levels: int | None, title: str, path: Path) -> None:
    """One column per snapshot: points as scatters beside draws of p_t, images as rows, single numbers as histograms.

    Args:
        shown: `genfam.running.paths.Snapshot`s.
        levels: of the events; None for points.
        title: of the figure.
        path: where it goes.

    Raises:
        ValueError: events that are none of these.
    """
    states = [np.asarray(snapshot.states) for snapshot in shown]
    if states[0].ndim != 4 and states[0].shape[1:] not in ((1,), (2,)):
        raise ValueError(
            f"expected images, points in the plane or single numbers to draw, got events of shape {states[0].shape[1:]}"
        )
    seen = [*states, *(np.asarray(snapshot.exact) for snapshot in shown if snapshot.exact is not None)]
    finite = [x[np.isfinite(x).all(axis=1)] for x in seen if x.shape[1:] == (2,)]
    limits = plane_limits(np.concatenate([np.zeros((1, 2)), *finite]))
    figure = Figure(figsize=(2.2 * len(shown), 2.6), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, snapshot, own in zip(axes, shown, states, strict=True):
        if own.ndim == 4:
            draw_images(axis, own, levels, round(len(own) ** 0.5))
        elif own.shape[1] == 1:
            axis.hist(own[np.isfinite(own)], bins=60, range=_span(states), color="C0")
            axis.set_yticks([])
        else:
            if snapshot.exact is not None:
                exact = np.asarray(snapshot.exact)
                axis.scatter(exact[:, 0], exact[:, 1], s=1, color=TRUTH, alpha=0.4)
            draw_points(axis, own, "C0", limits)
        said = "" if snapshot.divergence is None else f"\n{snapshot.divergence:.3f} (exact {snapshot.floor:.3f})"
        axis.set_title(f"t = {snapshot.time:g}{said}", fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _span(states: Sequence[NDArray[Any]]) -> tuple[float, float]:
    seen = np.concatenate([x[np.isfinite(x)] for x in states])
    return float(seen.min()) - 0.5, float(seen.max()) + 0.5


def trajectories_figure(drawn: Mapping[str, Drawn], families: Mapping[str, Look], path: Path, source: str) -> bool:
    """A row per family, a column per time; False where no family has a trajectory, or events are no pictures.

    Where p_t is known, exact draws of it stand behind the states in grey, and below them the total variation between
    the two with that of as many exact draws.
    """
    shown = {name: entry for name, entry in drawn.items() if entry.trajectory is not None}
    first = next(iter(shown.values()), None)
    if first is None or not (first.is_image or first.is_plane):
        return False
    assert first.trajectory_times is not None
    times = first.trajectory_times.tolist()
    shown = {
        name: entry
        for name, entry in shown.items()
        if entry.trajectory_times is not None and entry.trajectory_times.tolist() == times
    }
    height = 1.1 if first.is_image else 1.6
    figure = Figure(figsize=(1.6 * len(times) + 1.9, height * len(shown) + 0.5), layout="constrained")
    axes = figure.subplots(len(shown), len(times), squeeze=False)
    limits = plane_limits(first.reference.astype(np.float64)) if first.is_plane else None
    for row, (name, entry) in zip(axes, shown.items(), strict=True):
        assert entry.trajectory is not None
        shown_states = entry.trajectory[:, : SHOWN[first.is_image]].astype(np.float64)
        for at, (axis, states) in enumerate(zip(row, shown_states, strict=True)):
            if limits is None:
                draw_images(axis, states, entry.levels, 2)
                continue
            if entry.trajectory_exact is not None and entry.trajectory_divergence is not None:
                exact = entry.trajectory_exact[at, : SHOWN[False]]
                axis.scatter(exact[:, 0], exact[:, 1], s=3, color=TRUTH, alpha=0.3, linewidths=0)
                own, floor = entry.trajectory_divergence[at]
                axis.set_xlabel(f"{own:.2f} (exact {floor:.2f})", fontsize=6)
            draw_points(axis, states, families[name].colour, limits)
        lines = [name, *wrap(str(entry.trajectory_kind), 22)[:5]]
        said = "\n".join(label(line, 22) for line in lines)
        row[0].set_ylabel(said, rotation=0, ha="right", va="center", fontsize=7)
    for axis, time in zip(axes[0], times, strict=True):
        axis.set_title(f"t = {time:g}", fontsize=8)
    figure.suptitle(f"{label(source)}: sampling step by step", fontsize=10)
    save(figure, path)
    return True


def draw_images(axis: Axes, states: NDArray[np.floating[Any]], levels: int | None, rows: int) -> None:
    """(n, C, H, W) -> lines of pictures; pixels of which nothing is said have a colour of their own."""
    wide = -(-len(states) // rows)
    whole = np.clip(np.round(np.nan_to_num(states)), 0, max(1, (levels or 2) - 1))
    said = ~np.isnan(states)
    said = np.repeat(said.any(axis=1, keepdims=True), 3, axis=1) if states.shape[1] == 3 else said
    picture, known = strip(whole, levels, wide, rows), strip(said, 2, wide, rows)
    if picture.ndim == 2:
        picture, known = (np.repeat(x[:, :, None], 3, axis=2) for x in (picture, known))
    axis.imshow(np.where(known > 0.0, picture, to_rgb(UNSAID)), interpolation="nearest")
    _bare(axis)


def draw_points(axis: Axes, states: NDArray[np.floating[Any]], colour: str, limits: Limits) -> None:
    """(n, 2) -> a scatter; points with one number so far stand at the edge."""
    said = ~np.isnan(states).any(axis=1)
    begun = ~said & ~np.isnan(states).all(axis=1)
    edge = np.where(np.isnan(states), limits[0], states)
    axis.scatter(edge[begun, 0], edge[begun, 1], s=40, color=colour, marker="|", linewidths=0.4)
    axis.scatter(states[said, 0], states[said, 1], s=1, color=colour, linewidths=0)
    axis.set_xlim(limits[0][0], limits[1][0])
    axis.set_ylim(limits[0][1], limits[1][1])
    axis.set_aspect("equal")
    _bare(axis)


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
