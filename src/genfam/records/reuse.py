"""Published records as finished runs (`reuse_published=true`): a suite may go on where another machine or suite ended.

What is reused is copied into the store, so that the report sees it. Weights and samples are not published: a reused
run can be counted, not sampled.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from genfam.files import write_atomically
from genfam.records.paths import without_paths
from genfam.records.run import Run
from genfam.records.store import PUBLISHED, REUSED, Store, load_published
from genfam.types import Record


def reuse(run: Run) -> Record | None:
    """Copy the published record of this very run into the store.

    Returns:
        The record, as one of the run's suite; None where `reuse_published` is false or no suite has such a run.

    Raises:
        ValueError: the published record's configuration is not the one that its `run_id` stands for.
    """
    if not run.reuse_published:
        return None
    own = run.results_dir / run.suite / PUBLISHED
    for path in [own, *sorted(run.results_dir.glob(f"*/{PUBLISHED}"))]:
        try:
            record = _published(path, path.stat().st_mtime_ns).get(run.id) if path.exists() else None
        except ValueError:
            if path == own:
                raise
            continue  # another suite's file that cannot be read is no matter here
        if record is not None:
            return _copied(run, replace(record, suite=run.suite), path)
    return None


def _copied(run: Run, record: Record, path: Path) -> Record:
    # The paths of a published record are shortened, so hashing its configuration need not give its id.
    there = Run.of(record.config).model_copy(update={"plugins": run.plugins, "data_dir": run.data_dir})
    asked, found = _settings(run), _settings(there)
    if asked != found:
        differ = sorted(key for key in asked.keys() | found.keys() if asked.get(key) != found.get(key))
        raise ValueError(
            f"{path}, run {run.id}: expected the configuration that its run_id was made from, got another "
            f"(they differ in {', '.join(differ)}): the file was edited; reuse_published=false runs it again"
        )
    written = Store(run.output_dir / run.suite).write(record)
    write_atomically(written.with_name(REUSED), f"{path}\n")
    return record


def _settings(run: Run) -> dict[str, Any]:
    """Its identity without paths, and without the contents of files: the id holds them, and they need not lie here."""
    found: dict[str, Any] = without_paths(run.identity)
    source = {key: value for key, value in found["source"].items() if key != "contents"}
    return found | {"source": source}


@lru_cache(maxsize=64)
def _published(path: Path, changed: int) -> dict[str, Record]:
    """Finished records by run_id; `changed` makes a file that was written anew be read anew."""
    return {record.run_id: record for record in load_published(path.parent) if record.outcome.finished}
