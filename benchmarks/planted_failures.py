"""What every metric notices: failures planted in real data, metric by metric, in standard deviations of the oracle.

    .venv/bin/python benchmarks/planted_failures.py [--check]

Writes the matrices in docs/metrics.md (`--check` changes nothing and fails where they are out of date). Each cell is
(value with the failure − mean over oracle draws) / their standard deviation. 20 oracle draws, fixed seeds: by chance
alone a cell leaves ±5 with a probability of about 10⁻⁴ (Student's t of 19 degrees).
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from pages import ROOT, keep_block
from torch import Generator, Tensor

from genfam.build import build
from genfam.metrics.base import Evaluation, Extractor, Metric, measure_all
from genfam.metrics.cells import CellDivergence
from genfam.metrics.depths import Depths
from genfam.metrics.extractors import Identity
from genfam.metrics.frechet import Frechet
from genfam.metrics.frechet_infinity import FrechetInfinity
from genfam.metrics.gaussian_mmd import GaussianMMD
from genfam.metrics.kernel import Kernel
from genfam.metrics.likelihood_divergence import LikelihoodDivergence
from genfam.metrics.memorisation import Memorisation
from genfam.metrics.modes import Modes
from genfam.metrics.neighbours import NearestNeighbours
from genfam.metrics.pixels import PixelStatistics
from genfam.metrics.sliced_wasserstein import SlicedWasserstein
from genfam.metrics.two_sample import TwoSample
from genfam.metrics.vendi import Vendi
from genfam.metrics.within_class import WithinClassDistance
from genfam.sources.images import Digits
from genfam.sources.known import Grid
from genfam.types import Likelihood

DRAWS, MOVED = 20, 5.0
METRICS: dict[str, Metric] = {
    "frechet": Frechet(), "frechet_infinity": FrechetInfinity(), "kernel": Kernel(),
    "neighbours": NearestNeighbours(), "modes": Modes(),
    "sliced": SlicedWasserstein(), "memorisation": Memorisation(), "cells": CellDivergence(),
    "depths": Depths(), "within_class": WithinClassDistance(), "pixels": PixelStatistics(),
}  # fmt: skip
SLOWER: dict[str, Metric] = {
    "c2st": TwoSample(), "fld": LikelihoodDivergence(), "vendi": Vendi(), "mmd": GaussianMMD(),
}  # fmt: skip
Failure = Callable[[Tensor, Any, Generator], Tensor]


def drop_modes(share: float) -> Failure:
    """Events of the first `share` of the modes are replaced by others."""

    def plant(x: Tensor, source: Any, generator: Generator) -> Tensor:
        modes = source.classes(x)
        kept = x[modes >= round(share * source.count)]
        return kept[torch.randint(len(kept), (len(x),), generator=generator)]

    return plant


def collapse_within(x: Tensor, source: Any, generator: Generator) -> Tensor:
    """Of every mode only three different events are left."""
    modes = source.classes(x)
    out = x.clone()
    for mode in range(source.count):
        own = (modes == mode).nonzero().flatten()
        if len(own):
            out[own] = x[own[torch.randint(min(3, len(own)), (len(own),), generator=generator)]]
    return out


def over_concentrate(x: Tensor, source: Any, generator: Generator) -> Tensor:
    """Half of the way to the mode's mean: high quality above the oracle's."""
    modes = source.classes(x)
    means = torch.stack([x[modes == mode].double().mean(dim=0) for mode in range(source.count)])
    return as_events((x.double() + means[modes]) / 2, x)


def add_noise(x: Tensor, source: Any, generator: Generator) -> Tensor:
    """Normal noise: one standard deviation of a mode (points), two grey levels of 16 (digits)."""
    return as_events(x.double() + source.noise * torch.randn(x.shape, generator=generator, dtype=torch.float64), x)


def copy_train(x: Tensor, source: Any, generator: Generator) -> Tensor:
    """Draws from the training split, with repetition."""
    return source.train[torch.randint(len(source.train), (len(x),), generator=generator)]


def mirror(x: Tensor, source: Any, generator: Generator) -> Tensor:
    """The last axis reversed: left and right of an image, x and y of a point."""
    return x.flip(-1)


def junk(x: Tensor, source: Any, generator: Generator) -> Tensor:
    """5 % of the events uniform over the range of the data."""
    low, high = float(x.min()), float(x.max())
    other = as_events(low + (high - low) * torch.rand(x.shape, generator=generator, dtype=torch.float64), x)
    return torch.where((torch.rand(len(x), generator=generator) < 0.05).view(-1, *[1] * (x.dim() - 1)), other, x)


FAILURES: dict[str, Failure] = {
    "drops 1 mode in 5": drop_modes(0.2), "collapses within modes": collapse_within,
    "over-concentrates": over_concentrate, "adds noise": add_noise, "copies the training set": copy_train,
    "mirrors": mirror, "5 % junk": junk,
}  # fmt: skip


def as_events(values: Tensor, like: Tensor) -> Tensor:
    """Real numbers as events of the kind of `like`: floats, or rounded levels."""
    return values.to(like.dtype) if like.is_floating_point() else values.round().clamp(0, 16).to(like.dtype)


def points(n: int = 2500) -> tuple[Any, Extractor]:
    """Draws of n points of the grid, with a training split of n (the source's own million cannot be copied)."""
    source = Grid()
    source_train = source.train[:n]
    return SimpleNamespace(
        name="grid", event=source.event, train=source_train, count=25, noise=0.05, modes=source.modes,
        assign=source.assign, mode_masses=source.mode_masses, label_names=(),
        log_prob=source.log_prob, entropy=source.entropy, sample=source.sample,
        classes=lambda x: torch.cdist(x.double(), source.modes().double()).argmin(dim=1),
        fresh=lambda generator: source.sample(n, generator=generator), test=source.test[:n],
    ), Identity()  # fmt: skip


def images(cache: Path) -> tuple[Any, Extractor]:
    """Digits: of the 1,297 training images one half may be learnt from, and the oracle draws from the other."""
    source = Digits()
    settings = yaml.safe_load((ROOT / "conf" / "extractor" / "digits_cnn.yaml").read_text())
    extractor = build(settings, Extractor, "extractor", data=source, cache_dir=cache)
    order = torch.randperm(len(source.train), generator=torch.Generator().manual_seed(0))
    seen, unseen = source.train[order[:648]], source.train[order[648:]]
    return SimpleNamespace(
        name="digits", event=source.event, train=seen, count=10, noise=2.0, classes=extractor.classify,
        fresh=lambda generator: unseen[torch.randperm(len(unseen), generator=generator)[:500]], test=source.test,
    ), extractor  # fmt: skip


def matrix(
    source: Any, extractor: Extractor, draws: int = DRAWS, metrics: dict[str, Metric] = METRICS
) -> dict[str, dict[str, float]]:
    """Failure -> metric -> oracle standard deviations that the metric moves by; ±inf where the oracle has none."""
    model = SimpleNamespace(event=source.event, likelihood_kind=Likelihood.NONE, likelihood_method="")

    def values(samples: Tensor) -> dict[str, float]:
        found = measure_all(metrics, Evaluation(source, samples, source.test, extractor, model, 0))
        return {m.name: m.estimate.value for m in found if m.estimate is not None}

    def fresh(seed: int) -> tuple[Tensor, Generator]:
        generator = torch.Generator().manual_seed(seed)
        return source.fresh(generator), generator

    oracle = [values(fresh(seed)[0]) for seed in range(draws)]
    names = list(oracle[0])
    means = {name: float(np.mean([one[name] for one in oracle])) for name in names}
    spreads = {name: float(np.std([one[name] for one in oracle], ddof=1)) for name in names}
    found = {}
    for failure, plant in FAILURES.items():
        x, generator = fresh(1000)
        planted = values(plant(x, source, generator))
        found[failure] = {name: score(planted.get(name, math.nan) - means[name], spreads[name]) for name in names}
    return found


def score(difference: float, spread: float) -> float:
    """In standard deviations; of a metric that never varies any difference is infinitely many."""
    if spread < 1e-12:
        return 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    return difference / spread


def table(found: dict[str, dict[str, float]]) -> str:
    """As Markdown: bold where the metric moved."""
    lines = ["| metric | " + " | ".join(found) + " |", "|---|" + "--:|" * len(found)]
    for name in next(iter(found.values())):
        lines.append(f"| {name} | " + " | ".join(cell(row[name]) for row in found.values()) + " |")
    return "\n".join(lines)


def cell(z: float) -> str:
    """One number."""
    whole = f"{z:+.0f}" if not abs(z) > 999 else f"{'+' if z > 0 else '-'}>999"
    text = "–" if math.isnan(z) else {math.inf: "+∞", -math.inf: "−∞"}.get(z, whole.replace("-", "−"))
    return f"**{text}**" if abs(z) >= MOVED else text


def matrices() -> str:
    """Both sources' tables; takes some minutes."""
    torch.set_num_threads(1)
    every = METRICS | SLOWER
    with tempfile.TemporaryDirectory() as cache:
        return (
            f"\nGrid, {DRAWS} oracle draws of 2,500 points:\n\n{table(matrix(*points(), metrics=every))}\n\n"
            f"Digits, {DRAWS} oracle draws of 500 images:\n\n{table(matrix(*images(Path(cache)), metrics=every))}\n"
        )


if __name__ == "__main__":
    sys.exit(keep_block(ROOT / "docs" / "metrics.md", "matrices", matrices, __doc__))
