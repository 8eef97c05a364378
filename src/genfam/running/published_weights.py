"""Weights that are published beside records: enough to sample from a suite's models without training them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from genfam.files import checked_name, write_atomically
from genfam.records.store import Store
from genfam.running.handover import portable
from genfam.running.saved import load_run
from genfam.types import Outcome


def publish_weights(store: str | Path, results: str | Path, seed: int, *, plugins: Sequence[str] = ()) -> list[Path]:
    """Write what `weights_of` found; returns the folders."""
    return write_weights(weights_of(store, results, seed, plugins=plugins))


def weights_of(
    store: str | Path, results: str | Path, seed: int, *, plugins: Sequence[str] = ()
) -> dict[Path, dict[str, str | bytes]]:
    """Folder `results/<suite>/weights/<run_id>` -> its files, for each contestant's run with that seed that ended well.

    A folder holds the sampling weights, the configuration and the record, so that `genfam-sample run=<folder>` takes
    it like a run of the store.

    Args:
        store: `outputs/<suite>`.
        results: `results`.
        seed: which run of each family and source; the same for all, so that none is picked.
        plugins: packages beside genfam that the user named.

    Raises:
        ValueError: no such run.
    """
    runs = Store(store)
    found: dict[Path, dict[str, str | bytes]] = {}
    for record in runs.current():
        if record.seed != seed or record.outcome is not Outcome.OK or record.role != "contestant":
            continue
        family = load_run(runs.directory(record.run_id), plugins=plugins).family
        suite, name = checked_name(record.suite, "suite"), checked_name(record.run_id, "run_id", 250)
        found[Path(results, suite, "weights", name)] = portable(record, family)
    if not found:
        raise ValueError(f"{runs.folder}: expected contestants' finished runs with seed {seed}, found none")
    return found


def write_weights(found: Mapping[Path, Mapping[str, str | bytes]]) -> list[Path]:
    """Write the files; returns the folders."""
    for folder, files in found.items():
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    return list(found)
