"""Where a run's numbers go while it trains: Weights & Biases, TensorBoard, a CSV file, or nowhere.

Nothing here can change a number: which tracker is chosen is no part of a run's identity, and none of them draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfam.tracking.base import Tracker
from genfam.tracking.weights_and_biases import check_mode

__all__ = ["LOGGERS", "Tracker", "make_tracker"]

LOGGERS = ("wandb", "tensorboard", "csv", "none")


def make_tracker(config: Mapping[str, Any], run_id: str, directory: Path, job_type: str = "train") -> Tracker:
    """The tracker that `logger` names, begun afresh: what an earlier attempt at this run left is removed.

    Args:
        config: the run's configuration: `logger` (of conf/logger), `wandb`.
        run_id: the wandb run's id is made of it, so that a resumed run continues it.
        directory: the run's folder. TensorBoard's and CSV files go there, wandb's offline files to the suite's
            `wandb` folder beside it.
        job_type: `train`; `evaluate` for a stored run that is measured again, which wandb alone hears of (the other
            two would lose their curves).

    Raises:
        ValueError: an unknown logger or wandb mode; online without an account; TensorBoard is not installed.
    """
    kind = config.get("logger", "wandb")  # records of before there was a choice do not say
    if kind not in LOGGERS:
        raise ValueError(f"logger: expected one of {list(LOGGERS)}, got {kind!r}")
    if kind == "wandb" and check_mode(config["wandb"]["mode"]) != "disabled":
        from genfam.tracking.weights_and_biases import WandbTracker

        return WandbTracker(config, run_id, directory, job_type)
    if kind in ("tensorboard", "csv") and job_type == "train":
        from genfam.tracking.lightning_loggers import CsvTracker, TensorBoardTracker

        return (CsvTracker if kind == "csv" else TensorBoardTracker)(config, directory)
    return Tracker()
