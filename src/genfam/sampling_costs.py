"""A trained run at several numbers of solver steps: what sampling costs, and what that buys. Nothing is trained again.

`genfam-evaluate run=… steps=1,2,5` writes `sampling_costs.csv` beside the record: a row per setting and metric,
measured as the record was (the same extractor, number of samples, reference and noise). The record itself and the run's
identity stay as they are. `genfam-publish` carries the rows to `results/<suite>/sampling_costs.csv`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Generator, Tensor

from genfam import environment
from genfam.experiment import SAMPLING_COSTS, make_extractor, make_metrics
from genfam.families.base import Family
from genfam.metrics.base import Evaluation, measure_all
from genfam.records import Store
from genfam.run_folder import ended_well
from genfam.saved import load_run
from genfam.seeds import derive_seed, derived_generator
from genfam.serialisation import write_atomically
from genfam.types import Measurement, Record

# `seconds`: to draw all `samples`; `as_run`: whether the record itself was measured so.
COLUMNS = (
    "run_id", "family", "source", "seed", "solver", "steps", "network_evaluations", "metric", "value", "stderr",
    "samples", "seconds", "as_run", "fingerprint", "code_version",
)  # fmt: skip
SETTING = ["run_id", "solver", "steps"]
Report = Callable[[float, str], None]


def measure(
    directory: str | Path,
    steps: Sequence[int],
    solvers: Sequence[str] = (),
    *,
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    progress: Report | None = None,
) -> pd.DataFrame:
    """Draw the evaluation's samples of a stored run at each setting, and measure them with the cheap metrics.

    Each setting is written as soon as it is measured, and what is there is not measured again.

    Args:
        directory: of the run: in the store, or published weights.
        steps: of the solver.
        solvers: each is tried with all `steps`; none: the run's own.
        data_dir: where image files lie here, if elsewhere than where the run was made.
        output_dir: the store whose `.cache` has the extractor's classifier, if not the one that the run was made in.
        progress: called with (share done, text).

    Returns:
        All rows of the run, columns `COLUMNS`.

    Raises:
        FileNotFoundError: no run there that ended well, or no weights.
        ValueError: the family has no such choice (nothing is measured then), or the numbers could not stand beside the
            record's, since they were measured by another protocol.
    """
    folder = Path(directory)
    record = ended_well(folder)
    saved = load_run(folder, data_dir)
    family, source = saved.family, saved.source
    config = saved.config if output_dir is None else saved.config | {"output_dir": str(output_dir)}
    report = progress or (lambda share, text: None)
    as_run = family.sampling
    names = solvers or ([] if as_run is None else [as_run.solver])
    wanted = [(name, count) for name in names or [""] for count in sorted(set(steps))]
    work = {}
    for name, count in wanted:  # a mistake in the last one is said before the first is measured
        family.choose_sampling(count, name or None)
        work[name, count] = family.evaluations_per_sample
    rows = read(folder / SAMPLING_COSTS)
    there = {(str(solver), int(count)) for _, solver, count in rows[SETTING].itertuples(index=False)}
    to_do = [setting for setting in wanted if setting not in there]
    if not to_do:
        return rows
    torch.set_num_threads(config["threads"])
    torch.set_flush_denormal(True)
    report(0.0, "extractor")
    extractor = make_extractor(config, source)
    cheap = {key: metric for key, metric in make_metrics(config).items() if metric.on_curve}
    base: Evaluation | None = None
    done, whole = 0.0, sum(work[setting] for setting in to_do)
    for name, count in to_do:
        family.choose_sampling(count, name)
        begun, share = done / whole, work[name, count] / whole
        text = f"{name}, {count} steps"

        def drawn(part: float, begun: float = begun, share: float = share, text: str = text) -> None:
            report(begun + share * part, f"{text}: drawing samples")

        samples, seconds = draw(
            family, config["evaluation"]["samples"], derived_generator(config["seed"], source.name, "evaluation"), drawn
        )
        report(begun + share, f"{text}: measuring")
        if base is None:
            seed = derive_seed(config["seed"], source.name, "metrics")
            base = Evaluation(source, samples, source.test, extractor, family, seed)
        measured = [m for m in measure_all(cheap, base.with_samples(samples)) if m.estimate is not None]
        check_protocol(record, measured)
        common = {
            "run_id": record.run_id, "family": record.family, "source": record.source, "seed": record.seed,
            "solver": name, "steps": count, "network_evaluations": family.evaluations_per_sample,
            "samples": len(samples), "seconds": seconds, "as_run": family.sampling == as_run,
            "code_version": environment.code_version(),
        }  # fmt: skip
        new = [
            common | {"metric": m.name, "value": e.value, "stderr": e.stderr, "fingerprint": m.fingerprint}
            for m in measured
            if (e := m.estimate) is not None
        ]
        rows = pd.DataFrame([*rows.to_dict("records"), *new], columns=list(COLUMNS))
        write(folder / SAMPLING_COSTS, rows)
        done += work[name, count]
    report(1.0, "measured")
    return rows


def draw(family: Family, n: int, generator: Generator, report: Callable[[float], None]) -> tuple[Tensor, float]:
    """(n, *event), and the seconds that they took.

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
        samples = family.sample(n, generator=generator)
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
                "record's classifier; without steps=, genfam-evaluate measures the record itself again"
            )


def read(path: Path) -> pd.DataFrame:
    """The rows of one file; none where there is no file.

    Raises:
        ValueError: it has other columns.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.read_csv(path, dtype={"run_id": str, "family": str, "source": str}, keep_default_na=False, na_values=[""])
    if list(rows.columns) != list(COLUMNS):
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(rows.columns)}")
    return rows


def write(path: Path, rows: pd.DataFrame) -> None:
    """All rows, atomically."""
    write_atomically(path, rows.to_csv(index=False, float_format="%.10g", lineterminator="\n"))


def of_suite(folder: str | Path, records: Iterable[Record]) -> pd.DataFrame:
    """What a suite's folder has of these runs, in the store or published (beside published weights, too).

    Rows whose protocol is not the record's any more are left out: `genfam-evaluate` may have measured that again.
    """
    place = Path(folder)
    files = [file for form in ("", "*/", "weights/*/") for file in sorted(place.glob(form + SAMPLING_COSTS))]
    found = [rows for file in files if len(rows := read(file))]
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat(found, ignore_index=True)
    known = {(r.run_id, m.name): m.fingerprint for r in records for m in r.metrics if m.estimate is not None}
    own = zip(rows["run_id"], rows["metric"], rows["fingerprint"], strict=True)
    rows = rows[[known.get((run, metric)) == fingerprint for run, metric, fingerprint in own]]
    order = ["source", "family", "seed", *SETTING, "metric"]
    return rows.drop_duplicates([*SETTING, "metric"]).sort_values(order, ignore_index=True)


def publish(store_dir: str | Path, target: str | Path) -> Path | None:
    """Copy the rows of a store's runs to `results/<suite>`, where those of reused runs stay as they were published.

    Returns:
        The file; None where there is no row (an old file of other runs is then removed).
    """
    store = Store(store_dir)
    records = store.current()
    reused = [record for record in records if store.reused(record.run_id)]
    parts = [of_suite(store.folder, records), of_suite(target, reused)]
    parts = [rows for rows in parts if len(rows)]
    path = Path(target) / SAMPLING_COSTS
    if not parts:
        path.unlink(missing_ok=True)
        return None
    write(path, pd.concat(parts, ignore_index=True).drop_duplicates([*SETTING, "metric"]))
    return path
