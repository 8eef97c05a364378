"""Cells of equal mass around known modes, for divergences in any dimension.

A tree of medians along the axes (`cells.py`) sees nine of 64 dimensions, and a rotated mode hardly at all. Where the
modes of p_data are Gaussians, cells can be made of what a mode is: of an event that was placed on its most probable
mode and whitened there, the mode, the radius and the signs of its first coordinates are independent, and their laws are
known. So mode × shell × orthant makes cells of equal mass in any dimension, but for the few events that are more
probable under another mode than their own (`genfam.sources.mixture`).

What is seen: masses of modes; a covariance that is wrong along any axis, since the radius is χ distributed only if all
are right; a shift along a mode's longest axes by the signs, along any other by the radius. What is not: how events are
spread within a shell and orthant.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation
from genfam.metrics.cells import LEAST_PER_CELL, CellDivergence
from genfam.metrics.divergence import total_variation, total_variation_stderr
from genfam.metrics.estimators import plug_in_kl
from genfam.types import Estimate, Kind, Measurement


@runtime_checkable
class GaussianModes(Protocol):
    """A source whose modes are Gaussians."""

    mode_masses: Tensor

    def placed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> (B,) most probable mode, and (B, D) float64 the event in the whitened axes of that mode."""
        ...


def divide(bits: int, dimensions: int) -> tuple[int, int]:
    """How 2^bits cells of one mode are made: (bits of the radius, number of signs), the radius having no fewer."""
    signs = min(dimensions, bits // 2)
    return bits - signs, signs


def find(data: GaussianModes, x: Tensor, bits: int) -> Tensor:
    """(N, D) -> (N,) int64: cell of each event, of 2^bits for each mode."""
    mode, white = data.placed(x)
    of_radius, signs = divide(bits, white.shape[1])
    dimensions = torch.tensor(white.shape[1] / 2.0, dtype=torch.float64)
    within = torch.special.gammainc(dimensions, white.square().sum(dim=1) / 2.0)  # the χ² distribution
    shell = (within * 2**of_radius).long().clamp_max(2**of_radius - 1)
    orthant = ((white[:, :signs] > 0.0).long() * 2 ** torch.arange(signs)).sum(dim=1)
    cell: Tensor = (mode * 2**of_radius + shell) * 2**signs + orthant
    return cell


class ModeCells(CellDivergence):
    """`cell_total_variation` and `cell_kl` (lower is better), `mode_width_ratio` (1 is right).

    With K modes there are K · 2^b cells, b the largest with at most 2^depth cells and `LEAST_PER_CELL` samples in each.
    """

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Three measurements; not applicable where the modes are no known Gaussians."""
        data = evaluation.data
        if not isinstance(data, GaussianModes):
            return self._refuse("the source's modes are no known Gaussians")
        x = self._draw(evaluation)
        bad = int((~torch.isfinite(x).flatten(1).all(dim=1)).sum())
        if bad:
            return self._refuse(f"{bad} of {len(x)} samples are not finite")
        modes = len(data.mode_masses)
        most = min(2**self.depth, len(x) // LEAST_PER_CELL)
        bits = max(0, int(math.log2(max(1, most // modes))))
        masses = data.mode_masses.double().repeat_interleave(2**bits) / 2**bits
        counts = find(data, x, bits).bincount(minlength=len(masses))
        error = total_variation_stderr(counts, len(x), masses)
        variation = Estimate(total_variation(counts.double() / len(x), masses), error, len(x))
        divergence = Estimate(*plug_in_kl(counts, masses), len(x))
        about = {"cells": len(masses), "drawn": len(x), "around": "modes"}
        protocol = evaluation.protocol(samples=False, features=False, **about)
        return [
            Measurement("cell_total_variation", "1", False, variation, protocol, Kind.DIVERGENCE),
            Measurement("cell_kl", "nats", False, divergence, protocol | {"kl": "model||data"}, Kind.DIVERGENCE),
            self._widths(evaluation, x),
        ]
