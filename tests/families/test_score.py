"""Score matching: the preconditioned network, its score, four samplers, and the flow's density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from families.closed_forms import PLANE, TWO, Mixture, OfScore
from families.toys import train
from genfam.families.base import Optimisation
from genfam.families.schedules import NoiseScales
from genfam.families.score import SOLVERS, UPDATES, Score
from genfam.networks.perceptron import Perceptron
from genfam.seeds import derived_generator, normal_like
from genfam.types import Batch, Event
from stand_ins import look_at

LINE, POINT, EDM = Event((1,)), Event((2,)), NoiseScales()
NORMAL = Mixture([1.0], [[0.0]], [0.4])


def make(event: Event = LINE, **options: Any) -> Score:
    torch.manual_seed(0)
    options = {"optimisation": Optimisation(ema=0.0), "batch_size": 64, "scales": EDM} | options
    return Score(event, 5000, Perceptron(depth=2), **options).eval()


def exact(truth: Mixture = TWO, event: Event = LINE, **options: Any) -> Score:
    family = make(event, **options)
    family.model = OfScore(truth, family)
    return family


def test_the_loss_is_edms() -> None:
    """Equations 7 and 8 as they are written: λ(σ) ‖D(x + σ ε; σ) − x‖² with λ = 1 / c_out²."""
    family, x = make(POINT), torch.randn(64, 2, generator=derived_generator(0, "x"))
    family.spread.fill_(0.7)
    for parameter in family.model.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.manual_seed(3)
    loss = family.loss(Batch(x), "model")
    torch.manual_seed(3)
    noise = normal_like(x)
    sigma = EDM.draw(64, x.device)[:, None]
    norm = (sigma**2 + 0.7**2).sqrt()
    c_skip, c_out, c_in = 0.7**2 / norm**2, sigma * 0.7 / norm, 1 / norm
    seen = x + sigma * noise
    time = (sigma[:, 0].log() - math.log(0.002)) / math.log(80 / 0.002)
    denoised = c_skip * seen + c_out * family.model(c_in * seen, time)
    assert torch.allclose(loss, ((denoised - x) / c_out).square().mean(), rtol=1e-4)


def test_the_datas_spread_is_found_and_kept_with_the_weights() -> None:
    family, x = make(Event((4,), 256)), torch.full((100, 4), 255, dtype=torch.uint8)
    look_at(family, x)
    assert float(family.spread) == pytest.approx(1.0, abs=0.01)  # levels at the end of [−1, 1]
    assert "spread" in family.state_dict() and "spread" not in family.of_training_only
    points = make(POINT)
    look_at(points, 30.0 + 7.0 * torch.randn(1000, 2, generator=derived_generator(0, "x")))
    assert float(points.spread) == pytest.approx(1.0)  # standardised


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
def test_the_score_of_an_exact_denoiser_is_the_mixtures(sigma: float) -> None:
    family = exact(PLANE, POINT).double()
    x = PLANE.sample(200, derived_generator(0, "x"))
    x = x + sigma * torch.randn(200, 2, generator=derived_generator(0, "noise"), dtype=torch.float64)
    scales = torch.full((200,), sigma, dtype=torch.float64)
    assert torch.allclose(family.score(x, scales), PLANE.score(x, 1.0, sigma), rtol=1e-6, atol=1e-6 / sigma)
    there = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(PLANE.log_prob(there, 1.0, sigma).sum(), there)
    assert torch.allclose(PLANE.score(x, 1.0, sigma), slope)  # and the closed form is the gradient


def test_the_learnt_score_lies_beside_the_exact_one() -> None:
    """Three modes in the plane, 1,200 updates: E‖s − s*‖² / E‖s*‖² at four noise scales, over their own states.

    What the network is given by construction, its skip connection, is off by 0.19, 0.28, 0.24 and 0.05.
    """
    family = make(POINT, optimisation=Optimisation(learning_rate=5e-3, ema=0.1), batch_size=256)
    train(family, PLANE.sample(20_000, derived_generator(0, "data")).float(), 1200)
    assert float(family.spread) == pytest.approx(1.0, abs=1e-4)
    mean, scale = family.codec.mean.double(), float(family.codec.scale)
    truth = Mixture([0.3, 0.5, 0.2], ((PLANE.means - mean) / scale).tolist(), (PLANE.widths / scale).tolist())
    g = derived_generator(0, "states")
    for sigma, most in ((0.1, 0.1), (0.3, 0.05), (1.0, 0.02), (3.0, 0.005)):
        x = truth.sample(4000, g) + sigma * torch.randn(4000, 2, generator=g, dtype=torch.float64)
        with torch.no_grad():
            found = family.score(x.float(), torch.full((4000,), sigma))
        wanted = truth.score(x, 1.0, sigma)
        assert float((found - wanted).square().mean() / wanted.square().mean()) < most, sigma


def drawn(solver: str, steps: int, n: int = 4000) -> Tensor:
    family = exact(solver=solver, steps=steps)
    return family.sample(n, generator=derived_generator(0, solver))[:, 0].double()


def test_sde_and_ode_agree_in_distribution() -> None:
    """With the exact score of two modes: each other and the truth, 4,000 draws; false alarms below 1 % in all."""
    ode, sde = drawn("heun", 40), drawn("reverse_sde", 400)
    sure = TWO.sample(4000, derived_generator(0, "truth"))[:, 0]
    pairs = (ode, sde), (ode, sure), (sde, sure), (drawn("euler", 400), sure)
    assert min(stats.ks_2samp(a.numpy(), b.numpy()).pvalue for a, b in pairs) > 2.5e-3
    assert not torch.allclose(ode, sde, atol=0.1)
    assert stats.ks_2samp(drawn("euler", 6).numpy(), sure.numpy()).pvalue < 1e-6  # too few steps are noticed


def test_langevin_dynamics_find_both_modes_with_a_bias_of_their_own() -> None:
    """Annealed Langevin dynamics are exact for no finite step: masses within 0.04, modes up to a fifth too wide."""
    x = drawn("langevin", 100)
    right = x > 0
    assert float(right.double().mean()) == pytest.approx(0.7, abs=0.04)
    for own, mean, width in ((x[right], 0.8, 0.1), (x[~right], -1.0, 0.2)):
        assert float(own.mean()) == pytest.approx(mean, abs=0.02)
        assert 0.98 * width < float(own.std()) < 1.2 * width


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_halving_the_steps_divides_the_error_by_two_to_the_order(solver: str, order: int) -> None:
    """The flow of N(0, s²) + noise carries x to x √(s² + σ²) / √(s² + σ_max²); float64, until next to the data."""
    family = exact(NORMAL, solver=solver).double()
    noise, errors = torch.full((1, 1), 1.3, dtype=torch.float64), []
    for steps in (24, 48):
        family.choose_sampling(steps=steps)
        *_, (t, x), _ = family.walk(noise, family.predictor(None), derived_generator(0, "unused"))
        sigma = (1 - t) / t
        assert sigma == pytest.approx(EDM.smallest)
        truth = 1.3 * 80.0 * math.sqrt((0.16 + sigma**2) / (0.16 + 80.0**2))
        errors.append(abs(float(x / t) - truth))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_likelihood_of_the_exact_flow_is_the_density() -> None:
    """Of a normal, in the source's own units: 1/80 of the path, next to the noise, is asked of the largest scale."""
    family = exact(NORMAL)
    family.codec.mean.fill_(1.0)
    family.codec.scale.fill_(5.0)
    x = torch.tensor([[1.0], [2.5], [-3.0]])
    truth = torch.distributions.Normal(1.0, 2.0).log_prob(x[:, 0])
    assert torch.allclose(family.log_prob(x), truth, atol=0.02)


def test_evaluation_count_is_what_the_network_saw() -> None:
    family, calls = make(), []
    family.model.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    for solver in SOLVERS:
        for steps in (1, 7):
            family.choose_sampling(solver=solver, steps=steps)
            calls.clear()
            family.sample(4, generator=derived_generator(0, "calls"))
            wanted = {"heun": 2 * steps - 1, "langevin": UPDATES * steps + 1}.get(solver, steps)
            assert len(calls) == family.evaluations_per_sample == wanted
    with pytest.raises(ValueError, match="solver: expected one of heun, euler, reverse_sde, langevin, got 'ddim'"):
        family.choose_sampling(solver="ddim")
