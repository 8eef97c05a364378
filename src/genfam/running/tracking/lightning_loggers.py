"""TensorBoard and CSV by Lightning's loggers: `tensorboard --logdir outputs/<suite>`, `<run>/csv/metrics.csv`."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from genfam.running.tracking.base import PictureFolder, Pictures, Row, Tracker, final_numbers, flat
from genfam.types import Record


class LightningTracker(Tracker, ABC):
    """Numbers into one of Lightning's loggers; `make` gives it, for an empty folder.

    A CSVLogger in a folder that is there deletes its rows, and TensorBoard shows steps that were logged twice twice:
    so each attempt begins an empty folder, and a resumed one is told the earlier rows again.
    """

    folder: str

    def __init__(self, config: Mapping[str, Any], directory: Path) -> None:
        shutil.rmtree(directory / self.folder, ignore_errors=True)
        self.logger = self.make(directory)
        self.logger.log_hyperparams(flat(config))

    @abstractmethod
    def make(self, directory: Path) -> Any:
        """The logger, whose files go to `<directory>/<folder>`."""

    def log(self, updates: int, row: Row) -> None:
        """The numbers of the row."""
        numbers = {name: value for name, value in row.items() if not isinstance(value, tuple)}
        self.logger.log_metrics(numbers, step=updates)

    def finish(self, record: Record, pictures: Pictures, gradient_norms: Mapping[str, list[float]]) -> None:
        """The record's numbers as one more row, at the last update."""
        numbers = {f"final/{k}": v for k, v in final_numbers(record).items() if not isinstance(v, str)}
        self.logger.log_metrics(numbers, step=record.updates)
        self.logger.finalize("success" if record.outcome.finished else "failed")


class CsvTracker(LightningTracker):
    """`csv/metrics.csv`, a row per logged update, and `csv/hparams.yaml`."""

    folder = "csv"

    def make(self, directory: Path) -> Any:
        """Written at every row: after a kill all of them are there."""
        return CSVLogger(directory, name="", version=self.folder, flush_logs_every_n_steps=1)


class TensorBoardTracker(LightningTracker):
    """`tensorboard/`: scalars and pictures over updates."""

    folder = "tensorboard"
    wants_pictures = True

    def __init__(self, config: Mapping[str, Any], directory: Path) -> None:
        try:
            super().__init__(config, directory)
        except ModuleNotFoundError as error:
            raise ValueError(
                "logger=tensorboard: expected the package tensorboard, got none: pip install genfam[tensorboard]"
            ) from error
        self.pictures = PictureFolder(directory / "pictures")

    def make(self, directory: Path) -> Any:
        """Beside the run's other files."""
        return TensorBoardLogger(directory, name="", version=self.folder, default_hp_metric=False)

    def log(self, updates: int, row: Row) -> None:
        """Numbers, and the pictures of this update."""
        super().log(updates, row)
        import numpy as np
        from PIL import Image

        for name, path in self.pictures.paths(updates).items():
            picture = np.asarray(Image.open(path))
            self.logger.experiment.add_image(f"pictures/{name}", picture, updates, dataformats="HWC")

    def show(self, updates: int, pictures: Pictures) -> None:
        """Kept in the run's folder until the run is finished."""
        self.pictures.save(updates, pictures)

    def finish(self, record: Record, pictures: Pictures, gradient_norms: Mapping[str, list[float]]) -> None:
        """Also the final pictures and the gradient norms as histograms."""
        import numpy as np

        for name, picture in pictures.items():
            self.logger.experiment.add_image(f"final/{name}", picture, record.updates, dataformats="HWC")
        for player, norms in gradient_norms.items():
            finite = np.asarray(norms)[np.isfinite(norms)]
            if finite.size:
                self.logger.experiment.add_histogram(f"final/gradient_norms_{player}", finite, record.updates)
        super().finish(record, pictures, gradient_norms)
        if record.outcome.finished:
            self.pictures.remove()
