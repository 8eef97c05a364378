"""The result store: one folder per run, whole records, and the published ones.

`outputs/<suite>/<run_id>/record.json` is the store on this machine, `results/<suite>/records.jsonl.gz` what was
published from it. Both load into the same records.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from genfam.build import ConfigurationError
from genfam.files import checked_name, set_aside, write_atomically
from genfam.records.serialisation import record_from_json, record_to_json
from genfam.types import RECORD_SCHEMA, Outcome, Record

RECORD = "record.json"
PUBLISHED = "records.jsonl.gz"  # one record a line; pandas reads it as it is
PATIENCE = 8.0  # seconds
REUSED = "reused.txt"  # beside a record that was copied from what is published: says from where


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
        return self.folder / checked_name(run_id, "run_id", 250)

    def write(self, record: Record) -> Path:
        """Write `<run_id>/record.json` atomically and return its path; see `write_record`."""
        return write_record(self.directory(record.run_id), record)

    def reused(self, run_id: str) -> bool:
        """Whether the record was copied from what is published (`genfam.records.reuse`)."""
        return (self.directory(run_id) / REUSED).exists()

    def load(self) -> list[Record]:
        """Every record, ordered by source, family, seed; a broken file is named in a warning and left out."""
        return in_order(record for _, record in self._read())

    def current(self) -> list[Record]:
        """As `load`, but the newest record only where a cell (source, family, seed, budget, …) has several.

        A changed configuration gives a run a new id, and the old run stays in the store; counting both would
        give one seed two votes. What is left out is named in a warning.
        """
        newest: dict[tuple[object, ...], Record] = {}
        superseded = []
        for _, record in sorted(self._read(), key=lambda pair: (pair[0].stat().st_mtime_ns, pair[1].run_id)):
            cell = (*cell_of(record), record.seed, record.learning_rate_factor, budget_of(record))
            if cell in newest:
                superseded.append(newest[cell].run_id)
            newest[cell] = record
        if superseded:
            warnings.warn(
                f"{self.folder}: left out {len(superseded)} runs that a newer run of the same source, family and "
                f"seed supersedes: {', '.join(sorted(superseded))}",
                stacklevel=2,
            )
        return in_order(newest.values())

    def unfinished(self) -> list[str]:
        """Runs to be run again: failed, interrupted, broken, or cut off."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken records are named in the answer
            read = {path: record for path, record in self._read()}
        found = [f"{record.run_id} ({record.outcome.value})" for record in read.values() if not record.outcome.finished]
        found += [f"{p.parent.name} (broken record)" for p in self.folder.glob(f"*/{RECORD}") if p not in read]
        begun = ("config.yaml", "checkpoint.pt")
        cut_off = {path.parent for name in begun for path in self.folder.glob(f"*/{name}")}
        found += [f"{path.name} (cut off)" for path in cut_off if not (path / RECORD).exists()]
        return sorted(found)

    def _read(self) -> Iterator[tuple[Path, Record]]:
        for path in sorted(self.folder.glob(f"*/{RECORD}")):
            try:
                record = record_from_json(path.read_text(encoding="utf-8"))
                if record.run_id != path.parent.name:
                    raise ValueError(f"expected run_id {path.parent.name!r} (its folder's name), got {record.run_id!r}")
            except (OSError, ValueError) as error:
                warnings.warn(f"left out a broken record, {path}: {error}", stacklevel=3)
                continue
            yield path, record


def cell_of(record: Record) -> tuple[str, str, str, str]:
    """What a record's seeds repeat: suite, source, family, condition."""
    return record.suite, record.source, record.family, record.condition


def budget_of(record: Record) -> float:
    """The training FLOPs that a run was given, of which it spends whole updates; 0 where its settings do not say."""
    budget = record.config.get("budget")
    flops = budget.get("train_flops") if isinstance(budget, dict) else None
    return float(flops) if isinstance(flops, int | float) else 0.0


class Owned(ConfigurationError):
    """Another process is at work in a run's folder."""


