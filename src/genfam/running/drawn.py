"""A run's samples as a file for others: arrays, or the rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from torch import Tensor

from genfam.build import ConfigurationError
from genfam.running.saved import SavedRun
from genfam.sources.base import Source


@runtime_checkable
class OfRows(Protocol):
    """A source whose events are rows of columns."""

    def values(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B, C) float64 in the user's units."""
        ...

    def decode(self, x: Tensor) -> pd.DataFrame:
        """(B, *event) -> B rows."""
        ...


def check_format(path: Path, source: Source) -> None:
    """Raise ConfigurationError where samples of the source cannot be written to such a file."""
    formats = (".npz", ".csv") if isinstance(source, OfRows) else (".npz",)
    if path.suffix not in formats:
        raise ConfigurationError(
            f"out: expected a file name that ends in {' or '.join(formats)} for samples of {source.name}, got {path}"
        )


def write_samples(path: Path, run: SavedRun, samples: Tensor) -> str:
    """Write samples: `.csv` as rows with the columns of the user's table, `.npz` as an array with the key `samples`.

    In an `.npz` numbers of a table have the table's units and roundings too, and categories are numbered in the order
    of their names.

    Args:
        path: its folder is made.
        run: that drew them.
        samples: (n, *event).

    Returns:
        What was written, in one line.

    Raises:
        ConfigurationError: see `check_format`.
    """
    check_format(path, run.source)
    path.parent.mkdir(parents=True, exist_ok=True)
    source: Any = run.source
    if path.suffix == ".csv":
        table = source.decode(samples)
        table.to_csv(path, index=False)
        names = list(map(str, table.columns))
        return f"{path}: {len(table)} rows, {len(names)} columns ({', '.join(names[:3])}{', …' if names[3:] else ''})"
    of_rows = isinstance(source, OfRows) and not run.event.is_discrete
    array = source.values(samples).numpy() if of_rows else np.asarray(run.to_uint8(samples))
    np.savez_compressed(path, samples=array)
    return f"{path}: samples {array.dtype} {' x '.join(map(str, array.shape))}"
