"""Sampling step by step: a run's states at some times, and how far they are from p_t where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genfam.families.base import Family
from genfam.families.coupling import Independent
from genfam.families.field import FieldFamily
from genfam.families.reflow import Reflow
from genfam.metrics.cells import Cells
from genfam.metrics.divergence import total_variation
from genfam.seeds import derived_generator, normal
from genfam.sources.base import Source
from genfam.types import KnownDensity

DEPTH = 7  # of the tree: 128 cells of equal mass
DRAWN = 2**16  # exact draws of p_t that the cells are cut from
STATES = 10_000  # of the model, and of the floor


@dataclass(frozen=True)
class Snapshot:
    """The family at one time.

    Attributes:
        time: t, 0 at first and 1 at the end.
        states: (n, *event) float32, in the data's units; not a number where a scalar is still to come.
        exact: (n, *event) draws of the exact p_t; None where it is not known (`pairs_at_random`).
        divergence: total variation between the model's states and p_t over cells of equal mass, and `floor`, that of as
            many exact draws; None where p_t is not known.
    """

    time: float
    states: Tensor
    exact: Tensor | None = None
    divergence: float | None = None
    floor: float | None = None


def snapshots(family: Family, source: Source, times: Sequence[float], n: int, seed: int) -> list[Snapshot]:
    """N states at each time, and of families with a path on points of a known source the divergence from p_t.

    Raises:
        NoTrajectory: the family draws at once.
        ValueError: a time outside [0, 1].
    """
    shown = family.snapshots(n, times, derived_generator(seed, source.name, "path")).cpu()
    if not isinstance(source, KnownDensity) or not pairs_at_random(family) or family.event.is_discrete:
        return [Snapshot(time, states) for time, states in zip(times, shown, strict=True)]
    codec: Any = family.codec
    many = family.snapshots(STATES, times, derived_generator(seed, source.name, "path states")).cpu()
    found = []
    for time, states, own in zip(times, shown, many, strict=True):
        exact = _exact(codec, source, time, DRAWN, "cells")
        cells, fresh = Cells(exact, DEPTH), _exact(codec, source, time, STATES, "floor")
        own_variation, floor = (_variation(cells, x) for x in (own, fresh))
        found.append(Snapshot(time, states, fresh[:n], own_variation, floor))
    return found


def pairs_at_random(family: Family) -> bool:
    """Whether the family's path joins noise and data that are drawn independently, so that p_t follows from p_data.

    A coupling by optimal transport pairs them otherwise, and so do reflow's own pairs: the ends of the path are the
    same, what lies between is not.
    """
    independent = isinstance(getattr(family, "coupling", Independent()), Independent) and not isinstance(family, Reflow)
    return isinstance(family, FieldFamily) and family.init is None and independent


def _exact(codec: Any, source: Source, time: float, n: int, purpose: str) -> Tensor:
    """(n, *event) draws of x_t = (1 − t) x_0 + t x_1, in the data's units."""
    generator = derived_generator(0, source.name, f"path {purpose} {time:g}")
    x1 = codec.encode(source.sample(n, generator=generator))
    exact: Tensor = codec.in_units((1.0 - time) * normal(x1.shape, torch.device("cpu"), generator) + time * x1)
    return exact


def _variation(cells: Cells, x: Tensor) -> float:
    counts = cells.find(x).bincount(minlength=2**cells.depth).double()
    masses = torch.full((2**cells.depth,), 0.5**cells.depth, dtype=torch.float64)
    return total_variation(counts / counts.sum(), masses)
