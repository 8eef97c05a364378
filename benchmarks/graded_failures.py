"""Which ruler for images? Real images with planted failures in three grades, ruler by ruler.

    .venv/bin/python benchmarks/graded_failures.py data_dir [mnist|fashion_mnist] [--fresh 8] [--plants 5]

Writes results/rulers/<source>.csv: a row per ruler, failure and grade with its value, by how many standard deviations
of fresh real data it is worse than their mean, and how far that scatters: means and standard deviation over draws of
images and failures. A ruler sees a failure if it is worse by five at the strongest grade; it orders it if, moreover, it
never improves by more than one standard deviation as the failure gets worse. 1,000 images are judged against 1,000
held-out ones; fresh real data are other training images. Where these never differ, as in covered modes, 1e-12 stands
for their standard deviation.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from pages import ROOT
from torch import Tensor
from torch.nn import functional as F

from genfam.build import build
from genfam.comparing.metric_trial import FRESH, planted_verdicts
from genfam.comparing.scorecard import plain_csv
from genfam.files import write_atomically
from genfam.metrics.base import Evaluation, Extractor, Metric, measure_all
from genfam.metrics.depths import Depths
from genfam.metrics.extractors import Identity
from genfam.metrics.frechet import Frechet
from genfam.metrics.gaussian_mmd import GaussianMMD
from genfam.metrics.kernel import Kernel
from genfam.metrics.likelihood_divergence import LikelihoodDivergence
from genfam.metrics.memorisation import Memorisation
from genfam.metrics.modes import Modes
from genfam.metrics.neighbours import NearestNeighbours
from genfam.metrics.pixels import PixelStatistics
from genfam.metrics.two_sample import TwoSample
from genfam.metrics.vendi import Vendi
from genfam.metrics.within_class import WithinClassDistance
from genfam.sources.datasets import ImageSet
from genfam.types import Likelihood

N = 1000
IN_FEATURES: dict[str, Metric] = {
    "frechet": Frechet(groups=2), "kernel": Kernel(), "depths": Depths(), "within_class": WithinClassDistance(),
    "neighbours": NearestNeighbours(), "modes": Modes(), "c2st": TwoSample("features"), "memorisation": Memorisation(),
    "fld": LikelihoodDivergence(), "vendi": Vendi(), "gaussian_mmd": GaussianMMD(),
}  # fmt: skip
IN_PIXELS: dict[str, Metric] = {"frechet": Frechet(groups=2), "c2st": TwoSample("event"), "pixels": PixelStatistics()}
BEST = {"data_copying": 0.0, "density": 1.0}  # of rulers that can be wrong on both sides; ratios: 1
LEFT_OUT = ("vendi",)  # its ratio to that of real data is on trial
Plant = Callable[[Tensor, Tensor, Any, torch.Generator], Tensor]


def noise(level: float) -> Plant:
    """Normal noise on every pixel, in grey levels of 255."""
    return lambda x, y, s, g: levels(x.double() + level * torch.randn(x.shape, generator=g, dtype=torch.float64))


def blur(width: float) -> Plant:
    """A Gaussian of this width, in pixels."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        at = torch.arange(-4, 5, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (at / width) ** 2)
        kernel = kernel / kernel.sum()
        rows = F.conv2d(x.double(), kernel.view(1, 1, 1, -1), padding=(0, 4))
        return levels(F.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(4, 0)))

    return plant


def off_black(level: int) -> Plant:
    """Black pixels at random levels from 0 to this one."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        grey = torch.randint(0, level + 1, x.shape, generator=generator, dtype=torch.uint8)
        return torch.where(x == 0, grey, x)

    return plant


def missing(classes: int) -> Plant:
    """No image of the first classes; others in their place, none twice."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        pool, labels = source.pool(generator)
        return pool[labels >= classes][: len(x)]

    return plant


def unbalanced(factor: float) -> Plant:
    """Class frequencies from 1 to `factor`, growing with the class; no image twice."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        pool, labels = source.pool(generator)
        weights = factor ** (labels.double() / 9)
        return pool[torch.multinomial(weights, len(x), generator=generator)]

    return plant


def fewer(variants: int) -> Plant:
    """Of every class so many different images are left."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        out = x.clone()
        for label in y.unique():
            own = (y == label).nonzero().flatten()
            out[own] = x[own[torch.randint(min(variants, len(own)), (len(own),), generator=generator)]]
        return out

    return plant


def junk(share: float) -> Plant:
    """This share of the images is uniform noise."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        other = torch.randint(0, 256, x.shape, generator=generator, dtype=torch.uint8)
        return torch.where((torch.rand(len(x), generator=generator) < share).view(-1, 1, 1, 1), other, x)

    return plant


def copies(share: float) -> Plant:
    """This share is training images, unchanged, none twice."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        out = x.clone()
        chosen = (torch.rand(len(x), generator=generator) < share).nonzero().flatten()
        out[chosen] = source.train[torch.randperm(len(source.train), generator=generator)[: len(chosen)]]
        return out

    return plant


def warped(pixels: float) -> Plant:
    """Smooth random displacements of this standard deviation, in pixels."""

    def plant(x: Tensor, y: Tensor, source: Any, generator: torch.Generator) -> Tensor:
        height, width = x.shape[-2:]
        coarse = torch.randn(len(x), 2, 4, 4, generator=generator)
        field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True) * pixels * 2 / width
        base = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=True)
        return levels(F.grid_sample(x.float(), base + field.permute(0, 2, 3, 1), align_corners=True).double())

    return plant


