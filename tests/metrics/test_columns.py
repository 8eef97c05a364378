"""Distances of columns and of pairs: known answers, the floor of fresh real data, planted faults, honest errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from genfam.build import ConfigurationError
from genfam.metrics.base import Evaluation
from genfam.metrics.columns import ColumnFeatures, Columns, correlations, kolmogorov_smirnov
from genfam.sources.known import Ring
from genfam.sources.table import ShippedTable
from genfam.types import Event, Status

CORRELATION = 0.8


class Rows:
    """Two numbers with a known correlation and two categories, of which the second is the sign of the first number."""

    name, event, label_names = "rows", Event((4,)), ()
    columns: Mapping[str, int] = {"a": 0, "b": 0, "c": 3, "d": 2}

    def values(self, x: Tensor) -> Tensor:
        return x.double()

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, 2, generator=generator)
        second = CORRELATION * z[:, 0] + (1 - CORRELATION**2) ** 0.5 * z[:, 1]
        c = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True, generator=generator)
        return torch.stack([z[:, 0], second, c.float(), (z[:, 0] > 0).float()], dim=1)

    @property
    def train(self) -> Tensor:
        return self.sample(500, generator=torch.Generator().manual_seed(99))


def measured(samples: Tensor, reference: Tensor, **options: Any) -> dict[str, Any]:
    data: Any = Rows()
    evaluation = Evaluation(data, samples, reference, ColumnFeatures(data), data)
    found = {m.name: m for m in Columns(**options).measure(evaluation)}
    assert len(found) == 4
    return found


def drawn(n: int, seed: int) -> Tensor:
    return Rows().sample(n, generator=torch.Generator().manual_seed(seed))


def test_kolmogorov_smirnov_is_scipys_with_ties_too() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 6, (50, 3)).astype(float), random.normal(2, 2, (80, 3))
    found = kolmogorov_smirnov(torch.from_numpy(x), torch.from_numpy(y))
    assert np.allclose(found, [stats.ks_2samp(a, b).statistic for a, b in zip(x.T, y.T, strict=True)])


def test_correlations_are_numpys() -> None:
    x = np.random.default_rng(0).normal(size=(40, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    assert np.allclose(correlations(torch.from_numpy(x)), np.corrcoef(x.T)[np.triu_indices(4, 1)])


def test_equal_sets_are_at_zero_and_known_faults_at_their_size() -> None:
    x = drawn(2000, 0)
    same = measured(x, x)
    assert all(m.estimate.value == pytest.approx(0.0, abs=1e-12) for m in same.values())
    shifted = x.clone()
    shifted[:, 0] += 1.0  # of two columns one: KS of N(0, 1) and N(1, 1) is 2 Φ(½) − 1
    truth = float(2 * stats.norm.cdf(0.5) - 1) / 2
    ks = measured(shifted, drawn(2000, 1))["column_ks"].estimate
    assert ks.value == pytest.approx(truth, abs=4 * ks.stderr + 0.01)
    lost = x.clone()
    lost[:, 2] = 0.0  # one category of three alone: a total variation of a half, and 0 in the other column
    variation = measured(lost, drawn(2000, 1))["column_total_variation"].estimate
    assert variation.value == pytest.approx(0.25, abs=4 * variation.stderr + 0.01)
    shuffled = x.clone()
    shuffled[:, 1] = x[torch.randperm(2000, generator=torch.Generator().manual_seed(2)), 1]
    found = measured(shuffled, drawn(2000, 1))
    correlation = found["correlation_difference"].estimate
    assert correlation.value == pytest.approx(CORRELATION, abs=4 * correlation.stderr + 0.03)
    assert found["column_ks"].estimate.value < 0.04  # single columns do not show it
    # the sign of the first number and the quarter of the second no longer go together
    assert (
        found["pair_total_variation"].estimate.value
        > 2 * measured(x, drawn(2000, 1))["pair_total_variation"].estimate.value
    )


def test_fresh_real_data_are_at_the_floor_that_shrinks_with_their_number() -> None:
    few, many = measured(drawn(200, 0), drawn(200, 1)), measured(drawn(20_000, 0), drawn(20_000, 1))
    for name, found in many.items():
        assert found.estimate.value < 0.02 < few[name].estimate.value < 0.12, name


@pytest.mark.parametrize(
    "name",
    [
        "pair_total_variation",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("column_ks", "column_total_variation", "correlation_difference")
        ),
    ],
)
def test_standard_errors_are_what_fresh_draws_show(name: str) -> None:
    off = torch.tensor([0.5, 0.0, 0.0, 0.0])
    found = [measured(drawn(800, 2 * seed) + off, drawn(100, 2 * seed + 1))[name].estimate for seed in range(60)]
    spread = float(np.std([estimate.value for estimate in found]))
    assert 0.6 < float(np.mean([estimate.stderr for estimate in found])) / spread < 1.8
    fixed = [measured(drawn(400, 2 * seed) + off, drawn(300, 1))[name].estimate for seed in range(60)]
    of_draw = float(np.std([estimate.value for estimate in fixed]))
    assert 0.6 < float(np.mean([estimate.draw_stderr for estimate in fixed])) / of_draw < 1.8


def test_it_does_not_apply_to_what_is_no_table_or_not_finite() -> None:
    ring: Any = Ring()
    x = ring.sample(100, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigurationError, match="expected a source of rows"):
        ColumnFeatures(ring)
    data: Any = Rows()
    evaluation = Evaluation(ring, x, x, ColumnFeatures(data), data)
    assert {m.reason for m in Columns().measure(evaluation)} == {"events are no rows"}
    bad = drawn(100, 0)
    bad[3, 0] = torch.nan
    assert {m.reason for m in measured(bad, drawn(100, 1)).values()} == {"1 of 100 samples are not finite"}
    numbers = Rows()
    numbers.columns = {"a": 0, "b": 0, "c": 0, "d": 0}
    evaluation = Evaluation(numbers, drawn(100, 0), drawn(100, 1), ColumnFeatures(numbers), numbers)  # type: ignore[arg-type]
    status = {m.name: m.status for m in Columns().measure(evaluation)}
    assert [name for name, s in status.items() if s is Status.NOT_APPLICABLE] == ["column_total_variation"]
    one = Rows()
    one.columns = {"c": 3}
    one.values = lambda x: x[:, 2:3].double()  # type: ignore[method-assign]
    evaluation = Evaluation(one, drawn(100, 0), drawn(100, 1), ColumnFeatures(one), one)  # type: ignore[arg-type]
    assert [m.name for m in Columns().measure(evaluation) if m.estimate is not None] == ["column_total_variation"]


def test_pairs_of_numbers_show_what_correlations_do_not() -> None:
    """y = x² against a y of its own: no correlation, and equal columns."""
    numbers: Any = Rows()
    numbers.columns = {"a": 0, "b": 0}
    numbers.values = lambda x: x[:, :2].double()
    x = torch.randn(3000, 1, generator=torch.Generator().manual_seed(0))
    real, loose = torch.cat([x, x**2], dim=1), torch.cat([x, x.flip(0) ** 2], dim=1)
    evaluation = Evaluation(numbers, loose, real, ColumnFeatures(numbers), numbers)
    found = {m.name: m.estimate.value for m in Columns().measure(evaluation) if m.estimate is not None}
    assert found["column_ks"] == 0.0 and found["correlation_difference"] < 0.1
    # 1/8 in each of eight cells, against 1/16 in each of sixteen
    assert found["pair_total_variation"] == pytest.approx(0.5, abs=0.03)


def test_two_categories_are_one_apart_and_numbers_are_standardised() -> None:
    source = ShippedTable("wine")
    space = ColumnFeatures(source)
    features = space.features(source.train)
    assert features.shape == (len(source.train), 16)
    assert torch.allclose(features[:, :13].mean(dim=0), torch.zeros(13, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(features[:, :13].std(dim=0), torch.ones(13, dtype=torch.float64))
    classes = features[:, 13:].unique(dim=0)
    assert len(classes) == 3 and torch.allclose(torch.pdist(classes), torch.ones(3, dtype=torch.float64))
    # the noise by which families model a category is in none of it
    again = source.train.clone()
    again[:, 13:] = torch.nn.functional.one_hot(again[:, 13:].argmax(dim=1), 3) + 0.5
    assert torch.equal(space.features(again)[:, 13:], features[:, 13:])
