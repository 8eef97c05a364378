"""Weights that are published beside records: enough to sample from a suite's models without training them again."""

from __future__ import annotations

from pathlib import Path

import yaml
from safetensors.torch import save

from genfam.records import Store, publishable, role_of
from genfam.saved import load_run, sampling_weights
from genfam.serialisation import record_to_json, write_atomically
from genfam.types import Outcome

# No sample needs them, they tell a likelihood which cluster an event is in, and they are most of a small network: of
# MNIST's 10,000 test images 8 are told another by half precision.
COARSE = {"clusters.means"}


def publish_weights(store: str | Path, results: str | Path, seed: int) -> list[Path]:
    """Write `results/<suite>/weights/<run_id>` for each contestant's run with that seed that ended well.

    A folder holds the sampling weights, the configuration and the record, so that `genfam-sample run=<folder>` takes
    it like a run of the store. What is `COARSE` is written in half precision.

    Args:
        store: `outputs/<suite>`.
        results: `results`.
        seed: which run of each family and source; the same for all, so that none is picked.

    Raises:
        ValueError: no such run.
    """
    runs = Store(store)
    written = []
    for record in runs.current():
        if record.seed != seed or record.outcome is not Outcome.OK or role_of(record) != "contestant":
            continue
        family = load_run(runs.directory(record.run_id)).family
        target = Path(results, record.suite, "weights", record.run_id)
        target.mkdir(parents=True, exist_ok=True)
        kept = publishable(record)
        config = kept.config | {"data_dir": None, "output_dir": "outputs", "results_dir": "results"}
        write_atomically(target / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        write_atomically(target / "record.json", record_to_json(kept, indent=1))
        weights = sampling_weights(family)
        coarse = {name: weights[name].half() for name in COARSE & weights.keys()}
        write_atomically(target / "weights.safetensors", save(weights | coarse))
        written.append(target)
    if not written:
        raise ValueError(f"{runs.folder}: expected contestants' finished runs with seed {seed}, found none")
    return written
