"""Flow matching against closed forms."""

import math

import pytest
import torch
from torchdiffeq import odeint

from genfam.families.base import Optimisation, Sampling
from genfam.families.coupling import couple
from genfam.families.divergence import exact_divergence, hutchinson_divergence
from genfam.families.flow_matching import (
    SOLVERS,
    FlowMatching,
    path,
    velocity_from,
)
from genfam.seeds import derived_generator
from genfam.types import Event

POINT = Event((2,))


def make(**options) -> FlowMatching:
    torch.manual_seed(0)
    options = {"optimisation": Optimisation(ema=0.0), "batch_size": 64, "parameters": 5000} | options
    return FlowMatching(POINT, **options)


def gaussian_velocity(s: float):
    """Marginal velocity of x_t = (1 − t) x_0 + t x_1 with x_0 ~ N(0, 1), x_1 ~ N(0, s²), independent: linear in x."""

    def velocity(t, x):
        variance = (1 - t) ** 2 + (t * s) ** 2
        return x * (t * s**2 - (1 - t)) / variance

    return velocity


def test_conversions_agree_with_the_path():
    g = derived_generator(0, "conversions")
    x0, x1 = torch.randn(50, 2, generator=g).double(), torch.randn(50, 2, generator=g).double()
    t = torch.linspace(0.06, 0.94, 50, dtype=torch.float64)
    x = path(x0, x1, t)
    for prediction, output in (("velocity", x1 - x0), ("data", x1), ("noise", x0)):
        assert torch.allclose(velocity_from(prediction, output, x, t), x1 - x0, atol=1e-12)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_solvers_have_their_order_of_convergence(solver, order):
    """The flow of Gaussian to Gaussian carries x_0 to x_0 √((1 − t)² + (t s)²).

    Halving the step divides the error by 2^order."""
    s, x0 = 2.5, torch.tensor([[1.7]], dtype=torch.float64)
    errors = []
    for steps in (32, 64):
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        end = odeint(gaussian_velocity(s), x0, 0.7 * times, method=SOLVERS[solver][0])[-1]
        truth = 1.7 * math.sqrt(0.3**2 + (0.7 * s) ** 2)
        errors.append(abs(float(end) - truth))
    # at least: midpoint's third-order term happens to vanish on this symmetric problem
    assert math.log2(errors[0] / errors[1]) > order - 0.35
    assert solver != "euler" or math.log2(errors[0] / errors[1]) < 1.35


def test_steps_are_chosen_after_training(monkeypatch):
    family = make(solver="euler", steps=7)
    x0 = torch.randn(1000, 2, generator=derived_generator(0, "x0"))
    constant = torch.tensor([3.0, -1.0])
    monkeypatch.setattr(family, "velocity", lambda t, x, guidance: constant.expand(len(x), 2))
    for steps in (1, 7, 40):  # a straight path needs one
        family.choose_sampling(steps)
        assert family.sampling == Sampling("euler", steps) and family.evaluations_per_sample == steps
        assert torch.allclose(family.transport(x0), x0 + constant, atol=1e-5)
    exact = gaussian_velocity(0.3)
    monkeypatch.setattr(family, "velocity", lambda t, x, guidance: exact(t, x))  # this flow ends at 0.3 x_0
    errors = {}
    for solver, steps in (("euler", 8), ("euler", 16), ("heun", 8), ("heun", 16)):
        family.choose_sampling(steps, solver)
        errors[solver, steps] = float((family.transport(x0) - 0.3 * x0).abs().mean())
    assert errors["euler", 8] / errors["euler", 16] == pytest.approx(2.0, rel=0.25)
    assert errors["heun", 8] / errors["heun", 16] == pytest.approx(4.0, rel=0.35)
    with pytest.raises(ValueError, match=r"steps: expected at least 1, got 0"):
        family.choose_sampling(0)
    with pytest.raises(ValueError, match=r"expected one .* euler, midpoint, heun, rk4, got 'dopri5', which chooses"):
        family.choose_sampling(5, "dopri5")
    assert make(solver="dopri5").sampling == Sampling("dopri5", None)


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("solver", [*SOLVERS, "dopri5"])
def test_a_prediction_of_the_data_leaves_no_noise(solver, steps):
    """p_data is one point, which the network knows: every path ends there. (Heun's corrector at t = 1 would not.)"""
    family = make(prediction="data", solver=solver, steps=steps)
    point = torch.tensor([3.0, -1.0])
    family.eval()
    family.model.forward = lambda x, t: point.expand(len(x), 2)
    assert torch.equal(family.transport(torch.randn(100, 2)), point.expand(100, 2))


@pytest.mark.parametrize("prediction", ["velocity", "data"])
@pytest.mark.parametrize("solver", [*SOLVERS, "dopri5"])
def test_evaluation_count_is_what_the_network_saw(solver, prediction):
    family = make(solver=solver, steps=7, prediction=prediction)
    family.eval()
    calls = 0

    def count(module, inputs):
        nonlocal calls
        calls += 1

    family.model.register_forward_pre_hook(count)
    family.sample(4, generator=derived_generator(0, "calls"))
    assert calls == family.evaluations_per_sample > 0


