"""What a tracker is told, and how a run that was cut off is told once only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genfam.types import Kind, Measurement, Record

Row = Mapping[str, float | tuple[int, ...]]
"""What is known at one update: numbers by name, and samples per mode."""

Pictures = Mapping[str, NDArray[np.uint8]]
"""Name -> (H, W, 3) picture."""

# What a flat configuration leaves out: where things lie on this machine, and the trackers' own settings.
NOT_TOLD = ("output_dir", "results_dir", "data_dir", "wandb")


class Tracker:
    """Takes what a run says of itself while it trains. This one drops it all.

    A tracker begins empty. A run that is resumed first logs again what its checkpoint knows
    (`training.history`, and the pictures kept on disk), then goes on: whatever an earlier attempt logged after its
    last checkpoint is neither doubled nor lost, since it is trained and logged anew.

    Attributes:
        wants_pictures: whether `show` does anything, so that nobody draws in vain.
    """

    wants_pictures = False

    def log(self, updates: int, row: Row) -> None:
        """What is known after so many updates; called with rising `updates`, once each."""

    def show(self, updates: int, pictures: Pictures) -> None:
        """Pictures that belong to the row which is logged next, of the same update."""

    def finish(self, record: Record, pictures: Pictures, gradient_norms: Mapping[str, list[float]]) -> None:
        """The run has ended, for now or for good.

        Args:
            record: as far as it is known.
            pictures: of the final samples; empty where there are none.
            gradient_norms: player -> norm before clipping at each update.
        """


class PictureFolder:
    """Pictures of a run that is not finished, by update, so that a resumed run can show the earlier ones again.

    Args:
        folder: is made when the first picture comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, updates: int, pictures: Pictures) -> None:
        """Write one PNG per picture; an equal one that is there is written again."""
        from PIL import Image

        self.folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            Image.fromarray(picture).save(self._path(updates, name))

    def paths(self, updates: int) -> dict[str, Path]:
        """Name -> file of the pictures of this update."""
        return {path.stem.partition("-")[2]: path for path in sorted(self.folder.glob(f"{updates:09d}-*.png"))}

    def remove(self) -> None:
        """The run is finished: its tracker has them."""
        for path in self.folder.glob("*.png"):
            path.unlink()
        if self.folder.is_dir():
            self.folder.rmdir()

    def _path(self, updates: int, name: str) -> Path:
        return self.folder / f"{updates:09d}-{name}.png"


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose every choice is one searchable key: `family`, `seed`, `family/optimisation/ema`, ...

    A group's name stands under the group's own key. Paths of this machine and trackers' settings are left out.
    """
    found: dict[str, Any] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{key}/")
            elif key == "name" and prefix.count("/") == 1:
                found[prefix[:-1]] = value
            else:
                found[f"{prefix}{key}"] = value

    walk({key: value for key, value in config.items() if key not in NOT_TOLD}, "")
    return found


def summary_name(m: Measurement, record: Record) -> str:
    """A likelihood says of which kind it is, so that no chart mixes exact values with bounds and estimates."""
    return f"{m.name}_{record.likelihood.value}" if m.kind is Kind.LIKELIHOOD else m.name


def final_numbers(record: Record) -> dict[str, float | str]:
    """A record's numbers under the names that a summary has: metrics bare, their errors as `<metric>_stderr`."""
    found: dict[str, float | str] = {"outcome": record.outcome.value}
    for m in record.metrics:
        if m.estimate is not None:
            name = summary_name(m, record)
            found[name] = m.estimate.value
            if m.estimate.stderr is not None:
                found[f"{name}_stderr"] = m.estimate.stderr
    found |= {f"stability_{key}": value for key, value in record.stability.items()}
    for name in ("updates", "events_seen", "train_flops", "train_seconds", "evaluate_seconds", "parameters",
                 "trained_parameters", "peak_memory", "evaluations_per_sample", "seconds_per_sample"):  # fmt: skip
        found[name] = getattr(record, name)
    return found
