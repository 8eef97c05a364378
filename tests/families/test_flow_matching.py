"""Flow matching against closed forms."""

import itertools

import pytest
import torch
from torch import nn

from families.toys import train
from genfam.families.base import Optimisation
from genfam.families.coupling import OptimalTransport
from genfam.families.flow_matching import FlowMatching
from genfam.families.paths import PREDICTIONS, LogitNormal
from genfam.families.solvers import METHODS, Solver
from genfam.networks.perceptron import Perceptron
from genfam.seeds import derived_generator, normal_like, uniform
from genfam.types import Batch, Event
from stand_ins import look_at

POINT = Event((2,))


def make(event: Event = POINT, **options) -> FlowMatching:
    torch.manual_seed(0)
    options = {"optimisation": Optimisation(ema=0.0), "batch_size": 64} | options
    return FlowMatching(event, 5000, Perceptron(depth=2), **options)


class Linear(nn.Module):
    """What an optimal network predicts where the data are N(0, s²), independent of the noise: linear in x."""

    def __init__(self, s: float, prediction: str = "velocity") -> None:
        super().__init__()
        self.s, self.prediction = s, prediction

    def forward(self, x, t, condition=None):
        t = t[:, None]
        variance = (1 - t) ** 2 + (t * self.s) ** 2
        data, noise = t * self.s**2 * x / variance, (1 - t) * x / variance  # regressions of x_1 and x_0 on x_t
        return {"velocity": data - noise, "data": data, "noise": noise}[self.prediction]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_squared_error_of_what_is_predicted(prediction):
    family, x1 = make(prediction=prediction), torch.randn(64, 2, generator=derived_generator(0, "x"))
    for parameter in family.model.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.manual_seed(3)
    loss = family.loss(Batch(x1), "model")
    torch.manual_seed(3)
    x0, t = normal_like(x1), uniform((64,), x1.device)
    output = family.model((1 - t[:, None]) * x0 + t[:, None] * x1, t)
    wanted = {"velocity": x1 - x0, "data": x1, "noise": x0}[prediction]
    assert torch.allclose(loss, (output - wanted).square().mean())


