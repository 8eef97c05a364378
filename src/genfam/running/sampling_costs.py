"""A trained run at other sampling knobs: what sampling costs, and what that buys. Nothing is trained again.

`genfam-evaluate run=… steps=1,2,5 guidance=1,1.5` writes `sampling_costs.csv` beside the record: a row per setting and
metric, measured as the record was (the same extractor, number of samples, reference and noise). The record itself and
the run's identity stay as they are. `genfam-publish` carries the rows to `results/<suite>/sampling_costs.csv`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from genfam.families.base import Family
from genfam.files import refuse_links
from genfam.metrics.base import Evaluation, measure_all
from genfam.metrics.conditional import WithinClassVariance
from genfam.metrics.divergence import Divergence, states
from genfam.records import environment
from genfam.records.sampling_costs import COLUMNS, FILE, read, write
from genfam.records.store import ended_well
from genfam.running.evaluation import Report, drawn_values, evaluation_of
from genfam.running.parts import make_extractor, make_metrics
from genfam.running.saved import load_run
from genfam.seeds import derived_generator
from genfam.types import Measurement, Record


def measure(
    directory: str | Path,
    wanted: Mapping[str, Sequence[Any]],
    *,
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    guide: str | Path | None = None,
    plugins: Sequence[str] = (),
    progress: Report | None = None,
) -> pd.DataFrame:
    """Draw the evaluation's samples of a stored run at each setting, and measure them with the cheap metrics.

    Each setting is written as soon as it is measured, and what is there is not measured again.

    Args:
        directory: of the run: in the store, or published weights.
        wanted: knob -> values; every combination is a setting. Knobs that are not named stay as they were run.
        data_dir: where image files lie here, if elsewhere than where the run was made.
        output_dir: the store whose `.cache` has the extractor's classifier, if not the one that the run is in.
        guide: a weaker run of the same family and source, for guidance to lead away from.
        plugins: packages beside genfam that the user named.
        progress: called with (share done, text).

    Returns:
        All rows of the run, columns `COLUMNS`.

    Raises:
        FileNotFoundError: no run there that ended well, or no weights.
        ValueError: the family has no such choice (nothing is measured then), or the numbers could not stand beside the
            record's, since they were measured by another protocol.
    """
    folder = Path(directory)
    refuse_links(folder)
    record = ended_well(folder)
    saved = load_run(folder, data_dir, plugins=plugins)
    family, source, run = saved.family, saved.source, saved.run
    if guide is not None:
        family.guide_by(load_run(guide, data_dir, plugins=plugins).family)
    report = progress or (lambda share, text: None)
    as_run = dict(family.sampling)
    settings = [dict(zip(wanted, values, strict=True)) for values in itertools.product(*wanted.values())]
    work = {}
    for setting in settings:  # a mistake in the last one is said before the first is measured
        family.choose_sampling(**(as_run | setting))
        work[_text(family.sampling)] = family.evaluations_per_sample
    rows = read(folder / FILE)
    to_do = [text for text in work if text not in set(rows["knobs"])]
    if not to_do:
        return rows
    torch.set_num_threads(run.threads)
    torch.set_flush_denormal(True)
    report(0.0, "extractor")
    store = folder.parent.parent if output_dir is None else Path(output_dir)
    extractor = make_extractor(run, source, store / ".cache")
    cheap = {key: metric for key, metric in make_metrics(run).items() if metric.on_curve}
    if states(source) is None:  # no sampling knob moves a density
        cheap = {key: metric for key, metric in cheap.items() if not isinstance(metric, Divergence)}
    cheap |= {"within_class": WithinClassVariance()}  # what sharpening costs, whether or not the record has it
    values = drawn_values(family, run.evaluation.samples, run.seed, source)
    base: Evaluation | None = None
    done, whole = 0.0, sum(work[text] for text in to_do)
    for text in to_do:
        family.choose_sampling(**json.loads(text))
        begun, share = done / whole, work[text] / whole
        label = ", ".join(f"{key}={value}" for key, value in family.sampling.items())

        def drawn(part: float, begun: float = begun, share: float = share, label: str = label) -> None:
            report(begun + share * part, f"{label}: drawing samples")

        generator = derived_generator(run.seed, source.name, "evaluation")
        samples, seconds = draw(family, run.evaluation.samples, generator, drawn, values)
        report(begun + share, f"{label}: measuring")
        if base is None:
            base = evaluation_of(run.seed, family, source, extractor, samples, values)
        measured = [m for m in measure_all(cheap, base.with_samples(samples, values)) if m.estimate is not None]
        check_protocol(record, measured)
        common = {
            "run_id": record.run_id, "family": record.family, "source": record.task, "seed": record.seed,
            "knobs": text, "network_evaluations": family.evaluations_per_sample, "samples": len(samples),
            "seconds": seconds, "as_run": family.sampling == as_run, "code_version": environment.code_version(),
        }  # fmt: skip
        new = [
            common | {"metric": m.name, "value": e.value, "stderr": e.stderr, "fingerprint": m.fingerprint}
            for m in measured
            if (e := m.estimate) is not None
        ]
        rows = pd.DataFrame([*rows.to_dict("records"), *new], columns=list(COLUMNS))
        write(folder / FILE, rows)
        done += work[text]
    report(1.0, "measured")
    return rows


def _text(knobs: Mapping[str, Any]) -> str:
    return json.dumps(dict(knobs), sort_keys=True)


def draw(
    family: Family, n: int, generator: Generator, report: Callable[[float], None], values: Tensor | None = None
) -> tuple[Tensor, float]:
    """(n, *event) given (n,) values of the condition, and the seconds that they took.

    `report` hears of every network call, as the share of them that is done.
    """
    calls = n * family.evaluations_per_sample
    asked = 0

    def count(module: object, inputs: tuple[Tensor, ...]) -> None:
        nonlocal asked
        asked += len(inputs[0])
        report(min(1.0, asked / calls))

    hook = family.sampler.register_forward_pre_hook(count)
    try:
        start = time.perf_counter()
        samples = family.sample(n, generator=generator, condition=values).cpu()
        return samples, time.perf_counter() - start
    finally:
        hook.remove()


def check_protocol(record: Record, measured: Iterable[Measurement]) -> None:
    """Raise ValueError, naming both protocols, where a measurement could not stand beside the record's."""
    known = {m.name: m.fingerprint for m in record.metrics if m.estimate is not None}
    for m in measured:
        if known.get(m.name, m.fingerprint) != m.fingerprint:
            raise ValueError(
                f"{record.run_id}: {m.name}: expected the record's protocol {known[m.name]}, got {m.fingerprint}; "
                "numbers of two protocols cannot share a figure. output_dir=STORE names the store whose .cache has the "
                "record's classifier; without a knob, genfam-evaluate measures the record itself again"
            )
