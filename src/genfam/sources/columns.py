"""Columns of numbers and of categories <-> rows of real numbers that every family can model.

A number v becomes (v − mean) / std, by the training split. Numbers in a file are rounded, and a density on rounded
numbers has no maximum; so where the rounding is coarse, v + s u with u ~ U[0, 1) and s the unit of the last decimal
is modelled, and samples are rounded down. A category becomes its one-hot vector plus u ~ U[0, 1)^K, and the largest of
K coordinates says the category of a sample. Either is uniform dequantisation: the cells of different values do not
overlap, so that E_u[log q(x + u)] is a lower bound on the log-probability of the rounded row.

References:
    L. Theis, A. van den Oord & M. Bethge (2016). A note on the evaluation of generative models, section 3.1.
    https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genfam.seeds import derived_generator

MOST_DECIMALS = 8
COARSE = 1000.0  # standard deviations over the unit of the last decimal up to which rounding matters to a density
WALL = 1e-3  # of a cell, left free on either side: float32 would round across the walls


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: as the file has it.
        categories: what it may hold, in their order; () for numbers.
        mean, std: of the training split's numbers.
        decimals: that all numbers of the file are rounded to; None where they are not.
        whole: whether the file's numbers are integers.
        constant: the one value of a column that has no other; it takes no part in the event.
    """

    name: str
    categories: tuple[Any, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    decimals: int | None = None
    whole: bool = False
    constant: Any = None

    @property
    def width(self) -> int:
        """Numbers of an event that stand for it."""
        return 0 if self.constant is not None else max(1, len(self.categories))

    @property
    def unit(self) -> float:
        """Of the last decimal where rounding is coarse, else 0."""
        unit = 0.0 if self.decimals is None else 10.0**-self.decimals
        return unit if self.std <= COARSE * unit else 0.0

    def encode(self, values: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) numbers or codes of categories, (N, width) in [0, 1) -> (N, width)."""
        u = WALL + (1.0 - 2.0 * WALL) * noise
        if self.categories:
            one_hot: NDArray[np.float64] = np.eye(len(self.categories))[values.astype(int)]
            return one_hot + u
        return (values[:, None] + self.unit * u - self.mean) / self.std

    def decode(self, event: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, width) -> (N,) numbers as the file would have them, or codes of categories."""
        if self.categories:
            codes: NDArray[np.int64] = event.argmax(axis=1)
            return codes.astype(np.float64)
        values: NDArray[np.float64] = event[:, 0] * self.std + self.mean
        if self.unit:
            values = np.floor(values / self.unit) * self.unit
        return values if self.decimals is None else np.round(values, self.decimals)


def decimals_of(values: NDArray[Any]) -> int | None:
    """The fewest decimals, up to eight, that all numbers are rounded to; None where they have more."""
    return next((k for k in range(MOST_DECIMALS + 1) if np.array_equal(np.round(values, k), values)), None)


def numeric(name: str, values: NDArray[Any], training: NDArray[np.bool_]) -> Column:
    """A column of finite numbers.

    Args:
        name: of it.
        values: (N,), in the type that the file has them in.
        training: (N,) which of them are in the training split.
    """
    own = values[training].astype(np.float64)
    if np.all(own == own[0]):
        return Column(name, constant=values[training][0].item())
    whole = np.issubdtype(values.dtype, np.integer)
    return Column(name, (), float(own.mean()), float(own.std()), 0 if whole else decimals_of(values), bool(whole))


def encoded(columns: tuple[Column, ...], values: NDArray[np.float64]) -> Tensor:
    """(N, C) numbers and codes -> (N, D) float32 events; the noise is drawn once, the same every time."""
    widths = [column.width for column in columns]
    noise = torch.rand(
        len(values), sum(widths), generator=derived_generator(0, "columns", "noise"), dtype=torch.float64
    ).numpy()
    starts = np.cumsum([0, *widths])
    parts = [
        column.encode(values[:, number], noise[:, starts[number] : starts[number + 1]])
        for number, column in enumerate(columns)
        if column.width
    ]
    return torch.from_numpy(np.concatenate(parts, axis=1)).float()


def decoded(columns: tuple[Column, ...], x: Tensor) -> Tensor:
    """(N, D) events -> (N, C) float64 numbers and codes of the columns that take part in an event."""
    events, start, found = x.detach().double().cpu().numpy(), 0, []
    for column in columns:
        if column.width:
            found.append(column.decode(events[:, start : start + column.width]))
            start += column.width
    return torch.from_numpy(np.stack(found, axis=1))


def frame(columns: tuple[Column, ...], x: Tensor) -> pd.DataFrame:
    """(N, D) events -> a table with all columns, in the file's order and in its types."""
    values = iter(decoded(columns, x).numpy().T)
    found: dict[str, Any] = {}
    for column in columns:
        if not column.width:
            found[column.name] = [column.constant] * len(x)
            continue
        own = next(values)
        if column.categories:
            found[column.name] = pd.Series(column.categories)[own.astype(int)].to_numpy()
        else:
            found[column.name] = own.astype(np.int64) if column.whole and np.isfinite(own).all() else own
    return pd.DataFrame(found)