class Linear(torch.nn.Module):
    """The closed-form velocity as a network: the likelihood must then be the Gaussian's."""

    def __init__(self, s: float) -> None:
        super().__init__()
        self.velocity = gaussian_velocity(s)

    def forward(self, x, t):
        return self.velocity(t[:, None], x)


@pytest.mark.parametrize("exact_up_to", [8, 0])
def test_likelihood_of_the_exact_flow_is_the_gaussian_density(exact_up_to):
    """With Hutchinson too: the Jacobian is a multiple of the identity, so one Rademacher probe is exact."""
    s = 0.4
    family = make(exact_trace_up_to=exact_up_to, likelihood_steps=60)
    family.model = Linear(s)
    x = torch.tensor([[0.3, -0.2], [0.0, 0.0], [0.8, 0.5]])
    truth = torch.distributions.Normal(0.0, s).log_prob(x).sum(dim=1)
    assert torch.allclose(family.log_prob(x), truth, atol=2e-3)


def test_hutchinson_is_unbiased_for_the_divergence():
    g = derived_generator(0, "hutchinson")
    a = torch.randn(5, 5, generator=g, dtype=torch.float64)
    z = torch.randn(4000, 5, generator=g, dtype=torch.float64).requires_grad_(True)
    v = torch.tanh(z) @ a
    exact = exact_divergence(v, z)
    v = torch.tanh(z) @ a
    estimates = hutchinson_divergence(v, z, torch.randint(2, z.shape, generator=g).double() * 2 - 1)
    error = estimates - exact
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(len(error))
    jacobian_trace = (torch.diagonal(a) * (1 - torch.tanh(z[0]) ** 2)).sum()
    assert torch.allclose(exact[0], jacobian_trace)


def test_coupling_is_the_cheapest_permutation():
    from scipy.optimize import linear_sum_assignment

    g = derived_generator(0, "coupling")
    x0, x1 = torch.randn(32, 3, generator=g), torch.randn(32, 3, generator=g)
    paired = couple(x0, x1)
    assert torch.equal(paired.sort(dim=0).values, x0.sort(dim=0).values)
    cost = torch.cdist(x1, x0).square()
    rows, columns = linear_sum_assignment(cost.numpy())
    assert float((x1 - paired).square().sum()) == pytest.approx(float(cost[rows, columns].sum()), rel=1e-5)


@pytest.mark.parametrize("prediction", ["velocity", "data", "noise"])
def test_learns_a_shifted_gaussian(prediction):
    """p_data = N((3, −1), 0.5²): mean and spread of samples after a short training."""
    family = make(prediction=prediction, optimisation=Optimisation(learning_rate=3e-3, ema=0.0), batch_size=256)
    family.total_updates = 1200
    optimisers = family.configure_optimizers()
    g = derived_generator(0, "data")
    for _ in range(1200):
        x = torch.tensor([3.0, -1.0]) / 2 + 0.25 * torch.randn(256, 2, generator=g)
        family.update(x, optimisers, lambda loss: loss.backward())
    family.eval()
    samples = family.sample(4000, generator=derived_generator(0, "samples"))
    assert torch.allclose(samples.mean(dim=0), torch.tensor([1.5, -0.5]), atol=0.06)
    assert torch.allclose(samples.std(dim=0), torch.tensor([0.25, 0.25]), atol=0.06)


def test_unknown_options_name_the_known_ones():
    with pytest.raises(ValueError, match=r"solver: expected one of .*heun.*got 'hein'"):
        make(solver="hein")


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (0.7, 1.3)])
def test_logit_normal_times_have_their_mean_and_spread(mean, spread):
    family = make(times="logit_normal", times_mean=mean, times_spread=spread)
    seen = []

    def spy(x, t):
        seen.append(t)
        return torch.zeros_like(x)

    family.model.forward = spy
    torch.manual_seed(0)
    family.loss(torch.zeros(20_000, *family.event.shape), "model")
    logits = torch.logit(seen[0].double())
    # 20,000 draws: standard errors spread / 141 and spread / 200, four of them
    assert float(logits.mean()) == pytest.approx(mean, abs=4 * spread / 141)
    assert float(logits.std()) == pytest.approx(spread, abs=4 * spread / 200)


def test_the_error_of_a_velocity_weighs_late_times_more() -> None:
    """From v = (x_1 − x_t) / (1 − t): an error of the data counts 1 / (1 − t)², at most 400 times."""
    losses = {}
    for loss_in in ("prediction", "velocity"):
        torch.manual_seed(0)
        family = FlowMatching(
            Event((2,)), 2000, Optimisation(ema=0.0), batch_size=1, depth=1, prediction="data", loss_in=loss_in
        )
        for seed in range(20):
            torch.manual_seed(seed)
            losses[loss_in, seed] = float(family.loss(torch.ones(1, 2), "model").detach())
    for seed in range(20):
        torch.manual_seed(seed)
        torch.randn(1, 2)
        t = float(torch.rand(1))
        ratio = losses["velocity", seed] / losses["prediction", seed]
        assert ratio == pytest.approx(1 / max(1 - t, 0.05) ** 2, rel=1e-3)
    with pytest.raises(ValueError, match=r"loss_in: expected one of \['prediction', 'velocity'\], got 'noise'"):
        FlowMatching(Event((2,)), 2000, Optimisation(), batch_size=1, loss_in="noise")
