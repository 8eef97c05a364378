"""Samples from elsewhere, measured as a trained family's are, and kept as a run that trained nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from genfam.build import ConfigurationError, configuration_folder
from genfam.families.base import Family
from genfam.files import checked_name, refuse_links, sha256, write_atomically
from genfam.metrics.base import Evaluation
from genfam.records.run import Run
from genfam.records.store import finished_record, owned, write_record
from genfam.running.evaluation import Report, evaluate, evaluation_of
from genfam.running.experiment import born
from genfam.running.guest_files import contents_of
from genfam.running.kept_samples import save_samples
from genfam.running.parts import make_extractor, make_family, make_metrics, make_source
from genfam.running.saved import WEIGHTS, save_model
from genfam.sources.base import Source
from genfam.types import Kind, Outcome, Record, fingerprint

ROLE = "guest"
NO_LIKELIHOOD = "samples alone have no likelihood: that takes the model"


def guests_of(run: Run, name: str, files: Sequence[Tensor], seed: int, compute: float | None) -> list[Run]:
    """The settings of a guest's runs: those of `run` but for the family, one seed per file from `seed` on.

    Args:
        run: of another family on the source, such as the oracle.
        name: of the guest.
        files: (N, *event) each.
        seed: of the first.
        compute: training FLOPs, where they are stated.

    Raises:
        ConfigurationError: a name that a family has, too few samples, or two files that hold the same.
    """
    try:
        checked_name(name, "name")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if (configuration_folder() / "family" / f"{name}.yaml").exists():
        raise ConfigurationError(f"name: expected one that no family has, got {name}")
    for path in ("init", "corruption", "condition"):
        part = getattr(run, path)
        if part is not None and part["name"] != "nothing":
            raise ConfigurationError(
                f"{path}: expected none, for nobody knows what samples were drawn from: {part['name']}"
            )
    least = run.evaluation.samples
    for number, events in enumerate(files, start=1):
        if len(events) < least:
            of = f" in file {number} of {len(files)}" if len(files) > 1 else ""
            raise ConfigurationError(
                f"samples: expected at least {least}, as many as any run on {run.source['name']} draws, got "
                f"{len(events)}{of}; evaluation.samples={len(events)} measures by fewer, beside no published numbers"
            )
    contents = [contents_of(events) for events in files]
    if len(set(contents)) < len(contents):
        raise ConfigurationError(
            "samples: expected other samples in every file, got the same in two: one is no second seed"
        )
    node = {"name": name, "_target_": "genfam.families.guest.Guest", "role": ROLE, "compute": compute}
    changes = {"logger": "none", "budget": run.budget}
    return [
        run.model_copy(update=changes | {"family": node | {"contents": own}, "seed": seed + place})
        for place, own in enumerate(contents)
    ]


def check_beside(runs: Sequence[Run], theirs: Sequence[Record], *, alone: bool = False) -> None:
    """Look whether guests can stand beside a suite's records.

    Args:
        runs: as `guests_of` gives them.
        theirs: records of the suite.
        alone: whether it needs no run on the source.

    Raises:
        ConfigurationError: the suite has no run on the source, or the name is a family's, or that of other samples.
    """
    first = runs[0]
    name, task = first.family["name"], first.data_name
    if not alone and not any(record.task == task and not record.is_guest for record in theirs):
        there = ", ".join(sorted({record.task for record in theirs}))
        raise ConfigurationError(f"suite={first.suite}: expected runs on {task}, got some on {there}")
    own = {run.family["contents"] for run in runs}
    for record in theirs:
        if record.family != name:
            continue
        if record.role != ROLE:
            raise ConfigurationError(f"name: expected one that no family of suite {first.suite} has, got {name}")
        if record.task == task and record.config["family"]["contents"] not in own:
            raise ConfigurationError(
                f"name: {name} has other samples on {task} in suite {first.suite} already: take another name, or "
                f"delete {first.directory.parent / record.run_id}"
            )


def judge(
    runs: Sequence[Run], files: Sequence[Tensor], theirs: Sequence[Record] = (), progress: Report | None = None
) -> list[Record]:
    """Measure guests by the metrics, on the reference, in the feature space of their settings, and keep them.

    Args:
        runs: as `guests_of` gives them; those with a finished record are not measured again.
        files: (N, *event) of each.
        theirs: records that they will stand beside.
        progress: called with (share done, text).

    Raises:
        ConfigurationError: they would be measured otherwise than those records were: nothing is measured.
        ValueError: a metric was; nothing is kept.
    """
    first, report = runs[0], progress or (lambda share, text: None)
    torch.set_num_threads(first.threads)
    torch.set_flush_denormal(True)
    source = make_source(first)
    extractor, metrics = make_extractor(first, source), make_metrics(first)
    measured: list[tuple[Run, Record, Family, Evaluation]] = []
    there: list[Record] = []
    for place, (run, events) in enumerate(zip(runs, files, strict=True)):
        refuse_links(run.directory)
        if (found := finished_record(run.directory)) is not None:
            there.append(found)
            continue
        family = make_family(run, source, {})
        family.events = events
        family.to(run.device)
        looked = evaluation_of(run.seed, family, source, extractor, events[: run.evaluation.samples], None)
        _same_protocol(run, looked.protocol(), theirs)
        record = _born(run, family, source)

        def status(share: float, text: str, place: int = place) -> None:
            report((place + share) / len(runs), f"file {place + 1} of {len(runs)} · {text}")

        evaluation = evaluate(record, family, source, extractor, metrics, run.evaluation.samples, status)
        record.seconds_per_sample = 0.0  # of taking them from a file
        record.metrics = [replace(m, reason=NO_LIKELIHOOD) if m.kind is Kind.LIKELIHOOD and not m.estimate else m
                          for m in record.metrics]  # fmt: skip
        _same_fingerprints(record, theirs)
        measured.append((run, record, family, evaluation))
    for run, record, family, evaluation in measured:
        with owned(run.directory, run.id):
            _keep(run, record, family, evaluation)
    report(1.0, "measured")
    return sorted([*there, *(record for _, record, _, _ in measured)], key=lambda record: record.seed)


def _born(run: Run, family: Family, source: Source) -> Record:
    record = born(run, family, source)
    compute = run.family["compute"]
    record.marks = [ROLE, "compute not stated" if compute is None else f"{compute:.3g} training FLOPs stated"]
    record.train_flops = compute or 0.0
    record.outcome = Outcome.OK
    return record


def _keep(run: Run, record: Record, family: Family, evaluation: Evaluation) -> None:
    """Write all that a run leaves, the record last."""
    directory: Path = run.directory
    write_atomically(directory / "config.yaml", yaml.safe_dump(run.config, sort_keys=False))
    source = evaluation.data
    assert isinstance(source, Source)
    save_model(directory, run, family, source)
    save_samples(directory / "samples.npz", evaluation)
    record.files = {name: sha256(directory / name) for name in (WEIGHTS, "samples.npz")}
    write_record(directory, record)


def _same_protocol(run: Run, own: dict[str, str], theirs: Sequence[Record]) -> None:
    """What every metric on features shares (source, samples, reference, extractor) is that of the suite."""
    for record in theirs:
        for m in record.metrics:
            if record.task == run.data_name and m.kind is Kind.HEADLINE and m.estimate:
                shared = {key: m.protocol.get(key, "") for key in own}
                if shared != own:
                    differ = [
                        f"{key}: {shared[key] or 'nothing'}, here {own[key]}" for key in own if own[key] != shared[key]
                    ]
                    raise ConfigurationError(
                        f"suite={run.suite}: expected to measure as its runs on {run.data_name} were, got others: "
                        + "; ".join(differ)
                    )


def _same_fingerprints(record: Record, theirs: Sequence[Record]) -> None:
    known = {
        m.name: m.protocol
        for other in theirs
        if other.task == record.task and other.outcome is Outcome.OK
        for m in other.metrics
        if m.estimate is not None
    }
    for m in record.metrics:
        if m.estimate is not None and m.name in known and fingerprint(known[m.name]) != m.fingerprint:
            raise ValueError(
                f"{m.name} on {record.task}: expected {fingerprint(known[m.name])}, as suite {record.suite} has it, "
                f"got {m.fingerprint}: its runs were measured by another version of the metric"
            )
