"""Tables of numeric and categorical columns: a user's CSV or Parquet file, and three that ship with scikit-learn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from genfam.sources import columns as codec
from genfam.sources.columns import Column
from genfam.sources.own import OwnFile
from genfam.types import Event

MOST_CATEGORIES = 64
SEPARATORS = ",;\t|"
NAMED = 5


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


class Rows(OwnFile):
    """Rows of a table as events of real numbers (`genfam.sources.columns` says how).

    Numbers are numeric columns. Texts, truth values, numbers of which there are but two, and columns named as such are
    categorical. Columns that are constant in the training split stay out of events and come back in `decode`; columns
    that number the rows are left out.

    Args:
        path, data_dir, name: see `OwnFile`.
        missing: what becomes of rows with missing values: `refuse` them, `drop` them, or `impute` the mean of the
            training split's numbers and its most frequent category.
        categorical: columns of numbers that are codes of categories.
        without: columns to leave out.

    Raises:
        ConfigurationError: at the first look, where the table cannot serve.
    """

    def __init__(
        self,
        path: str,
        data_dir: str | Path | None,
        missing: Literal["refuse", "drop", "impute"],
        categorical: Sequence[str],
        without: Sequence[str],
        name: str,
    ) -> None:
        super().__init__(path, data_dir, name)
        self.missing, self.categorical, self.without = missing, tuple(categorical), tuple(without)

    @abstractmethod
    def read(self) -> pd.DataFrame:
        """The table as it stands. Raises ConfigurationError where it cannot be read."""

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, list[str]]:
        """The table without what is left out, and a sentence for each thing that is."""
        table, said = self.read(), []
        table = table.set_axis([str(column) for column in table.columns], axis=1)
        for key, named in (("categorical", self.categorical), ("without", self.without)):
            if unknown := [column for column in named if column not in table.columns]:
                raise self.wrong(f"source.{key} to name columns of {some(list(table.columns))}", some(unknown))
        table = table.drop(columns=list(self.without))
        numbering = [c for c in table.columns if len(table) > 1 and numbers_rows(table[c])]
        if numbering:
            said.append(f"left out, for they number the rows: {some(numbering)}")
            table = table.drop(columns=numbering)
        holes = table.isna().sum()
        holes = holes[holes > 0]
        if len(holes):
            listed = some([f"{column} ({count})" for column, count in holes.items()])
            if self.missing == "refuse":
                raise self.wrong(
                    "no missing values (source.missing=drop leaves their rows out, source.missing=impute fills them "
                    "in, source.without=[COLUMN] leaves a column out)",
                    f"{int(holes.sum())} in {len(holes)} columns: {listed}",
                )
            rows = int(table.isna().any(axis=1).sum())
            if self.missing == "drop":
                table = table.dropna()
            done = "left out" if self.missing == "drop" else "filled in"
            said.append(f"missing values in {rows} rows, {done}: {listed}")
        self._check_columns(table)
        return table.reset_index(drop=True), said

    def _check_columns(self, table: pd.DataFrame) -> None:
        """Raise ConfigurationError, naming the columns that cannot be modelled."""
        for column in table.columns:
            values = table[column]
            if pd.api.types.is_numeric_dtype(values):
                infinite = int(np.isinf(values.to_numpy(dtype=np.float64, na_value=np.nan)).sum())
                if infinite:
                    raise self.wrong("finite numbers", f"{infinite} infinite ones in column {column}")
            elif not holds_categories(values):
                raise self.wrong(
                    "columns of numbers, texts or truth values (source.without=[COLUMN] leaves one out)",
                    f"{values.dtype} in column {column}",
                )
            if self._is_categorical(values) and values.nunique() > MOST_CATEGORIES:
                raise self.wrong(
                    f"at most {MOST_CATEGORIES} categories in a column (source.without=[{column}] leaves it out)",
                    f"{values.nunique()} in {column}",
                )

    def _is_categorical(self, values: pd.Series[Any]) -> bool:
        return (
            values.name in self.categorical
            or not pd.api.types.is_numeric_dtype(values)
            or pd.api.types.is_bool_dtype(values)
            or values.nunique() == 2
        )

    @cached_property
    def _held_out(self) -> NDArray[np.bool_]:
        """(N,): by the text of each row's values."""
        rows = self._read[0].itertuples(index=False, name=None) if self._read[0].shape[1] else ()
        return self.split_of("\x1f".join(map(str, row)).encode("utf-8", "surrogatepass") for row in rows)

    @cached_property
    def _coded(self) -> tuple[tuple[Column, ...], NDArray[np.float64]]:
        """Columns, and the (N, C) numbers and codes of categories in them."""
        table, training = self._read[0], ~self._held_out
        found: list[Column] = []
        values: list[NDArray[np.float64]] = []
        for name in table.columns:
            series = table[name]
            if not series[training].notna().any():
                raise self.wrong(
                    "values in every column of the training split (source.without=[COLUMN] leaves one out)",
                    f"none in {name}",
                )
            if self._is_categorical(series):
                categories = sorted(series.dropna().unique().tolist(), key=lambda value: (str(type(value)), value))
                codes = {category: code for code, category in enumerate(categories)}
                most = series[training].mode().iloc[0]
                constant = most if series[training].nunique() == 1 else None
                found.append(Column(name, () if constant is not None else tuple(categories), constant=constant))
                values.append(
                    np.array([codes[most if value is None else value] for value in whole(series)], dtype=float)
                )
                continue
            there = series.dropna().to_numpy()
            seen = codec.numeric(name, there, training[series.notna().to_numpy()])
            found.append(seen)
            filled = series.to_numpy(dtype=np.float64, na_value=np.nan)
            mean = seen.mean if seen.decimals is None else np.round(seen.mean, seen.decimals)
            values.append(np.where(np.isnan(filled), mean, filled))
        if not any(column.width for column in found):
            raise self.wrong("columns that are not constant", f"none in {self.path.name}")
        return tuple(found), np.stack(values, axis=1)

    @cached_property
    def event(self) -> Event:  # type: ignore[override]  # known once the file is read
        """Real numbers, a coordinate for each numeric column and each category."""
        return Event((sum(column.width for column in self._coded[0]),))

    @cached_property
    def _events(self) -> Tensor:
        return codec.encoded(*self._coded)

    @property
    def columns(self) -> Mapping[str, int]:
        """Name of each column that takes part in an event -> its number of categories, 0 for numbers."""
        return {column.name: len(column.categories) for column in self._coded[0] if column.width}

    def values(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, C) float64: numbers as the table has them, rounded likewise, and codes of categories."""
        return codec.decoded(self._coded[0], x)

    def decode(self, x: Tensor) -> pd.DataFrame:
        """(B, D) -> B rows of the table, with its columns, types and roundings."""
        return codec.frame(self._coded[0], x)

    def remarks(self) -> list[str]:
        """See `Source.remarks`."""
        columns, said = self._coded[0], list(self._read[1])
        for what, chosen in (
            ("numeric columns", [c for c in columns if c.width and not c.categories]),
            ("categorical columns", [c for c in columns if c.categories]),
            (
                "columns that are constant in the training split and stay out of events",
                [c for c in columns if c.constant is not None],
            ),
        ):
            if chosen:
                listed = some([f"{c.name} ({len(c.categories)})" if c.categories else c.name for c in chosen])
                said.append(f"{what} ({len(chosen)}): {listed}")
        return [*super().remarks(), *said]


def holds_categories(values: pd.Series[Any]) -> bool:
    """Whether a column's values are texts, truth values or pandas' own categories."""
    if values.dtype == object:
        return bool(values.dropna().map(lambda value: isinstance(value, str | bool)).all())
    return pd.api.types.is_string_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype)


def whole(values: pd.Series[Any]) -> list[Any]:
    """Values, None where one is missing."""
    return [None if missing else value for value, missing in zip(values.tolist(), values.isna(), strict=True)]


def numbers_rows(values: pd.Series[Any]) -> bool:
    """Whether a column counts its rows, from 0 or 1 on."""
    if not pd.api.types.is_integer_dtype(values) or values.isna().any() or values.iloc[0] not in (0, 1):
        return False
    return bool((values.to_numpy() == np.arange(len(values)) + values.iloc[0]).all())


class Table(Rows):
    """A CSV or Parquet file: see `Rows`.

    A CSV file has a row of names; the character that separates its columns is found there. Parquet needs pyarrow.
    """

    def __init__(
        self,
        path: str,
        data_dir: str | Path | None = None,
        missing: Literal["refuse", "drop", "impute"] = "refuse",
        categorical: Sequence[str] = (),
        without: Sequence[str] = (),
        name: str = "table",
    ) -> None:
        super().__init__(path, data_dir, missing, categorical, without, name)

    def read(self) -> pd.DataFrame:
        """See `Rows.read`."""
        self.check_file()
        try:
            if self.path.suffix.lower() in (".parquet", ".pq"):
                return pd.read_parquet(self.path)
            with open(self.path, encoding="utf-8-sig") as file:
                header = file.readline()
            return pd.read_csv(self.path, sep=max(SEPARATORS, key=header.count), encoding="utf-8-sig", low_memory=False)
        except ImportError as error:
            raise self.wrong("pyarrow, which reads Parquet (pip install pyarrow; or write CSV)", "none") from error
        except (ValueError, OSError) as error:  # pandas' ParserError and EmptyDataError, UnicodeDecodeError
            said = str(error).strip().split("\n")[0]
            raise self.wrong(f"a CSV or Parquet file at {self.path}", said) from error


class ShippedTable(Rows):
    """A table that ships with scikit-learn, with its target as the last column: no download.

    Breast cancer (569 × 31; a tumour is malignant or benign), wine (178 × 14; three cultivars) and diabetes (442 × 11,
    in its own units; the progression of the disease).

    Args:
        dataset: which.
        name: of the source.

    References:
        W. H. Wolberg, W. N. Street & O. L. Mangasarian (1995). Breast Cancer Wisconsin (Diagnostic). UCI Machine
        Learning Repository. https://doi.org/10.24432/C5DW2B
        S. Aeberhard & M. Forina (1991). Wine. UCI Machine Learning Repository. https://doi.org/10.24432/C5PC7J
        B. Efron, T. Hastie, I. Johnstone & R. Tibshirani (2004). Least angle regression, section 1.
        https://arxiv.org/abs/math/0406456
    """

    def __init__(self, dataset: Literal["breast_cancer", "wine", "diabetes"], name: str | None = None) -> None:
        target = () if dataset == "diabetes" else ("target",)
        super().__init__(dataset, None, "refuse", target, (), name or dataset)
        self.dataset = dataset

    def read(self) -> pd.DataFrame:
        """See `Rows.read`; classes by their names."""
        from sklearn import datasets  # here: a second that most runs do not need

        load: Any = getattr(datasets, f"load_{self.dataset}")
        found = load(as_frame=True, **({"scaled": False} if self.dataset == "diabetes" else {}))
        table: pd.DataFrame = found.frame
        if self.categorical:
            table["target"] = pd.Series(found.target_names)[table["target"]].to_numpy().astype(str)
        return table

    def contents(self) -> None:
        """None: the data set's name says what its events are."""
