"""Weights & Biases, offline unless asked: never a prompt, never a hang, one finished run per record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfam.types import Record

MODES = ("offline", "online", "disabled")


def make_logger(config: Mapping[str, Any], run_id: str, directory: Path) -> Any | None:
    """A Lightning logger for this run, or None where wandb is disabled.

    Args:
        config: the run's configuration, with `wandb: {mode, project, entity, group, tags}`.
        run_id: becomes the wandb run's id, so that a resumed run continues it.
        directory: the run's folder; offline files go to its `wandb` folder.

    Raises:
        ValueError: an unknown mode.
    """
    settings = config["wandb"]
    mode = settings["mode"]
    if mode not in MODES:
        raise ValueError(f"wandb.mode: expected one of {list(MODES)}, got {mode!r}")
    if mode == "disabled":
        return None
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing leaves the machine
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(
        project=settings["project"],
        entity=settings["entity"],
        name=f"{config['family']['name']}-{config['source']['name']}-{config['seed']}",
        id=run_id,
        group=settings["group"],
        job_type="train",
        tags=[config["family"]["name"], config["source"]["name"], *settings["tags"]],
        config=dict(config),
        save_dir=directory,
        offline=mode == "offline",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )


def log_record(logger: Any | None, record: Record, pictures: Mapping[str, Path]) -> None:
    """Put the record's numbers into the summary, log the pictures, and finish the wandb run."""
    if logger is None:
        return
    import wandb

    run = logger.experiment
    run.summary["outcome"] = record.outcome.value
    for measurement in record.metrics:
        if measurement.estimate is not None:
            run.summary[measurement.name] = measurement.estimate.value
    for key, value in record.stability.items():
        run.summary[f"stability_{key}"] = value
    for name in ("parameters", "train_flops", "train_seconds", "events_seen", "updates", "seconds_per_sample"):
        run.summary[name] = getattr(record, name)
    for name, path in pictures.items():
        run.log({name: wandb.Image(str(path))})
    finish()


def finish() -> None:
    """Close the run, or the next one in this process would go on in it."""
    import wandb

    if wandb.run is not None:
        wandb.finish()
