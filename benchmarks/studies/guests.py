"""Two models of scikit-learn as guests beside suite `quick`: records and scorecard go to results/guests.

    .venv/bin/python benchmarks/studies/guests.py [STORE]

The rule, written before any test event was looked at:

- Both are fitted to the first 10,000 training events (digits: to all 1,297, with noise in [0, 1) added to the levels;
  samples are rounded down).
- GaussianMixture (full covariances): of 1, 2, 4, … components, at most 128 and at most one per 2 D events in D
  dimensions, so that no covariance is singular, the number with the lowest BIC on these training events.
- KernelDensity (Gaussian): of the data's mean standard deviation × 1, 1/2, …, 1/512 the bandwidth with the highest
  log-likelihood in five-fold cross-validation on these training events.
- Both choices are made once, with seed 0. Seeds 100 to 104 then fit (the mixture's start, the noise) and draw.

What the fits cost is not stated: FLOPs of scikit-learn's loops were not counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity

import genfam
from genfam.build import ConfigurationError
from genfam.comparing.scorecard import to_csv
from genfam.files import write_atomically
from genfam.records.publication import provenance, publishable
from genfam.records.store import load_published, write_published
from genfam.report import facts_of
from genfam.report.findings import findings
from genfam.report.markdown import render
from genfam.sources.base import Source
from genfam.sources.images import Digits
from genfam.sources.known import Grid

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python benchmarks/studies/guests.py"
SOURCES: dict[str, tuple[type[Source], int]] = {"digits": (Digits, 2000), "grid": (Grid, 20_000)}  # samples drawn
SEEDS = range(100, 105)
MOST_EVENTS, MOST_COMPONENTS, BANDWIDTHS, FOLDS = 10_000, 128, 10, 5
Array = NDArray[np.float64]


def events(source: Source, seed: int) -> Array:
    """(N, D) training events, made continuous."""
    x = source.train[:MOST_EVENTS].flatten(1).numpy().astype(np.float64)
    return x + np.random.default_rng(seed).uniform(size=x.shape) if source.event.is_discrete else x


def components(x: Array) -> int:
    """By the rule above."""
    most = min(MOST_COMPONENTS, len(x) // (2 * x.shape[1]))
    choices = [2**power for power in range(most.bit_length())]
    return min(choices, key=lambda k: GaussianMixture(k, random_state=0).fit(x).bic(x))


def bandwidth(x: Array) -> float:
    """By the rule above."""
    choices = x.std(axis=0).mean() * 0.5 ** np.arange(BANDWIDTHS)
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    return float(GridSearchCV(KernelDensity(), {"bandwidth": choices}, cv=folds).fit(x).best_params_["bandwidth"])


def drawn(model: GaussianMixture | KernelDensity, source: Source, n: int, seed: int) -> NDArray[Any]:
    """(n, *event) as the source gives them."""
    x = model.sample(n)[0] if isinstance(model, GaussianMixture) else model.sample(n, random_state=seed)
    if source.event.levels is not None:
        x = np.floor(x).clip(0, source.event.levels - 1).astype(np.uint8)
    return x.reshape(n, *source.event.shape)


def study(
    store: Path, results: Path, target: Path, sources: Sequence[str] = tuple(SOURCES), seeds: Sequence[int] = SEEDS
) -> dict[str, dict[str, float]]:
    """Fit, draw, judge, and write `target`; returns the settings that were chosen, by source.

    Args:
        store: a folder without runs of `quick`, which are then the published ones.
        results: folder of published suites.
        target: folder for records.jsonl.gz, scorecard.csv, scorecard.md, provenance.json and settings.json.
        sources: of `SOURCES`.
        seeds: of fits and draws, one after the other.

    Raises:
        ConfigurationError: as `genfam.judge`.
    """
    records, settings = [], {}
    for name in sources:
        make, n = SOURCES[name]
        source = make()
        x = events(source, 0)
        chosen: dict[str, float] = {"n_components": components(x), "bandwidth": bandwidth(x)}
        settings[name] = chosen
        samples: dict[str, list[NDArray[Any]]] = {"gaussian_mixture": [], "kernel_density": []}
        for seed in seeds:
            mixture = GaussianMixture(int(chosen["n_components"]), random_state=seed).fit(events(source, seed))
            kernels = KernelDensity(bandwidth=chosen["bandwidth"]).fit(events(source, seed))
            for guest, model in zip(samples, (mixture, kernels), strict=True):
                samples[guest].append(drawn(model, source, n, seed))
        for guest, files in samples.items():
            found = genfam.judge(
                files, name, guest, suite="quick", seed=seeds[0], output_dir=store, results_dir=results
            )
            print(found, flush=True)
            records += [
                replace(publishable(r), suite="guests", config=r.config | {"suite": "guests"}) for r in found.records
            ]
    records = [publishable(record) for record in records]
    beside = [replace(r, suite="guests") for r in load_published(results / "quick") if r.source in sources]
    found = findings([*beside, *records])
    facts = provenance(records, COMMAND)
    write_published(target, records)
    write_atomically(target / "provenance.json", json.dumps(facts, indent=1, allow_nan=False) + "\n")
    write_atomically(target / "settings.json", json.dumps(settings, indent=1) + "\n")
    write_atomically(target / "scorecard.csv", to_csv(found.card))
    about = facts_of(facts) | {"families": "the published runs of results/quick"}
    write_atomically(target / "scorecard.md", render(found.summary(about), []))
    return settings


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "outputs" / "studies")
    if list((place / "quick").glob("*/record.json")):
        sys.exit(
            f"{place}: expected no runs of quick there, for those published should stand beside; give another store"
        )
    try:
        print(study(place, ROOT / "results", ROOT / "results" / "guests"))
    except ConfigurationError as error:
        sys.exit(str(error))
