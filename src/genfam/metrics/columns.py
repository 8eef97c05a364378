"""Tables: the space in which rows lie beside one another, and how columns and pairs of columns differ.

What is compared are the rows as the table would hold them (rounded, categories decided), never the real numbers by
which families model them (`genfam.sources.columns`).

References:
    N. Patki, R. Wedge & K. Veeramachaneni (2016). The Synthetic Data Vault. https://doi.org/10.1109/DSAA.2016.49
    H. Zhang et al. (2024). Mixed-Type Tabular Data Synthesis with Score-based Diffusion in Latent Space.
    https://arxiv.org/abs/2310.09656, appendix E.3 (errors of column-wise densities and of pairwise correlations)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from genfam.build import ConfigurationError
from genfam.metrics.base import Evaluation, Extractor, Metric, blocks
from genfam.metrics.estimators import jackknife, refusal, split
from genfam.ranges import Count, Several
from genfam.types import Data, Estimate, Kind, Measurement

LACKING = {  # name -> without what it does not apply
    "column_ks": "numeric columns",
    "column_total_variation": "categorical columns",
    "correlation_difference": "two numeric columns",
    "pair_total_variation": "two columns",
}


@runtime_checkable
class Tabular(Protocol):
    """A source whose events are rows."""

    @property
    def columns(self) -> Mapping[str, int]:
        """Name of each column -> its number of categories, 0 for numbers."""
        ...

    def values(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B, C) float64: numbers, and codes of categories."""
        ...


class ColumnFeatures(Extractor):
    """Numbers standardised by the training split, categories as one-hot vectors over √2: two of them are 1 apart.

    Args:
        data: the source.
        name: of the space.
        cache_dir: not used: every extractor accepts it.

    Raises:
        ConfigurationError: the source's events are no rows.
    """

    def __init__(self, data: Data, name: str = "columns", cache_dir: str | Path | None = None) -> None:
        if not isinstance(data, Tabular):
            raise ConfigurationError(f"extractor: expected a source of rows (a table or an array), got {data.name}")
        self.name, self.data = name, data
        self.sizes = list(data.columns.values())
        of_training = torch.cat([data.values(data.train[rows]) for rows in blocks(len(data.train), 5000)])
        self.mean, self.std = of_training.mean(dim=0), of_training.std(dim=0).clamp_min(1e-12)

    @property
    def fingerprint(self) -> str:
        """The name says it all, the source being known."""
        return f"{self.name}, standardised numbers and one-hot categories over the root of 2"

    def features(self, x: Tensor) -> Tensor:
        """(N, *event) -> (N, D) float64."""
        values = self.data.values(x)
        scaled = (values - self.mean) / self.std
        parts = [
            F.one_hot(values[:, place].long(), size).double() / math.sqrt(2.0) if size else scaled[:, place : place + 1]
            for place, size in enumerate(self.sizes)
        ]
        return torch.cat(parts, dim=1)


def kolmogorov_smirnov(x: Tensor, y: Tensor) -> Tensor:
    """(N, C), (M, C) -> (C,): sup |F_x − F_y| of each column."""
    found = []
    for own, other in zip(x.T.contiguous(), y.T.contiguous(), strict=True):
        places = torch.cat([own, other])
        of_x = torch.searchsorted(own.sort().values, places, right=True) / len(own)
        of_y = torch.searchsorted(other.sort().values, places, right=True) / len(other)
        found.append((of_x - of_y).abs().max())
    return torch.stack(found).double()


def shares(codes: Tensor, states: int) -> Tensor:
    """(N,) int64 -> (states,) float64."""
    return codes.bincount(minlength=states).double() / len(codes)


def correlations(x: Tensor) -> Tensor:
    """(N, C) -> (C (C − 1) / 2,) Pearson's, 0 where a column is constant."""
    centred = x - x.mean(dim=0)
    norms = torch.linalg.vector_norm(centred, dim=0)
    scaled = centred / torch.where(norms > 0, norms, 1.0)
    above = torch.triu_indices(x.shape[1], x.shape[1], offset=1)
    return (scaled.T @ scaled)[above[0], above[1]]


