"""Bounds of a constant: right on average, and their interval holds the truth as often as it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from genfam.families.annealed_importance import Bracket, bracket, log_mean
from genfam.families.langevin import Langevin
from genfam.types import Estimate, Event

SHARPNESS = 8.0  # of V: a third of the width that p_0 has
DIMENSIONS = 3
TRUTH = -0.5 * DIMENSIONS * math.log(1.0 + SHARPNESS)
REPEATS = 40
MOVES = Langevin(0.1, 0.7)


def tilt(x: Tensor) -> Tensor:
    """V, with p_0 e^(−V) / Z = N(0, 1 / (1 + SHARPNESS))."""
    return 0.5 * SHARPNESS * x.square().sum(dim=1)


def found(seed: int, temperatures: int) -> Bracket:
    generator = Generator().manual_seed(seed)
    begun = MOVES.start(200, Event((DIMENSIONS,)), "cpu", generator)
    drawn = MOVES.start(200, Event((DIMENSIONS,)), "cpu", generator) / math.sqrt(1.0 + SHARPNESS)
    return bracket(MOVES, tilt, begun, drawn, temperatures, generator)


@pytest.fixture(scope="module")
def brackets() -> list[Bracket]:
    return [found(seed, 50) for seed in range(REPEATS)]


def test_weights_are_right_on_average_and_their_logarithms_bound_the_constant(brackets: list[Bracket]) -> None:
    """Within four standard errors over 40 repeats (alarm in 1e-4)."""
    below, above = (
        torch.tensor([end(each).value for each in brackets], dtype=torch.float64)
        for end in (lambda b: b.below, lambda b: b.above)
    )
    for weights in ((below - TRUTH).exp(), (TRUTH - above).exp()):
        assert abs(float(weights.mean()) - 1.0) < 4 * float(weights.std()) / math.sqrt(REPEATS)
    for shortfall in (TRUTH - below, above - TRUTH):
        assert float(shortfall.mean()) > -4 * float(shortfall.std()) / math.sqrt(REPEATS)
    assert float((above - below).mean()) > 0.0


def test_an_interval_of_two_standard_errors_holds_the_constant(brackets: list[Bracket]) -> None:
    """Each end fails in 2.3 %, so that of 40 more than 7 fail by chance once in 2,000 seeds."""
    held = [low <= TRUTH <= high for low, high in (each.interval(2.0) for each in brackets)]
    assert sum(held) >= REPEATS - 7
    assert all(high - low < 1.5 for low, high in (each.interval(2.0) for each in brackets))


def test_finer_steps_close_in(brackets: list[Bracket]) -> None:
    coarse, fine = [found(seed, 4) for seed in range(6)], [found(seed, 200) for seed in range(6)]
    gaps = [sum(each.gap.value for each in some) / 6 for some in (coarse, brackets[:6], fine)]
    assert gaps[0] > gaps[1] > gaps[2] > -0.1
    assert all(abs(each.middle.value - TRUTH) < 4 * (each.middle.stderr or 0.0) for each in fine)


def test_the_error_of_a_log_mean_is_what_repeats_show() -> None:
    draws = 0.7 * torch.randn(400, 500, dtype=torch.float64, generator=Generator().manual_seed(0))
    estimates = [log_mean(row) for row in draws]
    values = torch.tensor([each.value for each in estimates])
    stated = sum(each.stderr or 0.0 for each in estimates) / len(estimates)
    assert float(values.mean()) == pytest.approx(0.5 * 0.7**2, abs=0.01)
    assert stated == pytest.approx(float(values.std()), rel=0.2)  # a deviation of 400 is known to 3.5 %
    assert log_mean(draws[0] + 1000.0).value == pytest.approx(estimates[0].value + 1000.0)


def test_the_middle_has_the_gap_as_an_error() -> None:
    each = Bracket(Estimate(-3.0, 0.3, 10), Estimate(-1.0, 0.4, 10))
    assert each.gap == Estimate(2.0, 0.5, 10)
    assert each.middle.value == -2.0 and each.middle.stderr == pytest.approx(0.5 * math.hypot(2.0, 0.5))
    assert each.interval(2.0) == pytest.approx((-3.6, -0.2))
