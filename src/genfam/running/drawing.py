"""Samples of one run as a picture, for a notebook. What a report shows is in `genfam.report.pictures`."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from genfam.types import Event

MOST_COLUMNS = 12  # of events that are rows


def drawn(event: Event, x: Tensor) -> Figure:
    """(N, *event) -> a grid of images, a scatter of points in the plane, or a histogram of each coordinate.

    Of events with many coordinates the first twelve are shown.
    """
    if len(event.shape) == 3:
        columns = max(1, round(len(x) ** 0.5))
        levels = event.levels or 2
        grid = make_grid(x.float() / (levels - 1), nrow=columns, padding=1, pad_value=1.0)
        figure = Figure(figsize=(4, 4), layout="constrained")
        axis = figure.subplots()
        axis.imshow(grid.permute(1, 2, 0).numpy().clip(0.0, 1.0))
        axis.set_axis_off()
        return figure
    values = x.flatten(1).double().numpy()
    if event.levels is None and values.shape[1] == 2:
        figure = Figure(figsize=(4, 4), layout="constrained")
        axis = figure.subplots()
        axis.scatter(values[:, 0], values[:, 1], s=4, alpha=0.5, linewidths=0)
        axis.set_aspect("equal")
        return figure
    shown = min(values.shape[1], MOST_COLUMNS)
    figure = Figure(figsize=(1.6 * min(shown, 4) + 0.5, 1.4 * -(-shown // 4)), layout="constrained")
    axes = figure.subplots(-(-shown // 4), min(shown, 4), squeeze=False).ravel()
    bins = np.arange(event.levels + 1) - 0.5 if event.levels else 30
    for number, axis in enumerate(axes):
        axis.set_visible(number < shown)
        if number < shown:
            axis.hist(values[:, number], bins=bins)
            axis.set_title(str(number), fontsize=8)
            axis.tick_params(labelsize=7)
    return figure