def test_the_network_learns_at_the_times_and_pairs_that_were_chosen():
    family = make(times=LogitNormal(3.0, 0.1), coupling=OptimalTransport())
    seen = []
    family.model.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    x1 = torch.randn(64, 2, generator=derived_generator(0, "x"))
    torch.manual_seed(0)
    family.loss(Batch(x1), "model")
    x, t, condition = seen
    assert condition is None
    assert float((torch.logit(t) - 3.0).abs().max()) < 0.5  # five standard deviations
    torch.manual_seed(0)
    x0 = OptimalTransport()(normal_like(x1), x1)
    assert torch.allclose(x, (1 - t[:, None]) * x0 + t[:, None] * x1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_steps_and_solver_are_chosen_after_training(prediction):
    """This flow ends at 0.3 x_0; twice the steps of a method of order p leave 2^-p of the error."""
    family = make(solver=Solver("euler", 7), prediction=prediction).eval()
    assert family.sampling == {"solver": "euler", "steps": 7, "guidance": 1.0}
    family.model = Linear(0.3, prediction)
    x0 = torch.randn(1000, 2, generator=derived_generator(0, "x0"))
    errors = {}
    for solver, steps in (("euler", 10), ("euler", 20), ("heun", 10), ("heun", 20), ("rk4", 200)):
        family.choose_sampling(solver=solver, steps=steps)
        errors[solver, steps] = float((family.transport(x0) - 0.3 * x0).abs().mean())
    assert errors["euler", 10] / errors["euler", 20] == pytest.approx(2.0, rel=0.25)
    if prediction == "velocity":
        assert errors["heun", 10] / errors["heun", 20] == pytest.approx(4.0, rel=0.35)
    # a last step to the mean of the data, or a noise that is divided by 0.05 and not by t, is not the flow itself
    assert errors["rk4", 200] < (1e-5 if prediction == "velocity" else 0.01)
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        family.choose_sampling(steps=0)
    with pytest.raises(ValueError, match=r"solver: expected one of euler, midpoint, heun, rk4, got 'dopri5'"):
        family.choose_sampling(solver="dopri5")


def test_a_prediction_of_the_data_leaves_no_noise():
    """p_data is one point, which the network knows: every path ends there. (Heun's corrector at t = 1 would not.)"""
    family, point = make(prediction="data").eval(), torch.tensor([3.0, -1.0])
    family.model.forward = lambda x, t, condition: point.expand(len(x), 2)
    for method, steps in itertools.product(METHODS, (1, 10, 50)):
        family.choose_sampling(solver=method, steps=steps)
        assert torch.equal(family.transport(torch.randn(100, 2)), point.expand(100, 2))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_evaluation_count_is_what_the_network_saw(prediction):
    family, calls = make(prediction=prediction).eval(), []
    family.model.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    for method, steps in itertools.product(METHODS, (1, 7, 25)):
        family.choose_sampling(solver=method, steps=steps)
        calls.clear()
        family.sample(4, generator=derived_generator(0, "calls"))
        assert len(calls) == family.evaluations_per_sample > 0


@pytest.mark.parametrize(("prediction", "exact_up_to"), [("velocity", 8), ("velocity", 0), ("noise", 8), ("data", 8)])
def test_likelihood_of_the_exact_flow_is_the_gaussian_density(prediction, exact_up_to, monkeypatch):
    """With Hutchinson too: the Jacobian is a multiple of the identity, so one Rademacher probe is exact."""
    monkeypatch.setattr("genfam.families.flow_density.EXACT_UP_TO", exact_up_to)
    s = 0.4
    family = make(prediction=prediction).eval()
    family.model = Linear(s, prediction)
    x = torch.tensor([[0.3, -0.2], [0.0, 0.0], [0.8, 0.5]])
    truth = torch.distributions.Normal(0.0, s).log_prob(x).sum(dim=1)
    # 5 % of the path at its end with the data, or at its start with the noise, have a bounded velocity
    assert torch.allclose(family.log_prob(x), truth, atol=5e-3 if prediction == "velocity" else 0.1)


def test_likelihood_is_in_the_sources_own_units():
    family = make().eval()
    family.model = Linear(1.0)
    x = torch.tensor([[3.0, -4.0], [1.0, 2.0]])
    family.codec.mean.copy_(torch.tensor([1.0, -1.0]))
    family.codec.scale.fill_(5.0)
    truth = torch.distributions.Normal(torch.tensor([1.0, -1.0]), 5.0).log_prob(x).sum(dim=1)
    assert torch.allclose(family.log_prob(x), truth, atol=5e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_learns_a_shifted_gaussian(prediction):
    """p_data = N((1.5, −0.5), 0.25²): mean and spread of samples after a short training."""
    family = make(prediction=prediction, optimisation=Optimisation(learning_rate=3e-3), batch_size=256)
    g = derived_generator(0, "data")
    x = torch.tensor([1.5, -0.5]) + 0.25 * torch.randn(20_000, 2, generator=g)
    train(family, x, 500)
    samples = family.sample(4000, generator=derived_generator(0, "samples"))
    assert torch.allclose(samples.mean(dim=0), torch.tensor([1.5, -0.5]), atol=0.06)
    assert torch.allclose(samples.std(dim=0), torch.tensor([0.25, 0.25]), atol=0.06)


def test_unknown_predictions_name_the_known_ones():
    with pytest.raises(ValueError, match=r"prediction: expected one of \['velocity', 'data', 'noise'\], got 'score'"):
        make(prediction="score")


@pytest.mark.parametrize("prediction", ["velocity", "data"])
@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_looking_on_changes_no_step(prediction: str, solver: str, steps: int) -> None:
    """Times within a step are shown by a shorter one; the samples stay what they are unseen, up to rounding."""
    family = make(prediction=prediction, solver=Solver(solver, steps)).eval()
    look_at(family, torch.randn(100, 2))
    for parameter in family.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    times = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]
    states = family.snapshots(6, times, derived_generator(0, "draw"))
    drawn = family.sample(6, generator=derived_generator(0, "draw"))
    torch.testing.assert_close(states[-1], drawn.to(states.dtype), rtol=1e-4, atol=1e-4)
    if steps == 1 and (solver == "euler" or prediction == "data"):  # one straight line from the noise to the sample
        for time, state in zip(times, states, strict=True):
            torch.testing.assert_close(state, torch.lerp(states[0], states[-1], time), rtol=1e-4, atol=1e-4)
