"""Which run a configuration is, and the record in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfam import environment
from genfam.serialisation import record_from_json
from genfam.types import Outcome, Record

# What cannot change a run's numbers is no part of its identity.
NOT_IDENTITY = (
    "output_dir", "results_dir", "data_dir", "wandb", "logger", "suite", "plugins", "judge", "reuse_published",
)  # fmt: skip
# Keys that came after the first published runs: at these values a run keeps the id that it had without them.
UNSAID: dict[str, Any] = {
    "split": "test",
    "precision": "float32",
    "family.clusters": 0,
    "family.guidance": 1.0,
    "family.untold_bottleneck": True,
    "family.posterior_layers": 0,
    "family.local_latents": 0,
}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration can change the numbers; a key at its `UNSAID` value counts as absent."""
    said = {key: value for key, value in settled(config).items() if key not in NOT_IDENTITY}
    for key, usual in UNSAID.items():
        *group, name = key.split(".")
        holder = said.get(group[0], {}) if group else said
        ours = not group or str(holder.get("_target_", "")).startswith("genfam.")  # others may mean another thing by it
        if ours and name in holder and holder[name] == usual:
            rest = {other: value for other, value in holder.items() if other != name}
            said = {**said, group[0]: rest} if group else rest
    return said


def settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with `device=auto` made what it is on this machine."""
    here = {"device": environment.device_for("auto")} if config.get("device") == "auto" else {}
    return {**config, **here}


def run_id(config: Mapping[str, Any]) -> str:
    """Readable names and a hash of all that can change the numbers."""
    text = json.dumps(identity(config), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{config['source']['name']}-{config['family']['name']}-s{config['seed']}-{digest}"


def run_directory(config: Mapping[str, Any]) -> Path:
    """Where this run's record, weights, samples and log lie."""
    return Path(config["output_dir"], config["suite"], run_id(config))


def finished_record(directory: Path) -> Record | None:
    """The record there if the run needs no repetition, else None."""
    record = read_record(directory)
    return record if record is not None and record.outcome.finished else None


def read_record(directory: Path) -> Record | None:
    """The record there, or None where there is none that can be read."""
    try:
        return record_from_json((directory / "record.json").read_text())
    except (OSError, ValueError):
        return None


def ended_well(directory: Path) -> Record:
    """The record there.

    Raises:
        FileNotFoundError: none that can be read, or of a run that did not end well.
    """
    record = read_record(directory)
    if record is None:
        raise FileNotFoundError(f"{directory}: expected a run with a readable record.json, found none")
    if record.outcome is not Outcome.OK:
        raise FileNotFoundError(f"{directory}: expected a run that ended well, its outcome is {record.outcome.value}")
    return record


def failed_record(config: dict[str, Any], reason: str) -> Record:
    """What is written for a run whose process died before it could write its own."""
    config = settled(config)
    return Record(
        run_id=run_id(config),
        outcome=Outcome.FAILED,
        reason=reason,
        suite=config["suite"],
        family=config["family"]["name"],
        source=config["source"]["name"],
        seed=config["seed"],
        config=config,
        code_version=environment.code_version(),
        package_versions=environment.package_versions(),
        device=f"{config['device']}: {environment.processor(config['device'])}",
        threads=config["threads"],
    )
