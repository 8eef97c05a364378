"""Divergence between samples and a known density, by cells of equal mass: for every family on points.

A tree of medians cuts a large fresh draw of p_data into K = 2^depth cells of mass 1/K each, whatever the density's
shape; the frequencies of samples over them are compared with 1/K. A model without a density is measured as one with.
Merging events into cells can only lower the true divergence; finite samples raise it. Of a perfect model N samples show
a total variation of about √(K / 2πN): the oracle's value is the floor.

How wide the modes are is measured apart, since cells see it only coarsely: the median distance of a sample from the
nearest centre, over that of real data. A high-quality share does not see modes that are too narrow; this does.

References:
    J. L. Bentley (1975). Multidimensional binary search trees. CACM 18. (median cuts)
    A. B. Tsybakov (2009). Introduction to Nonparametric Estimation, section 2.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.divergence import total_variation, total_variation_stderr
from genfam.metrics.estimators import jackknife, plug_in_kl, split
from genfam.ranges import Count
from genfam.seeds import derived_generator
from genfam.types import Estimate, Kind, KnownDensity, KnownModes, Measurement

NAMES = {"cell_total_variation": "1", "cell_kl": "nats", "mode_width_ratio": "1"}
LEAST_PER_CELL = 8  # samples: with fewer, cells are joined
DRAWN = 2**18  # events that the tree is cut from: masses scatter by 4.4 % at depth 9
GROUPS = 10  # of the jackknife


class Cells:
    """A tree of medians.

    Args:
        events: (N, d) of p_data, N much larger than 2^depth.
        depth: of the tree.
    """

    def __init__(self, events: Tensor, depth: int) -> None:
        x = events.flatten(1).double()
        self.depth = depth
        self.axes: list[Tensor] = []
        self.cuts: list[Tensor] = []
        groups = [x]
        for _ in range(depth):
            axes = [int(group.var(dim=0).argmax()) for group in groups]
            cuts = [group[:, axis].median() for group, axis in zip(groups, axes, strict=True)]
            self.axes.append(torch.tensor(axes))
            self.cuts.append(torch.stack(cuts))
            above = [group[:, axis] > cut for group, axis, cut in zip(groups, axes, cuts, strict=True)]
            groups = [part for group, mask in zip(groups, above, strict=True) for part in (group[~mask], group[mask])]

    def find(self, events: Tensor, depth: int | None = None) -> Tensor:
        """(N, d) -> (N,) int64 cell of each, in the tree's first `depth` levels."""
        x = events.flatten(1).double()
        place = torch.zeros(len(x), dtype=torch.int64)
        for axes, cuts in zip(self.axes[:depth], self.cuts[:depth], strict=True):
            values = x.gather(1, axes[place][:, None])[:, 0]
            place = 2 * place + (values > cuts[place]).long()
        return place


class CellDivergence(Metric):
    """`cell_total_variation` and `cell_kl` (lower is better), `mode_width_ratio` (1 is right).

    On few samples (curves) fewer cells are used: their number stands in the fingerprint.
    """

    on_curve = True

    def __init__(self, depth: Count = 9, samples: Count = 20_000, sample_chunk: Count = 10_000) -> None:
        """Sizes.

        Args:
            depth: of the tree: 9 makes 512 cells.
            samples: drawn afresh at the end of training, as for the true divergence of tables.
            sample_chunk: drawn at once, which bounds memory.
        """
        self.depth, self.samples, self.sample_chunk = depth, samples, sample_chunk
        self._kept: dict[str, Cells] = {}

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Three measurements; not applicable where events are no points of a known density."""
        data = evaluation.data
        if data.event.is_discrete or not isinstance(data, KnownDensity):
            return self._refuse("events are no points of a known density")
        x = self._draw(evaluation)
        bad = int((~torch.isfinite(x).flatten(1).all(dim=1)).sum())
        if bad:
            return self._refuse(f"{bad} of {len(x)} samples are not finite")
        depth = min(self.depth, max(1, int(math.log2(max(2, len(x) // LEAST_PER_CELL)))))
        cells = 2**depth
        counts = self._cells(evaluation).find(x, depth).bincount(minlength=cells)
        masses = torch.full((cells,), 1.0 / cells, dtype=torch.float64)
        error = total_variation_stderr(counts, len(x), masses)
        variation = Estimate(total_variation(counts.double() / len(x), masses), error, len(x))
        divergence = Estimate(*plug_in_kl(counts, masses), len(x))
        protocol = evaluation.protocol(samples=False, features=False, cells=cells, drawn=len(x))
        found = [
            Measurement("cell_total_variation", "1", False, variation, protocol, Kind.DIVERGENCE),
            Measurement("cell_kl", "nats", False, divergence, protocol | {"kl": "model||data"}, Kind.DIVERGENCE),
        ]
        return [*found, self._widths(evaluation, x)]

    def _draw(self, evaluation: Evaluation) -> Tensor:
        """(N, *event): fresh samples, or those that there are where few are asked for."""
        sample = getattr(evaluation.model, "sample", None)
        if sample is None or len(evaluation.samples) < self.samples // 20:
            return evaluation.samples
        generator = evaluation.generator(5)
        sizes = [min(self.sample_chunk, self.samples - at) for at in range(0, self.samples, self.sample_chunk)]
        return torch.cat([sample(size, generator=generator).cpu() for size in sizes])

    def _cells(self, evaluation: Evaluation) -> Cells:
        key = getattr(evaluation.data, "fingerprint", evaluation.data.name)
        if key not in self._kept:
            events = evaluation.data.sample(DRAWN, generator=derived_generator(0, evaluation.data.name, "cells"))
            self._kept = {key: Cells(events, self.depth)}
        return self._kept[key]

    def _widths(self, evaluation: Evaluation, x: Tensor) -> Measurement:
        data = evaluation.data
        centres = getattr(data, "modes", None)
        if not isinstance(data, KnownModes) or not callable(centres):
            reason = "the source's modes have no centres"
            return Measurement.not_applicable("mode_width_ratio", reason, kind=Kind.FIDELITY)
        places = centres().double()

        def width(events: Tensor) -> float:
            return float(nearest(events, places).median())

        truth = width(data.sample(DRAWN, generator=derived_generator(0, data.name, "widths")))
        groups = split(len(x), GROUPS)
        kept = torch.ones(len(x), dtype=torch.bool)

        def without(g: int) -> float:
            mask = kept.clone()
            mask[groups[g]] = False
            return width(x[mask]) / truth

        estimate = Estimate(width(x) / truth, jackknife(without, GROUPS), len(x))
        protocol = evaluation.protocol(samples=False, features=False, drawn=len(x), width="median distance")
        return Measurement("mode_width_ratio", "1", None, estimate, protocol, Kind.FIDELITY)

    @staticmethod
    def _refuse(reason: str) -> list[Measurement]:
        return [
            Measurement.not_applicable(
                name, reason, unit, Kind.FIDELITY if name.startswith("mode") else Kind.DIVERGENCE
            )
            for name, unit in NAMES.items()
        ]


def nearest(x: Tensor, centres: Tensor) -> Tensor:
    """(N, d), (K, d) -> (N,) distance to the nearest centre."""
    parts = torch.split(x.flatten(1).double(), 100_000)
    return torch.cat([torch.cdist(part, centres).min(dim=1).values for part in parts])