@contextmanager
def owned(directory: Path, what: str) -> Iterator[None]:
    """Be the only process that works on a run, once one whose launcher was killed has had time to end.

    Raises:
        Owned: another one does; the message names it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / ".run.lock")
    note = directory / ".owner.txt"
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        whose = note.read_text(encoding="utf-8", errors="replace") if note.exists() else "another process"
        raise Owned(f"run {what}: {whose.strip()} is at work on it in {directory}; wait for it, or stop it") from None
    try:
        write_atomically(note, f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()
        if {path.name for path in directory.iterdir()} <= {".run.lock", ".record.lock"}:  # it was refused
            shutil.rmtree(directory)
            with suppress(OSError):  # and the suite's folder, where it held nothing else
                directory.parent.rmdir()


def at_work(directory: Path) -> bool:
    """Whether some process works on the run there."""
    if not (directory / ".run.lock").exists():
        return False
    lock = FileLock(directory / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def check_version(directory: Path) -> None:
    """Raise ConfigurationError where a later version wrote the record there, which knows more than this one."""
    try:
        schema = json.loads((directory / RECORD).read_text(encoding="utf-8")).get("schema")
    except (OSError, ValueError, AttributeError, RecursionError):
        return
    if isinstance(schema, int) and schema > RECORD_SCHEMA:
        raise ConfigurationError(
            f"{directory / RECORD}: expected a record of schema {RECORD_SCHEMA}, got {schema}: a later version of "
            "genfam wrote it; use that one, or another output_dir"
        )


def write_record(directory: Path, record: Record) -> Path:
    """Write a record atomically and return its path; a finished one is never replaced by a lesser one."""
    path = directory / RECORD
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / ".record.lock"):
        known = read_record(directory)
        if known is None and path.exists():
            kept = set_aside(path)
            warnings.warn(f"{path} could not be read and is kept as {kept.name}", stacklevel=2)
        lesser = known is not None and known.outcome.finished and record.outcome not in (known.outcome, Outcome.OK)
        if not lesser:
            write_atomically(path, record_to_json(record, indent=1) + "\n")
    return path


def read_record(directory: Path) -> Record | None:
    """The record there, or None where there is none that can be read."""
    try:
        return record_from_json((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def finished_record(directory: Path) -> Record | None:
    """The record there if the run needs no repetition, else None."""
    record = read_record(directory)
    return record if record is not None and record.outcome.finished else None


def ended_well(directory: Path) -> Record:
    """The record there.

    Raises:
        FileNotFoundError: none that can be read, or of a run that did not end well.
    """
    record = read_record(directory)
    if record is None:
        raise FileNotFoundError(f"{directory}: expected a run with a readable {RECORD}, found none")
    if record.outcome is not Outcome.OK:
        raise FileNotFoundError(f"{directory}: expected a run that ended well, its outcome is {record.outcome.value}")
    return record


def load_published(folder: str | Path) -> list[Record]:
    """The records of `results/<suite>/records.jsonl.gz`.

    Raises:
        FileNotFoundError: nothing is published there.
        ValueError: the file is damaged, or a line is not a record; the message names file and line.
    """
    path = Path(folder) / PUBLISHED
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected records as gzip, got a damaged file: {error}") from error
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(record_from_json(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return records


def write_published(folder: str | Path, records: Iterable[Record]) -> Path:
    """The inverse of `load_published`; the same records make the same bytes."""
    path = Path(folder) / PUBLISHED
    lines = "".join(f"{record_to_json(record)}\n" for record in records)
    write_atomically(path, gzip.compress(lines.encode("utf-8"), mtime=0))
    return path


def beside_published(records: list[Record], published: str | Path) -> list[Record]:
    """A store's records; where they are guests alone, the published runs come before them.

    Args:
        records: of a suite's store.
        published: `results/<suite>`; need not exist.

    Raises:
        ValueError: as `load_published`.
    """
    if not all(record.is_guest for record in records) or not (Path(published) / PUBLISHED).exists():
        return records
    theirs = load_published(published)
    return records if all(record.is_guest for record in theirs) else [*theirs, *records]


def as_tuned(records: Iterable[Record]) -> list[Record]:
    """What a scorecard compares: the runs at their tuned learning rate, and at the largest budget of their cell.

    The others speak of stability, and of scaling, only.
    """
    return [record for record in at_largest_budget(records) if record.learning_rate_factor == 1.0]


def at_largest_budget(records: Iterable[Record]) -> list[Record]:
    """Of every cell the runs at its largest budget: one seed has one vote, at whatever budgets it was run."""
    records = list(records)
    largest: dict[tuple[str, ...], float] = {}
    for record in records:
        largest[cell_of(record)] = max(budget_of(record), largest.get(cell_of(record), 0.0))
    return [record for record in records if budget_of(record) == largest[cell_of(record)]]


def in_order(records: Iterable[Record]) -> list[Record]:
    """By suite, source, family, condition, seed."""
    return sorted(records, key=lambda r: (*cell_of(r), r.seed, r.run_id))
