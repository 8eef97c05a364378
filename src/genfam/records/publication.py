"""What of a store is published: records without machine paths, the report's files, and where it all came from."""

from __future__ import annotations

import datetime
import json
import math
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import genfam
from genfam.files import checked_name, write_atomically
from genfam.records import environment
from genfam.records.paths import strip_paths, without_paths
from genfam.records.store import Store, write_published
from genfam.types import CurvePoint, Outcome, Record

TABLES = ("scorecard", "comparisons", "metric_trial", "stability", "aggregate", "variance")  # CSV, beside the page
MORE_TABLES = (
    "scaling",
    "scaling_fits",
    "scaling_pairs",
    "scaling_crossings",
    "dimension",
    "corruption",
)  # likewise, where a suite has them
REPORT_FILES = (*(f"{name}.csv" for name in TABLES), "scorecard.md")
PUBLISHED_CURVE_POINTS = 64
PUBLISHED_REASON_LENGTH = 2000


def publish(store_dir: str | Path, results_dir: str | Path, command: str, *, allow_mixed: bool = False) -> Path:
    """Write `results_dir/<suite>`: records.jsonl.gz, provenance.json, and the report that stands in the store.

    The provenance has the test accuracy of each classifier that is in the store's `.cache` and measured a record.

    `genfam.report.publish` makes that report anew and then calls this; alone, this refuses a report that is missing
    or older than a record. Published records are without machine paths; reasons and curves are cut to
    `PUBLISHED_REASON_LENGTH` characters and `PUBLISHED_CURVE_POINTS` points per metric (the last one kept).

    Args:
        store_dir: `outputs/<suite>`.
        results_dir: `results`.
        command: what a reader types to get the same.
        allow_mixed: publish runs of several numerics digests; provenance.json lists them.

    Returns:
        The folder written.

    Raises:
        ValueError: the store is empty, holds unfinished runs, several suites or (unless `allow_mixed`) several digests
            of one family's code, or its report is missing or stale; the message names them.
    """
    store = Store(store_dir)
    records = store.current()
    check_publishable(store, records, allow_mixed=allow_mixed)
    files = [store.folder / name for name in REPORT_FILES]
    files += [path for name in MORE_TABLES if (path := store.folder / f"{name}.csv").exists()]
    newest = max(store.directory(record.run_id).joinpath("record.json").stat().st_mtime_ns for record in records)
    stale = [file.name for file in files if not file.exists() or file.stat().st_mtime_ns < newest]
    if stale:
        raise ValueError(f"{store.folder}: expected a report newer than its records, got missing or older {stale}")
    target = Path(results_dir) / records[0].suite
    origin = target / "provenance.json"
    known = json.loads(origin.read_text(encoding="utf-8")).get("classifiers", {}) if origin.exists() else {}
    from genfam.metrics.extractors import PUBLISHED, stored_accuracies  # imports torch, which a report does not need

    accuracies = known | stored_accuracies(PUBLISHED) | stored_accuracies(store.folder.parent / ".cache")
    facts = provenance(records, command) | {"classifiers": used_by(records, accuracies)}
    write_published(target, map(publishable, records))
    figures = sorted((store.folder / "figures").glob("*.png"))
    for old in (target / "figures").glob("*.png"):
        # a picture of samples cannot be made again from a record alone
        if not any(store.reused(record.run_id) for record in records):
            old.unlink()
    for name in MORE_TABLES:
        (target / f"{name}.csv").unlink(missing_ok=True)
    for file in files + figures:
        destination = target / file.relative_to(store.folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, destination)
    write_atomically(origin, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return target


def used_by(records: Iterable[Record], accuracies: Mapping[str, float]) -> dict[str, float]:
    """Of classifiers' test accuracies by fingerprint, those by which these records were measured."""
    used = {measurement.protocol.get("extractor", "") for record in records for measurement in record.metrics}
    return {fingerprint: accuracy for fingerprint, accuracy in accuracies.items() if fingerprint in used}


def check_publishable(store: Store, records: list[Record], *, allow_mixed: bool = False) -> None:
    """Raise ValueError, naming the runs or digests, unless `publish` may go on."""
    if not records:
        raise ValueError(f"{store.folder}: expected finished runs, got an empty store")
    if all(record.is_guest for record in records) and {record.suite for record in records} != {"guests"}:
        raise ValueError(f"{store.folder}: expected runs of the suite beside its guests, got guests alone")
    unfinished = store.unfinished()
    if unfinished:
        raise ValueError(f"{store.folder}: expected finished runs only, got {len(unfinished)}: {', '.join(unfinished)}")
    suites = sorted({record.suite for record in records})
    if len(suites) > 1:
        raise ValueError(f"{store.folder}: expected the runs of one suite, got {suites}")
    checked_name(suites[0], f"{store.folder}, suite")
    mixed = mixed_digests(records)
    if mixed and not allow_mixed:
        raise ValueError(f"{store.folder}: expected one numerics digest a family (or allow_mixed=True), got {mixed}")


def mixed_digests(records: Iterable[Record]) -> str:
    """What several states of the code made, in words: a family's runs on a source, or what measures all on a source."""
    digests: dict[tuple[str, str], Counter[str]] = {}
    for record in records:
        digests.setdefault((record.task, record.family), Counter())[record.digest] += 1
        if record.measured_by:  # not in records from before this was kept
            digests.setdefault((record.task, "what measures all"), Counter())[record.measured_by] += 1
    return "; ".join(
        f"{what} on {source}: " + ", ".join(f"{digest} ({count} runs)" for digest, count in sorted(found.items()))
        for (source, what), found in sorted(digests.items())
        if len(found) > 1
    )


def publishable(record: Record) -> Record:
    """The record without machine paths, its reason and curve kept short."""
    by_metric: dict[str, list[CurvePoint]] = {}
    for point in record.curve:
        by_metric.setdefault(point.metric, []).append(point)
    curve = [point for points in by_metric.values() for point in _thin(points, PUBLISHED_CURVE_POINTS)]
    reason = strip_paths(record.reason)
    if len(reason) > PUBLISHED_REASON_LENGTH:
        reason = reason[: PUBLISHED_REASON_LENGTH - 1] + "…"
    metrics = [replace(m, reason=strip_paths(m.reason)[:PUBLISHED_REASON_LENGTH]) for m in record.metrics]
    return replace(record, reason=reason, curve=curve, metrics=metrics, config=without_paths(record.config))


def provenance(records: list[Record], command: str) -> dict[str, Any]:
    """Where numbers came from: command, commit, machine (this one), date, versions, seeds, outcomes, seconds."""
    commit, dirty = git_state()
    outcomes = Counter(record.outcome.value for record in records)
    return {
        "command": strip_paths(command),
        "commit": commit,
        "dirty": dirty,
        "digests": {
            f"{task}/{family}": sorted({r.digest for r in records if (r.task, r.family) == (task, family)})
            for task, family in sorted({(r.task, r.family) for r in records})
        },
        "code_versions": sorted({record.code_version for record in records}),
        "machine": machine(),
        "devices": sorted({f"{record.device}, {record.threads} threads" for record in records}),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "genfam": metadata.version("genfam"),
        "packages": {
            name: sorted({r.package_versions[name] for r in records if name in r.package_versions})
            for name in sorted({name for record in records for name in record.package_versions})
        },
        "suite": records[0].suite if records else "",
        "seeds": sorted({record.seed for record in records}),
        "runs": {outcome.value: outcomes[outcome.value] for outcome in Outcome},
        "train_seconds": math.fsum(record.train_seconds for record in records),
    }


def machine() -> dict[str, Any]:
    """Processor model, its logical cores that this process may use, memory in bytes, system."""
    memory = psutil.virtual_memory().total
    return {
        "cpu": environment.processor(), "cores": environment.cores(), "memory": memory, "system": platform.system()
    }  # fmt: skip


def git_state(package: Path | None = None) -> tuple[str | None, bool | None]:
    """(commit, whether code or configuration differ from it); (None, None) outside genfam's own checkout."""
    package = package or Path(genfam.__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel"))
        if (top / "src" / "genfam").resolve() != package:
            return None, None  # installed somewhere below another project's checkout
        commit = git("rev-parse", "--verify", "HEAD")
        code = [f":(top){name}" for name in ("src", "conf", "pyproject.toml", "requirements.lock")]
        return commit, bool(git("status", "--porcelain", "--", *code))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _thin(points: list[CurvePoint], most: int) -> list[CurvePoint]:
    if len(points) <= most:
        return points
    return [points[(index * (len(points) - 1)) // (most - 1)] for index in range(most)]
