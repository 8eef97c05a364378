"""Which source reads what a user has."""

from __future__ import annotations

from pathlib import Path

from genfam.build import ConfigurationError
from genfam.sources.array import kind_of, load

TABLES = (".csv", ".tsv", ".parquet", ".pq")
ARRAYS = (".npy", ".npz")


def source_for(path: Path) -> tuple[str, str]:
    """The source (of `conf/source`) for a folder or file, and its key for the path.

    A folder: `image_folder`. CSV and Parquet: `table`. NumPy's files, by what is in them: `array`, `level_array` or
    `image_array`.

    Raises:
        ConfigurationError: none reads it.
    """
    if path.is_dir():
        return "image_folder", "folder"
    if not path.is_file():
        raise ConfigurationError(f"source.path: expected a file or a folder of images, found none at {path.absolute()}")
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return "table", "path"
    kind = kind_of(load(path, "source.path")[0]) if suffix in ARRAYS else None
    if kind is None:
        raise ConfigurationError(
            f"source.path: expected a folder of images, a table ({', '.join(TABLES)}) or an array "
            f"({', '.join(ARRAYS)}) of points (floats, N x D), levels or images (uint8 or bool), got {path}"
        )
    return kind, "path"