class Columns(Metric):
    """How unlike columns are, and pairs of columns: means over them. 0 is right; the oracle's values are the floors.

    `column_ks`: Kolmogorov–Smirnov distance of numeric columns. `column_total_variation`: of categorical ones.
    `correlation_difference`: |difference| of Pearson's correlation of two numeric columns. `pair_total_variation`: of
    the contingency table of any two columns, numbers cut at the reference's quartiles; it sees single columns and what
    goes together, linear or not. Standard errors are a delete-a-group jackknife over samples and reference.
    """

    on_curve = True

    def __init__(self, groups: Several = 10, bins: Several = 4, most_pairs: Count = 500) -> None:
        """Sizes.

        Args:
            groups: of the jackknife.
            bins: of numbers in a contingency table.
            most_pairs: contingency tables that are made, evenly spaced among all.
        """
        self.groups, self.bins, self.most_pairs = groups, bins, most_pairs

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Four measurements; not applicable where events are no rows, or have no such columns."""
        data = evaluation.data
        reason = refusal(evaluation, at_least=2 * self.groups) if isinstance(data, Tabular) else "events are no rows"
        if reason or not isinstance(data, Tabular):
            return [Measurement.not_applicable(name, str(reason), kind=Kind.DISTANCE) for name in LACKING]
        x, y = data.values(evaluation.samples), data.values(evaluation.reference)
        protocol = evaluation.protocol(features=False, bins=self.bins, pairs=self.most_pairs)
        statistics = self.statistics(list(data.columns.values()), y)
        found = []
        for name in LACKING:
            if name not in statistics:
                reason = f"the table has no {LACKING[name]}"
                found.append(Measurement.not_applicable(name, reason, kind=Kind.DISTANCE))
                continue
            found.append(Measurement(name, "1", False, self._estimate(statistics[name], x, y), protocol, Kind.DISTANCE))
        return found

    def statistics(self, sizes: list[int], reference: Tensor) -> dict[str, Callable[[Tensor, Tensor], float]]:
        """Name -> the statistic of (N, C) and (M, C) values, for those that the columns allow.

        Args:
            sizes: number of categories of each column, 0 for numbers.
            reference: (M, C), whose quantiles cut numbers.
        """
        numbers = [place for place, size in enumerate(sizes) if not size]
        categories = [place for place, size in enumerate(sizes) if size]
        states = [size or self.bins for size in sizes]
        cuts = reference.quantile(torch.arange(1, self.bins, dtype=torch.float64) / self.bins, dim=0)
        pairs = list(combinations(range(len(sizes)), 2))
        pairs = pairs[:: -(-len(pairs) // self.most_pairs)] if pairs else pairs

        def coded(x: Tensor) -> list[Tensor]:
            return [
                x[:, place].long()
                if size
                else torch.searchsorted(cuts[:, place].contiguous(), x[:, place].contiguous())
                for place, size in enumerate(sizes)
            ]

        def variation(x: list[Tensor], y: list[Tensor], states: list[int]) -> float:
            each = [0.5 * (shares(a, k) - shares(b, k)).abs().sum() for a, b, k in zip(x, y, states, strict=True)]
            return float(torch.stack(each).mean())

        def of_pairs(x: Tensor, y: Tensor) -> float:
            mine, theirs = coded(x), coded(y)
            joint = [[own[a] * states[b] + own[b] for a, b in pairs] for own in (mine, theirs)]
            return variation(joint[0], joint[1], [states[a] * states[b] for a, b in pairs])

        def of_categories(x: Tensor, y: Tensor) -> float:
            chosen = [[own[:, place].long() for place in categories] for own in (x, y)]
            return variation(chosen[0], chosen[1], [sizes[place] for place in categories])

        found: dict[str, Callable[[Tensor, Tensor], float]] = {}
        if numbers:
            found["column_ks"] = lambda x, y: float(kolmogorov_smirnov(x[:, numbers], y[:, numbers]).mean())
        if categories:
            found["column_total_variation"] = of_categories
        if len(numbers) > 1:
            found["correlation_difference"] = lambda x, y: float(
                (correlations(x[:, numbers]) - correlations(y[:, numbers])).abs().mean()
            )
        if pairs:
            found["pair_total_variation"] = of_pairs
        return found

    def _estimate(self, statistic: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor) -> Estimate:
        def rest(z: Tensor, g: int) -> Tensor:
            kept = torch.ones(len(z), dtype=torch.bool)
            kept[split(len(z), self.groups)[g]] = False
            return z[kept]

        of_draw = jackknife(lambda g: statistic(rest(x, g), y), self.groups)
        of_reference = jackknife(lambda g: statistic(x, rest(y, g)), self.groups)
        return Estimate(statistic(x, y), math.hypot(of_draw, of_reference), len(x), of_draw)
