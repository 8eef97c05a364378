"""What can be known of a suite before its first run: whether its data, sizes and disk will do, and the time."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from genfam.build import ConfigurationError, NotModelled, build
from genfam.families.base import Family
from genfam.records.run import Run
from genfam.running.parts import begin, make_condition, make_init, make_source
from genfam.sources.base import Source

BYTES_PER_PARAMETER = 40  # of a run: weights, average, two moments of Adam in a checkpoint that is replaced, twice
BYTES_PER_RUN = 3_000_000  # record, samples, log, pictures


def check(runs: Sequence[Run]) -> dict[str, str]:
    """Refuse a suite that cannot be run.

    Args:
        runs: that are to be run; those that are finished need nothing.

    Returns:
        Id of each run whose family does not model such events at all -> why. A suite leaves them out.

    Raises:
        ConfigurationError: data that are not there, a family that cannot be built for them, or too small a disk; one
            line, the first of what is wrong.
    """
    sources: dict[str, Source] = {}
    seen: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for run in runs:
        key = json.dumps([run.source, run.corruption, str(run.data_dir), run.split], sort_keys=True)
        if key not in sources:
            sources[key] = make_source(run)
            try:
                sources[key].require()
                for remark in sources[key].remarks():
                    print(f"source {run.source['name']}: {remark}", file=sys.stderr, flush=True)
            except (OSError, ValueError) as error:
                raise ConfigurationError(str(error)) from error
        cell = json.dumps([key, run.family, run.init, run.condition, run.budget.parameters], sort_keys=True)
        if cell not in seen:
            seen[cell] = why_not(run, sources[key])
        if seen[cell]:
            left_out[run.id] = seen[cell]
    _check_disk(runs)
    return left_out


def why_not(run: Run, source: Source) -> str:
    """Why the family does not model the source's events, else nothing.

    Raises:
        ConfigurationError: it cannot be built for them.
    """
    try:
        classes = make_condition(run).expected(source)
        family = build(
            run.family, Family, "family", plugins=run.plugins,
            event=source.event, parameters=run.budget.parameters, classes=classes,
        )  # fmt: skip
        init = make_init(run)
        if init is not None:
            init.require()
        begin(family, init)
    except NotModelled as error:
        return f"{run.family['name']} on {run.source['name']}: {error}"
    except (ValueError, FileNotFoundError) as error:
        raise ConfigurationError(f"{run.family['name']} on {run.source['name']}: {error}") from error
    there = source.count()
    if family.trains and there is not None and there < family.batch_size:
        raise ConfigurationError(
            f"{run.family['name']} on {run.source['name']}: expected at least {family.batch_size} training events "
            f"(family.batch_size), got {there}"
        )
    return ""


def _check_disk(runs: Sequence[Run]) -> None:
    needed = sum(BYTES_PER_RUN + BYTES_PER_PARAMETER * run.budget.parameters for run in runs)
    for store in {run.output_dir for run in runs}:
        try:
            there = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
            free = shutil.disk_usage(there).free
        except OSError as error:
            raise ConfigurationError(
                f"output_dir: expected a folder, got {str(store)!r:.80}: {error.strerror}"
            ) from error
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise ConfigurationError(f"output_dir: expected a folder that can be written to, got {there}")
        if free < needed:
            raise ConfigurationError(
                f"output_dir: expected {needed / 1e9:.2g} GB free in {there} for {len(runs)} runs, got {free / 1e9:.2g}"
            )


def expected_seconds(runs: Iterable[Run], results: Path) -> float | None:
    """Processor time of training, by the published seconds per FLOP of the same families and sources.

    Args:
        runs: that are to be run.
        results: folder of published suites.

    Returns:
        Seconds on the machines of the published runs; None where a family that trains was never published.
    """
    rates: dict[tuple[str, str], float] = {}
    for path in sorted(results.glob("*/scorecard.csv")):
        card = pd.read_csv(path)
        means = card.pivot_table(index=["source", "family"], columns="metric", values="mean")
        if {"train_seconds", "train_flops"} <= set(means.columns):
            known = means[means["train_flops"] > 0]
            for cell, row in known.iterrows():
                assert isinstance(cell, tuple)
                rates[str(cell[0]), str(cell[1])] = float(row["train_seconds"] / row["train_flops"])
    total = 0.0
    for run in runs:
        if run.is_yardstick:
            continue
        rate = rates.get((run.source["name"], run.family["name"]))
        if rate is None:
            return None
        total += rate * run.budget.train_flops
    return total
