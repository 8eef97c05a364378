"""A strip of pictures along a run's path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from genfam.report.pictures import strip
from genfam.report.style import TRUTH, save


def path_figure(shown: Sequence[Any], levels: int | None, title: str, path: Path) -> None:
    """One column per snapshot: points as scatters beside draws of p_t, images as rows.

    Args:
        shown: `genfam.running.paths.Snapshot`s.
        levels: of the events; None for points.
        title: of the figure.
        path: where it goes.

    Raises:
        ValueError: events that are neither images nor points in the plane.
    """
    states = [np.asarray(snapshot.states) for snapshot in shown]
    if states[0].ndim != 4 and states[0].shape[1:] != (2,):
        raise ValueError(f"expected images or points in the plane to draw, got events of shape {states[0].shape[1:]}")
    figure = Figure(figsize=(2.2 * len(shown), 2.6), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, snapshot, own in zip(axes, shown, states, strict=True):
        if own.ndim == 4:
            rows = round(len(own) ** 0.5)
            picture = strip(np.clip(np.round(own), 0, (levels or 2) - 1), levels, -(-len(own) // rows), rows)
            axis.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        else:
            if snapshot.exact is not None:
                exact = np.asarray(snapshot.exact)
                axis.scatter(exact[:, 0], exact[:, 1], s=1, color=TRUTH, alpha=0.4, label="exact")
            axis.scatter(own[:, 0], own[:, 1], s=1, label="model")
            axis.set_aspect("equal")
        said = "" if snapshot.divergence is None else f"\n{snapshot.divergence:.3f} (exact {snapshot.floor:.3f})"
        axis.set_title(f"t = {snapshot.time:g}{said}", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=10)
    save(figure, path)
