"""The table of trained runs at other sampling knobs, beside a record or published: read, written, carried over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from genfam.files import write_atomically
from genfam.records.store import Store
from genfam.types import Record

FILE = "sampling_costs.csv"
# `knobs`: JSON, all of the family's; `seconds`: to draw all `samples`; `as_run`: whether the record was measured so.
COLUMNS = (
    "run_id", "family", "source", "seed", "knobs", "network_evaluations", "metric", "value", "stderr", "samples",
    "seconds", "as_run", "fingerprint", "code_version",
)  # fmt: skip
SETTING = ["run_id", "knobs"]


def read(path: Path) -> pd.DataFrame:
    """The rows of one file; none where there is no file.

    Raises:
        ValueError: it has other columns.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    texts = dict.fromkeys(("run_id", "family", "source", "knobs"), str)
    rows = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    if list(rows.columns) != list(COLUMNS):
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(rows.columns)}")
    return rows


def write(path: Path, rows: pd.DataFrame) -> None:
    """All rows, atomically."""
    write_atomically(path, rows.to_csv(index=False, float_format="%.10g", lineterminator="\n"))


def of_suite(folder: str | Path, records: Iterable[Record]) -> pd.DataFrame:
    """What a suite's folder has of these runs, in the store or published (beside published weights, too).

    Rows whose protocol is not the record's any more are left out: `genfam-evaluate` may have measured that again.
    """
    place = Path(folder)
    files = [file for form in ("", "*/", "weights/*/") for file in sorted(place.glob(form + FILE))]
    found = [rows for file in files if len(rows := read(file))]
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat(found, ignore_index=True)
    known = {r.run_id: {m.name: m.fingerprint for m in r.metrics if m.estimate is not None} for r in records}
    own = zip(rows["run_id"], rows["metric"], rows["fingerprint"], strict=True)
    rows = rows[[run in known and known[run].get(metric, text) == text for run, metric, text in own]]
    order = ["source", "family", "seed", *SETTING, "metric"]
    return rows.drop_duplicates([*SETTING, "metric"]).sort_values(order, ignore_index=True)


def publish(store_dir: str | Path, target: str | Path) -> Path | None:
    """Copy the rows of a store's runs to `results/<suite>`, where those of reused runs stay as they were published.

    Returns:
        The file; None where there is no row (an old file of other runs is then removed).
    """
    store = Store(store_dir)
    records = store.current()
    reused = [record for record in records if store.reused(record.run_id)]
    parts = [of_suite(store.folder, records), of_suite(target, reused)]
    parts = [rows for rows in parts if len(rows)]
    path = Path(target) / FILE
    if not parts:
        path.unlink(missing_ok=True)
        return None
    write(path, pd.concat(parts, ignore_index=True).drop_duplicates([*SETTING, "metric"]))
    return path
