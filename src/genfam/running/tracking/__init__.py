"""Where a run's numbers go while it trains: Weights & Biases, TensorBoard, a CSV file, or nowhere.

Nothing here can change a number: which tracker is chosen is no part of a run's identity, and none of them draws.
"""

from __future__ import annotations

from pathlib import Path

from genfam.records.run import Run
from genfam.running.tracking.base import Tracker

__all__ = ["Tracker", "make_tracker"]


def make_tracker(run: Run, directory: Path | None = None, job_type: str = "train") -> Tracker:
    """The tracker that `logger` names, begun afresh: what an earlier attempt at this run left is removed.

    Args:
        run: its settings. Its id names the wandb run, so that a resumed run continues it.
        directory: the run's folder, if not where its settings say. TensorBoard's and CSV files go there, wandb's
            offline files to the suite's `wandb` folder beside it.
        job_type: `train`; `evaluate` for a stored run that is measured again, which wandb alone hears of (the other
            two would lose their curves), and offline: where a stored run was sent is not this user's word.

    Raises:
        ValueError: online without an account; TensorBoard is not installed.
    """
    directory = directory or run.directory
    if run.logger == "wandb" and run.wandb.mode != "disabled":
        from genfam.running.tracking.weights_and_biases import WandbTracker

        return WandbTracker(run, directory, job_type)
    if run.logger in ("tensorboard", "csv") and job_type == "train":
        from genfam.running.tracking.lightning_loggers import CsvTracker, TensorBoardTracker

        return (CsvTracker if run.logger == "csv" else TensorBoardTracker)(run.config, directory)
    return Tracker()
