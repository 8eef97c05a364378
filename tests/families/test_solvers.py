"""Solvers against a flow in closed form."""

import math

import pytest
import torch

from genfam.families.solvers import METHODS, Solver


def gaussian_velocity(s: float):
    """Marginal velocity of x_t = (1 − t) x_0 + t x_1 with x_0 ~ N(0, 1), x_1 ~ N(0, s²), independent: linear in x."""

    def velocity(t, x):
        variance = (1 - t) ** 2 + (t * s) ** 2
        return x * (t * s**2 - (1 - t)) / variance

    return velocity


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(method, order):
    """The flow of Gaussian to Gaussian carries x_0 to x_0 √((1 − t)² + (t s)²)."""
    s, x0, end = 2.5, torch.tensor([[1.7]], dtype=torch.float64), 0.7
    truth = 1.7 * math.sqrt((1 - end) ** 2 + (end * s) ** 2)
    solver = Solver(method)
    errors = [
        abs(float(solver.integrate(gaussian_velocity(s), x0, end, steps)) - truth)
        for steps in ((4, 8) if method == "rk4" else (32, 64))
    ]
    # at least: midpoint's third-order term happens to vanish on this symmetric problem
    assert math.log2(errors[0] / errors[1]) > order - 0.35
    assert method != "euler" or math.log2(errors[0] / errors[1]) < 1.35


@pytest.mark.parametrize("method", METHODS)
def test_a_step_asks_for_as_many_velocities_as_the_method_has_stages(method):
    asked = []

    def velocity(t, x):
        asked.append(float(t))
        return torch.full_like(x, 3.0)

    solver, x = Solver(method, 5), torch.zeros(4, 2)
    assert torch.allclose(solver.integrate(velocity, x, 0.8, solver.steps), torch.full((4, 2), 2.4))
    assert len(asked) == solver.steps * solver.order
    assert min(asked) == 0.0 and max(asked) <= 0.8 + 1e-6
    assert solver.integrate(velocity, x, 0.0, 0) is x


def test_unknown_methods_name_the_known_ones():
    with pytest.raises(ValueError, match=r"solver: expected one of euler, midpoint, heun, rk4, got 'hein'"):
        Solver("hein")
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        Solver(steps=0)
