"""The result store: one folder per run, atomic records, and what of them is published.

`outputs/<suite>/<run_id>/record.json` is the store on this machine, `results/<suite>/records.jsonl` what was
published from it. Both load into the same records, and records into one DataFrame with a row per measurement.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import re
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from genfam import environment
from genfam.metrics.extractors import stored_accuracies
from genfam.serialisation import record_from_json, record_to_json, write_atomically
from genfam.types import CurvePoint, Outcome, Record, Status

ROLES = ("contestant", "oracle", "floor")
FRAME_COLUMNS = (
    "suite", "source", "family", "seed", "run_id", "outcome", "metric", "unit", "higher_is_better", "value", "stderr",
    "draw_stderr", "n", "fingerprint", "status", "reason", "role", "likelihood",
)  # fmt: skip

# What a run cost: field of the record, unit, whether higher is better (None: the budget sets it, so it is no
# contest), and whether it depends on the machine.
COSTS: tuple[tuple[str, str, bool | None, bool], ...] = (
    ("parameters", "1", None, False),
    ("trained_parameters", "1", None, False),
    ("train_flops", "FLOP", None, False),
    ("train_seconds", "s", False, True),
    ("evaluate_seconds", "s", False, True),
    ("peak_memory", "bytes", False, True),
    ("evaluations_per_sample", "1", False, False),
    ("seconds_per_sample", "s", False, True),
)
TABLES = ("scorecard", "comparisons", "metric_trial", "stability", "aggregate", "variance")  # CSV, beside the page
REPORT_FILES = (*(f"{name}.csv" for name in TABLES), "scorecard.md")
REUSED = "reused.txt"  # beside a record that was copied from what is published: says from where
FIGURES = ("*.png", "*.svg")
PUBLISHED_CURVE_POINTS = 64
PUBLISHED_REASON_LENGTH = 2000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]*")
_ABSOLUTE_PATH = re.compile(r"""(?<![\w:/.~<>-])(?:/|~/|[A-Za-z]:\\)(?:[^\s/\\:'"<>|,;()\[\]{}]+[/\\])+""")


class Store:
    """The runs of one suite on this machine: a folder per run, named by its id.

    Args:
        folder: `outputs/<suite>`; need not exist yet.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def directory(self, run_id: str) -> Path:
        """The folder of a run (not created).

        Raises:
            ValueError: the id could name something outside the store.
        """
        if not _NAME.fullmatch(run_id):
            raise ValueError(f"run_id: expected letters, digits and ._+=,- that begin with no dot, got {run_id!r}")
        return self.folder / run_id

    def write(self, record: Record) -> Path:
        """Write `<run_id>/record.json` atomically and return its path."""
        path = self.directory(record.run_id) / "record.json"
        write_atomically(path, record_to_json(record, indent=1) + "\n")
        return path

    def reused(self, run_id: str) -> bool:
        """Whether the record was copied from what is published (`genfam.reuse`)."""
        return (self.directory(run_id) / REUSED).exists()

    def load(self) -> list[Record]:
        """Every record, ordered by source, family, seed; a broken file is named in a warning and left out."""
        return _in_order(record for _, record in self._read())

    def current(self) -> list[Record]:
        """As `load`, but the newest record only where a (source, family, seed, learning rate) cell has several.

        A changed configuration gives a run a new id, and the old run stays in the store; counting both would
        give one seed two votes. What is left out is named in a warning.
        """
        newest: dict[tuple[str, str, str, int, float], tuple[Path, Record]] = {}
        superseded = []
        for path, record in sorted(self._read(), key=lambda pair: (pair[0].stat().st_mtime_ns, pair[1].run_id)):
            cell = (record.suite, record.source, record.family, record.seed, learning_rate_factor(record))
            if cell in newest:
                superseded.append(newest[cell][1].run_id)
            newest[cell] = (path, record)
        if superseded:
            warnings.warn(
                f"{self.folder}: left out {len(superseded)} runs that a newer run of the same source, family and "
                f"seed supersedes: {', '.join(sorted(superseded))}",
                stacklevel=2,
            )
        return _in_order(record for _, record in newest.values())

    def unfinished(self) -> list[str]:
        """Runs to be run again: failed, interrupted, broken, or cut off (a configuration or checkpoint, no record)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken records are named in the answer
            read = {path: record for path, record in self._read()}
        found = [f"{record.run_id} ({record.outcome.value})" for record in read.values() if not record.outcome.finished]
        found += [f"{p.parent.name} (broken record)" for p in self.folder.glob("*/record.json") if p not in read]
        begun = ("config.yaml", "checkpoint.pt")
        cut_off = {path.parent for name in begun for path in self.folder.glob(f"*/{name}")}
        found += [f"{path.name} (cut off)" for path in cut_off if not (path / "record.json").exists()]
        return sorted(found)

    def _read(self) -> Iterator[tuple[Path, Record]]:
        for path in sorted(self.folder.glob("*/record.json")):
            try:
                record = record_from_json(path.read_text(encoding="utf-8"))
                if record.run_id != path.parent.name:
                    raise ValueError(f"expected run_id {path.parent.name!r} (its folder's name), got {record.run_id!r}")
            except (OSError, ValueError) as error:
                warnings.warn(f"left out a broken record, {path}: {error}", stacklevel=3)
                continue
            yield path, record


def load_published(folder: str | Path) -> list[Record]:
    """The records of `results/<suite>/records.jsonl`.

    Raises:
        FileNotFoundError: nothing is published there.
        ValueError: a line is not a record; the message names file and line.
    """
    path = Path(folder) / "records.jsonl"
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            try:
                records.append(record_from_json(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return records


def role_of(record: Record) -> str:
    """`contestant`, or what kind of yardstick the family's YAML says it is: `oracle` or `floor`.

    Raises:
        ValueError: the configuration gives another role.
    """
    family = record.config.get("family")
    role = family.get("role", "contestant") if isinstance(family, Mapping) else "contestant"
    if role not in ROLES:
        raise ValueError(f"run {record.run_id}: expected role to be one of {ROLES}, got {role!r}")
    return str(role)


def learning_rate_factor(record: Record) -> float:
    """What the run's learning rates were multiplied by: 1 as tuned, else a probe of sensitivity."""
    return float(record.config.get("learning_rate_factor", 1.0))


def as_tuned(records: Iterable[Record]) -> list[Record]:
    """The runs at their tuned learning rate: what a scorecard compares. The others speak of stability only."""
    return [record for record in records if learning_rate_factor(record) == 1.0]


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per measurement, costs and stability included (columns: `FRAME_COLUMNS`).

    Every record gives at least its costs, so a run that diverged before it was measured still counts. The first
    part of a fingerprint tells `cost` and `stability` from quality; costs that depend on the machine carry device
    and threads there. Stability entries become `stability_<key>`, lower is better.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        common = {
            "suite": record.suite, "source": record.source, "family": record.family, "seed": record.seed,
            "run_id": record.run_id, "outcome": record.outcome.value, "role": role_of(record),
            "likelihood": str(record.likelihood),
        }  # fmt: skip

        def add(
            metric: str, unit: str, direction: bool | None, value: float, fingerprint: str,
            stderr: float | None = None, draw_stderr: float | None = None, n: int = 1,
            status: str = Status.OK.value, reason: str = "",
            common: dict[str, Any] = common,
        ) -> None:  # fmt: skip
            rows.append(
                common
                | {"metric": metric, "unit": unit, "higher_is_better": direction, "value": float(value), "n": n}
                | {"stderr": math.nan if stderr is None else stderr, "fingerprint": fingerprint}
                | {"draw_stderr": math.nan if draw_stderr is None else draw_stderr}
                | {"status": status, "reason": reason}
            )

        for m in record.metrics:
            if m.estimate is None:
                add(
                    m.name, m.unit, m.higher_is_better, math.nan, m.fingerprint,
                    n=0, status=m.status.value, reason=m.reason,
                )  # fmt: skip
            else:
                e = m.estimate
                add(
                    m.name, m.unit, m.higher_is_better, e.value, m.fingerprint, e.stderr, e.draw_stderr, e.n,
                    m.status.value, m.reason,
                )  # fmt: skip
        for name, unit, direction, of_machine in COSTS:
            machine = record.device.removesuffix(environment.IN_BFLOAT16)  # precision is a family's setting
            fingerprint = f"cost|device={machine}|threads={record.threads}" if of_machine else "cost"
            add(name, unit, direction, getattr(record, name), fingerprint)
        for key, value in record.stability.items():
            add(f"stability_{key}", "1", False, value, "stability")
    frame = pd.DataFrame(rows, columns=list(FRAME_COLUMNS))
    # None must stay None: a column of True and None would otherwise be guessed at.
    frame["higher_is_better"] = pd.Series([row["higher_is_better"] for row in rows], dtype=object)
    return frame


def publish(store_dir: str | Path, results_dir: str | Path, command: str, *, allow_mixed: bool = False) -> Path:
    """Write `results_dir/<suite>`: records.jsonl, provenance.json, and the report that stands in the store.

    The provenance has the test accuracy of each classifier that is in the store's `.cache` and measured a record.

    `genfam.report.publish` makes that report anew and then calls this; alone, this refuses a report that is missing
    or older than a record. Published records are without machine paths; reasons and curves are cut to
    `PUBLISHED_REASON_LENGTH` characters and `PUBLISHED_CURVE_POINTS` points per metric (the last one kept).

    Args:
        store_dir: `outputs/<suite>`.
        results_dir: `results`.
        command: what a reader types to get the same.
        allow_mixed: publish runs of several code versions; provenance.json lists them.

    Returns:
        The folder written.

    Raises:
        ValueError: the store is empty, holds unfinished runs, several suites or (unless `allow_mixed`) several code
            versions, or its report is missing or stale; the message names them.
    """
    store = Store(store_dir)
    records = store.current()
    check_publishable(store, records, allow_mixed=allow_mixed)
    files = [store.folder / name for name in REPORT_FILES]
    newest = max(store.directory(record.run_id).joinpath("record.json").stat().st_mtime_ns for record in records)
    stale = [file.name for file in files if not file.exists() or file.stat().st_mtime_ns < newest]
    if stale:
        raise ValueError(f"{store.folder}: expected a report newer than its records, got missing or older {stale}")
    target = Path(results_dir) / records[0].suite
    origin = target / "provenance.json"
    known = json.loads(origin.read_text(encoding="utf-8")).get("classifiers", {}) if origin.exists() else {}
    accuracies = known | stored_accuracies(store.folder.parent / ".cache")
    facts = provenance(records, command) | {"classifiers": used_by(records, accuracies)}
    lines = [record_to_json(publishable(record)) for record in records]
    write_atomically(target / "records.jsonl", "".join(f"{line}\n" for line in lines))
    figures = sorted((store.folder / "figures").glob("*.png"))  # `make report` draws the others from the records
    for old in [path for kind in FIGURES for path in (target / "figures").glob(kind)]:
        # a picture of samples cannot be made again from a record alone
        if not any(store.reused(record.run_id) for record in records):
            old.unlink()
    for file in files + figures:
        destination = target / file.relative_to(store.folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, destination)
    write_atomically(origin, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return target


def used_by(records: Iterable[Record], accuracies: Mapping[str, float]) -> dict[str, float]:
    """Of classifiers' test accuracies by fingerprint, those by which these records were measured."""
    used = "\n".join({measurement.fingerprint for record in records for measurement in record.metrics})
    return {fingerprint: accuracy for fingerprint, accuracy in accuracies.items() if fingerprint in used}


def check_publishable(store: Store, records: list[Record], *, allow_mixed: bool = False) -> None:
    """Raise ValueError, naming the runs or versions, unless `publish` may go on."""
    if not records:
        raise ValueError(f"{store.folder}: expected finished runs, got an empty store")
    unfinished = store.unfinished()
    if unfinished:
        raise ValueError(f"{store.folder}: expected finished runs only, got {len(unfinished)}: {', '.join(unfinished)}")
    suites = sorted({record.suite for record in records})
    if len(suites) > 1 or not _NAME.fullmatch(suites[0]):
        raise ValueError(f"{store.folder}: expected the runs of one suite with a plain name, got {suites}")
    versions = Counter(record.code_version for record in records)
    if len(versions) > 1 and not allow_mixed:
        listed = ", ".join(f"{version} ({count} runs)" for version, count in sorted(versions.items()))
        raise ValueError(f"{store.folder}: expected runs of one code version (or allow_mixed=True), got {listed}")


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


def strip_paths(text: str) -> str:
    """The home folder reduced to `~`, other absolute paths to `<path>/` and their last part; URLs are kept."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"(?<![\w./-]){re.escape(home)}(?![\w.-])", "~", text)
    return _ABSOLUTE_PATH.sub("<path>/", text)


def provenance(records: list[Record], command: str) -> dict[str, Any]:
    """Where numbers came from: command, commit, machine (this one), date, versions, seeds, outcomes, seconds."""
    commit, dirty = git_state()
    outcomes = Counter(record.outcome.value for record in records)
    return {
        "command": strip_paths(command),
        "commit": commit,
        "dirty": dirty,
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
    package = package or Path(__file__).resolve().parent

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


def _in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda r: (r.suite, r.source, r.family, r.seed, r.run_id))


def _thin(points: list[CurvePoint], most: int) -> list[CurvePoint]:
    if len(points) <= most:
        return points
    return [points[(index * (len(points) - 1)) // (most - 1)] for index in range(most)]


def without_paths(value: Any) -> Any:
    """`strip_paths` of every text in nested containers."""
    if isinstance(value, str):
        return strip_paths(value)
    if isinstance(value, Mapping):
        return {key: without_paths(entry) for key, entry in value.items()}
    return [without_paths(entry) for entry in value] if isinstance(value, list | tuple) else value