FAILURES: dict[str, tuple[Plant, Plant, Plant]] = {
    "noise": (noise(8), noise(24), noise(64)), "blur": (blur(0.4), blur(0.7), blur(1.2)),
    "black is grey": (off_black(1), off_black(8), off_black(32)),
    "missing classes": (missing(1), missing(2), missing(4)),
    "wrong class frequencies": (unbalanced(1.5), unbalanced(3), unbalanced(9)),
    "fewer variants within class": (fewer(100), fewer(30), fewer(8)),
    "junk": (junk(0.01), junk(0.05), junk(0.2)), "copies": (copies(0.2), copies(0.5), copies(1.0)),
    "warped strokes": (warped(0.5), warped(1.0), warped(2.0)),
}  # fmt: skip


def levels(x: Tensor) -> Tensor:
    """Real numbers as levels."""
    return x.round().clamp(0, 255).to(torch.uint8)


Bases = dict[str, tuple[dict[str, Metric], Evaluation]]


def bases(source: Any, extractor: Extractor) -> Bases:
    """By the beginning of rulers' names: what is measured, and an evaluation that keeps the reference's features."""
    model = SimpleNamespace(event=source.event, likelihood_kind=Likelihood.NONE, likelihood_method="")
    return {
        # as a look in training: standard errors are not asked for
        where: (metrics, Evaluation(source, source.test, source.test, space, model, in_training=True))
        for where, metrics, space in (("", IN_FEATURES, extractor), ("pixel ", IN_PIXELS, Identity()))
    }


def measured(x: Tensor, found_in: Bases, seed: int) -> dict[str, tuple[float, bool | None]]:
    """Ruler, without the extractor's name -> (value, whether higher is better)."""
    found = {}
    for where, (metrics, base) in found_in.items():
        evaluation = base.with_samples(x)
        evaluation.seed = seed
        for m in measure_all(metrics, evaluation):
            if m.estimate is not None and m.name not in LEFT_OUT:
                own = where if m.name.startswith("fd_") else ""
                name = own + m.name.replace(f"_{evaluation.extractor.name}", "")
                found[name] = (m.estimate.value, m.higher_is_better)
    return found


def badness(name: str, value: float, higher: bool | None) -> float:
    """The larger the worse."""
    if higher is None or name.removeprefix("pixel ") in BEST:
        return abs(value - BEST.get(name.removeprefix("pixel "), 1.0))
    return -value if higher else value


def table(source: Any, extractor: Extractor, fresh: int, plants: int) -> pd.DataFrame:
    """A row per ruler, failure and grade.

    Args:
        source: with `train`, `test`, `fresh` and `pool`, as `main` makes it.
        extractor: of features.
        fresh: draws of real data without a failure.
        plants: draws of real data, and of a failure in them, per grade.
    """
    found_in = bases(source, extractor)
    real: dict[str, list[float]] = {}
    for seed in range(fresh):
        for ruler, found in measured(source.fresh(seed)[0], found_in, seed).items():
            real.setdefault(ruler, []).append(badness(ruler, *found))
    rows = []
    for failure, grades in FAILURES.items():
        for grade, plant in enumerate(grades, start=1):
            drawn: dict[str, list[float]] = {}
            worse: dict[str, list[float]] = {}
            for seed in range(100 * grade, 100 * grade + plants):
                x, y = source.fresh(seed)
                generator = torch.Generator().manual_seed(seed)
                for ruler, found in measured(plant(x, y, source, generator), found_in, seed).items():
                    if ruler not in real:  # no scale to say by how much it is worse
                        continue
                    drawn.setdefault(ruler, []).append(found[0])
                    scale = max(float(np.std(real[ruler], ddof=1)), 1e-12)
                    worse.setdefault(ruler, []).append((badness(ruler, *found) - float(np.mean(real[ruler]))) / scale)
            for ruler, values in drawn.items():
                scatter = float(np.std(worse[ruler], ddof=1)) if len(values) > 1 else math.nan
                by_how_much = [round(float(np.mean(worse[ruler])), 2), round(scatter, 2)]
                rows.append([source.name, ruler, failure, grade, float(np.mean(values)), *by_how_much, len(values)])
            print(f"{failure}, grade {grade}", flush=True)
    return pd.DataFrame(rows, columns=["source", "ruler", "failure", "grade", "value", "worse", "scatter", "draws"])


def main() -> int:
    """Make one source's table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("source", nargs="?", default="mnist", choices=("mnist", "fashion_mnist"))
    parser.add_argument("--fresh", type=int, default=FRESH, help="draws of fresh real data (default: %(default)s)")
    parser.add_argument("--plants", type=int, default=5, help="draws per failure and grade (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path("outputs/.cache"), help="of the classifier (%(default)s)")
    arguments = parser.parse_args()
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from genfam.commands import cli  # registers the resolvers

    assert cli
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", overrides=[f"source={arguments.source}", "family=oracle"])
        node = OmegaConf.to_container(config.extractor, resolve=True)
    images = ImageSet(arguments.source, arguments.data_dir)
    extractor = build(node, Extractor, "extractor", data=images, cache_dir=arguments.cache, device="cpu")
    order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(0))
    learnt, other = order[:N], order[N:]

    def drawn(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = other[torch.randperm(len(other), generator=generator)[:n]]
        return images.train[rows], images.train_labels[rows]

    source = SimpleNamespace(
        name=arguments.source, event=images.event, train=images.train[learnt], test=images.test[:N],
        fresh=lambda seed: drawn(N, torch.Generator().manual_seed(seed)),
        pool=lambda generator: drawn(6 * N, generator),
    )  # fmt: skip
    rows = table(source, extractor, arguments.fresh, arguments.plants)
    path = ROOT / "results" / "rulers" / f"{arguments.source}.csv"
    write_atomically(path, plain_csv(rows))
    print(planted_verdicts(rows).to_string())
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
