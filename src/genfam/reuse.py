"""Published records as finished runs (`reuse_published=true`): a suite may go on where another machine ended.

What is reused is copied into the store, so that the report sees it. Weights and samples are not published: a reused
run can be counted, not sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from genfam.records import REUSED, Store, load_published, without_paths
from genfam.run_folder import identity, run_id
from genfam.serialisation import write_atomically
from genfam.types import Record


def reuse(config: Mapping[str, Any]) -> Record | None:
    """Copy the published record of this very run into the store.

    Args:
        config: resolved; its hash, not a name, says which run it is.

    Returns:
        The record; None where `reuse_published` is false or `results/<suite>` has no such run.

    Raises:
        ValueError: the published record's configuration is not the one that its `run_id` stands for.
    """
    if not config.get("reuse_published", False):
        return None
    path = Path(config["results_dir"], config["suite"], "records.jsonl")
    wanted = run_id(config)
    record = _published(path, path.stat().st_mtime_ns).get(wanted) if path.exists() else None
    if record is None:
        return None
    # The paths of a published record are shortened, so hashing its configuration need not give its id.
    asked, found = without_paths(identity(config)), without_paths(identity(record.config))
    if asked != found:
        differ = sorted(key for key in asked.keys() | found.keys() if asked.get(key) != found.get(key))
        raise ValueError(
            f"{path}, run {wanted}: expected the configuration that its run_id was made from, got another "
            f"(they differ in {', '.join(differ)}): the file was edited; reuse_published=false runs it again"
        )
    written = Store(Path(config["output_dir"], config["suite"])).write(record)
    write_atomically(written.with_name(REUSED), f"{path}\n")
    return record


@lru_cache(maxsize=4)
def _published(path: Path, changed: int) -> dict[str, Record]:
    """Finished records by run_id; `changed` makes a file that was written anew be read anew."""
    return {record.run_id: record for record in load_published(path.parent) if record.outcome.finished}
